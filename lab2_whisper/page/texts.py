"""The words of the Whisper page, in English and Polish."""

from __future__ import annotations

PAGE_LANGUAGES = {"en": "English", "pl": "Polski"}

TEXTS = {
    "en": {
        "title": "Speech to text",
        "intro": "Text and subtitles from any recording, made on this server and kept only while "
        "this page is open.",
        "page language": "Language of the page",
        "spoken": "Language of the recording",
        "no model": "Nothing can be transcribed yet. {error}",
        "none made": "Nothing can be transcribed yet: the store has no model of the corpus “{corpus}” "
        "(WHISPER_CORPUS). Notebook 2 makes one there, `make whisper` a small one in the demo's store.",
        "loading": "Loading the model ...",
        "unexpected": "Something went wrong on this server, not with your recording. Try again, "
        "and if it happens twice, tell whoever runs this page.",
        "upload": "Upload",
        "microphone": "Microphone",
        "youtube": "YouTube",
        "files": "Recordings or videos, up to {mb} MB and {minutes} minutes each",
        "record": "Record yourself",
        "transcribe": "Transcribe",
        "no files": "Choose a file first.",
        "nothing recorded": "Record something first.",
        "recording": "Recording {number}",
        "link": "Link or id of one video, up to {minutes} minutes",
        "right": "I have the right to process this",
        "need right": "Tick “I have the right to process this” first: YouTube's terms allow no more.",
        "honest": "YouTube refuses many servers, this one perhaps too. If it does, download the "
        "sound yourself and upload it. Nothing that is fetched is kept.",
        "looking": "Asking YouTube ...",
        "too large": "“{name}” has {size:.0f} MB, and {mb} MB is the limit here. Save its sound "
        "alone, or cut it.",
        "waiting": "Place in the queue: {place}",
        "starting": "Starting ...",
        "fetching": "Fetching the sound from YouTube ...",
        "progress": "{done} of {total}",
        "progress left": "{done} of {total}, about {left} left",
        "progress open": "{done} so far",
        "stop": "Stop",
        "remove": "Remove",
        "done": "Done",
        "stopped": "Stopped",
        "stopped early": "Stopped. What was heard until then is below.",
        "failed early": "What was heard until then is below.",
        "silence": "No speech was found in this recording.",
        "shown": "Recording shown",
        "player": "{name} with subtitles",
        "no player": "Videos from YouTube are not kept: watch it there.",
        "hint": "Change text and times here, or add and remove lines: player and downloads follow. "
        "▶ plays from that line.",
        "play": "Play",
        "start": "Start",
        "end": "End",
        "text": "Text",
        "not yet": "The player and the downloads wait for this to be mended: {error}",
        "downloads": "Download as",
        "model": "Model: {name} ({engine}).",
    },
    "pl": {
        "title": "Mowa na tekst",
        "intro": "Tekst i napisy z każdego nagrania. Powstają na tym serwerze i znikają, gdy "
        "zamkniesz stronę.",
        "page language": "Język strony",
        "spoken": "Język nagrania",
        "no model": "Na razie nie ma czym zamieniać mowy na tekst. {error}",
        "none made": "Na razie nie ma czym zamieniać mowy na tekst: w składzie nie ma modelu z korpusu "
        "„{corpus}” (WHISPER_CORPUS). Tworzy go notatnik 2, a mały, w składzie pokazowym, polecenie "
        "`make whisper`.",
        "loading": "Wczytuję model ...",
        "unexpected": "Coś zawiodło po stronie serwera, nie w Twoim nagraniu. Spróbuj jeszcze raz, "
        "a jeśli to się powtórzy, powiadom osobę, która prowadzi tę stronę.",
        "upload": "Plik",
        "microphone": "Mikrofon",
        "youtube": "YouTube",
        "files": "Nagrania lub filmy, każde do {mb} MB i {minutes} min",
        "record": "Nagraj swój głos",
        "transcribe": "Zamień na tekst",
        "no files": "Najpierw wybierz plik.",
        "nothing recorded": "Najpierw coś nagraj.",
        "recording": "Nagranie {number}",
        "link": "Adres lub identyfikator jednego filmu, do {minutes} min",
        "right": "Mam prawo przetwarzać ten film",
        "need right": "Najpierw zaznacz „Mam prawo przetwarzać ten film”: na więcej nie pozwala "
        "regulamin YouTube.",
        "honest": "YouTube odmawia wielu serwerom, może i temu. Wtedy pobierz dźwięk u siebie i "
        "prześlij go jako plik. Nic, co zostanie pobrane, nie jest przechowywane.",
        "looking": "Pytam YouTube ...",
        "too large": "Plik „{name}” ma {size:.0f} MB, a limit to {mb} MB. Zapisz sam dźwięk albo "
        "podziel nagranie.",
        "waiting": "Miejsce w kolejce: {place}",
        "starting": "Zaczynam ...",
        "fetching": "Pobieram dźwięk z YouTube ...",
        "progress": "{done} z {total}",
        "progress left": "{done} z {total}, zostało około {left}",
        "progress open": "na razie {done}",
        "stop": "Zatrzymaj",
        "remove": "Usuń",
        "done": "Gotowe",
        "stopped": "Zatrzymane",
        "stopped early": "Zatrzymane. To, co usłyszano do tej chwili, jest niżej.",
        "failed early": "To, co usłyszano do tej chwili, jest niżej.",
        "silence": "W tym nagraniu nie znaleziono mowy.",
        "shown": "Pokazane nagranie",
        "player": "{name} z napisami",
        "no player": "Filmy z YouTube nie są przechowywane: obejrzyj go na miejscu.",
        "hint": "Tu można zmieniać tekst i czasy oraz dodawać i usuwać wiersze: odtwarzacz i pliki "
        "nadążą za zmianami. ▶ odtwarza od tego miejsca.",
        "play": "Odtwórz",
        "start": "Początek",
        "end": "Koniec",
        "text": "Tekst",
        "not yet": "Odtwarzacz i pliki czekają, aż to poprawisz: {error}",
        "downloads": "Pobierz jako",
        "model": "Model: {name} ({engine}).",
    },
}

# What an error is called in Polish: by its reason, its class, or the nearest class above it.
# English pages show the error's own words, and so do Polish ones for what is not here.
ERRORS = {
    "pl": {
        "CutShort": "Plik jest ucięty: zawiera mniej dźwięku, niż zapowiada.",
        "TooLong": "Nagranie jest dłuższe niż {minutes} min, a to jest tu limit. Podziel je na "
        "krótsze.",
        "Undecodable": "Tego pliku nie da się odczytać jako nagrania, albo nie ma w nim dźwięku.",
        "Empty": "Plik jest pusty (0 bajtów). Skopiuj go jeszcze raz albo wybierz inny.",
        "TooLarge": "Plik ma ponad {mb} MB, a to jest tu limit. Zapisz sam dźwięk albo podziel "
        "nagranie.",
        "UnknownLanguage": "Model nie zna tego języka. Wybierz inny język nagrania.",
        "NoSpace": "Na tym serwerze brakuje miejsca na nagrania. Spróbuj ponownie za kilka minut.",
        "Damaged": "Plik modelu jest uszkodzony albo go brakuje. Powiadom osobę, która prowadzi tę "
        "stronę.",
        "StoreError": "Składu modeli nie da się odczytać. Powiadom osobę, która prowadzi tę stronę.",
        "no link": "To nie jest adres filmu na YouTube. Wklej taki jak "
        "https://www.youtube.com/watch?v=… albo prześlij plik.",
        "playlist": "To adres listy, a na tekst zamienia się jeden film naraz. Otwórz film i wklej "
        "jego własny adres.",
        "live": "Ta transmisja jeszcze trwa. Wklej adres, gdy się skończy, albo prześlij plik.",
        "private": "Ten film jest prywatny albo tylko dla członków kanału. Poproś o nagranie i "
        "prześlij je jako plik.",
        "age": "YouTube pokazuje ten film tylko zalogowanym, którzy podali wiek. Prześlij plik.",
        "gone": "YouTube nie ma takiego filmu albo nie pokazuje go w kraju tego serwera. Sprawdź "
        "adres albo prześlij plik.",
        "too long": "Film jest dłuższy niż {minutes} min, a to jest tu limit. Prześlij jego część.",
        "too large": "Dźwięk tego filmu ma ponad {mb} MB, a to jest tu limit. Prześlij jego część.",
        "no sound": "YouTube nie daje temu serwerowi dźwięku tego filmu. Prześlij nagranie jako plik.",
        "too slow": "YouTube zbyt długo wydaje dźwięk tego filmu. Spróbuj później albo prześlij plik.",
        "no network": "Nie można stąd połączyć się z YouTube. Spróbuj później albo prześlij plik.",
        "refused": "YouTube odmawia temu serwerowi, jak wielu innym. Prześlij nagranie jako plik "
        "(ta strona na własnym komputerze zapewne zostanie wpuszczona).",
        "VideoError": "YouTube nie wydał tego filmu. Prześlij nagranie jako plik.",
        "QueueFull": "Kolejka jest pełna. Spróbuj ponownie za kilka minut.",
        "TooMany": "Masz tu już tyle nagrań, ile może mieć jedna osoba. Najpierw usuń któreś z "
        "listy.",
        "BadCue": "Każdy wiersz musi kończyć się po swoim początku, a dwa nie mogą zaczynać się "
        "naraz.",
        "BadTime": "Nie każdy czas da się odczytać. Zapisz minuty, sekundy i tysięczne jak w "
        "1:02.500.",
    },
}

# Names of the languages that come up most; the others are shown by their code.
SPOKEN = {
    "en": {
        **{"pl": "Polish", "en": "English", "de": "German", "uk": "Ukrainian", "cs": "Czech"},
        **{"fr": "French", "es": "Spanish", "it": "Italian", "pt": "Portuguese", "sv": "Swedish"},
        **{"ru": "Russian", "lt": "Lithuanian", "sk": "Slovak", "nl": "Dutch", "zh": "Chinese"},
    },
    "pl": {
        **{"pl": "polski", "en": "angielski", "de": "niemiecki", "uk": "ukraiński", "cs": "czeski"},
        **{"fr": "francuski", "es": "hiszpański", "it": "włoski", "pt": "portugalski"},
        **{"sv": "szwedzki", "ru": "rosyjski", "lt": "litewski", "sk": "słowacki"},
        **{"nl": "niderlandzki", "zh": "chiński"},
    },
}
