"""The texts of the Whisper page, in English and Polish."""

from __future__ import annotations

PAGE_LANGUAGES = {"en": "English", "pl": "Polski"}

TEXTS = {
    "en": {
        "title": "Speech to text",
        "intro": "Text and subtitles from any recording. They are made on this server and kept only "
        "while this page is open.",
        "page language": "Language of the page",
        "spoken": "Language of the recording",
        "no model": "Transcription is not available yet. {error}",
        "none made": "Transcription is not available yet: the store has no model for the corpus "
        "“{corpus}” (WHISPER_CORPUS). Run notebook 2 to train one there, or `make whisper` for a "
        "small one in the demo's store.",
        "loading": "Loading the model…",
        "unexpected": "Something went wrong on this server; your recording is not the cause. Try "
        "again, and if it happens again, contact whoever runs this page.",
        "upload": "Upload",
        "microphone": "Microphone",
        "youtube": "YouTube",
        "files": "Audio or video files, up to {mb} MB and {minutes} minutes each",
        "record": "Record yourself",
        "transcribe": "Transcribe",
        "no files": "Choose a file first.",
        "nothing recorded": "Record something first.",
        "recording": "Recording {number}",
        "link": "Link or id of one video, up to {minutes} minutes",
        "right": "I have the right to process this",
        "need right": "Tick “I have the right to process this” first: YouTube's terms forbid "
        "downloads without permission.",
        "youtube note": "YouTube blocks many servers, perhaps this one too. If it does, download the "
        "sound yourself and upload it. Nothing fetched from YouTube is kept.",
        "looking": "Looking up the video…",
        "too large": "“{name}” is {size:.0f} MB; the limit is {mb} MB. Save only its sound, or cut "
        "it into parts.",
        "waiting": "Place in the queue: {place}",
        "starting": "Starting…",
        "fetching": "Fetching the sound from YouTube…",
        "progress": "{done} of {total}",
        "progress left": "{done} of {total}, about {left} left",
        "progress open": "{done} so far",
        "stop": "Stop",
        "remove": "Remove",
        "done": "Done",
        "stopped": "Stopped",
        "stopped early": "Stopped. The text so far is below.",
        "failed early": "The text up to that point is below.",
        "silence": "No speech was found in this recording.",
        "shown": "Recording shown",
        "player": "{name} with subtitles",
        "no player": "Videos from YouTube are not kept here; watch them on YouTube.",
        "hint": "Edit text and times here, or add and remove rows; the player and the downloads "
        "follow. ▶ plays from that row.",
        "play": "Play",
        "start": "Start",
        "end": "End",
        "text": "Text",
        "not yet": "The player and the downloads will follow once this is corrected: {error}",
        "downloads": "Download as",
        "model": "Model: {name} ({engine}).",
    },
    "pl": {
        "title": "Zamiana mowy na tekst",
        "intro": "Tekst i napisy z dowolnego nagrania. Powstają na tym serwerze i są przechowywane "
        "tylko do zamknięcia tej strony.",
        "page language": "Język strony",
        "spoken": "Język nagrania",
        "no model": "Zamiana mowy na tekst nie jest jeszcze dostępna. {error}",
        "none made": "Zamiana mowy na tekst nie jest jeszcze dostępna: w magazynie nie ma modelu dla "
        "korpusu „{corpus}” (WHISPER_CORPUS). Uruchom notatnik 2, aby go wytrenować, albo polecenie "
        "`make whisper`, aby utworzyć mały model w magazynie demonstracyjnym.",
        "loading": "Wczytywanie modelu…",
        "unexpected": "Wystąpił błąd serwera, niezwiązany z Twoim nagraniem. Spróbuj ponownie, a "
        "jeśli błąd się powtórzy, powiadom osobę prowadzącą tę stronę.",
        "upload": "Plik",
        "microphone": "Mikrofon",
        "youtube": "YouTube",
        "files": "Pliki audio lub wideo, każdy do {mb} MB i {minutes} min",
        "record": "Nagraj swój głos",
        "transcribe": "Zamień na tekst",
        "no files": "Najpierw wybierz plik.",
        "nothing recorded": "Najpierw coś nagraj.",
        "recording": "Nagranie {number}",
        "link": "Link lub identyfikator jednego filmu, do {minutes} min",
        "right": "Mam prawo przetwarzać ten film",
        "need right": "Najpierw zaznacz „Mam prawo przetwarzać ten film”: regulamin YouTube zabrania "
        "pobierania bez zgody.",
        "youtube note": "YouTube blokuje wiele serwerów, być może także ten. W takim przypadku "
        "pobierz dźwięk samodzielnie i prześlij go jako plik. Pobrane filmy nie są przechowywane.",
        "looking": "Wyszukiwanie filmu…",
        "too large": "Plik „{name}” ma {size:.0f} MB, a limit wynosi {mb} MB. Zapisz sam dźwięk albo "
        "podziel nagranie.",
        "waiting": "Miejsce w kolejce: {place}",
        "starting": "Rozpoczynanie…",
        "fetching": "Pobieranie dźwięku z YouTube…",
        "progress": "{done} z {total}",
        "progress left": "{done} z {total}, pozostało około {left}",
        "progress open": "dotychczas {done}",
        "stop": "Zatrzymaj",
        "remove": "Usuń",
        "done": "Gotowe",
        "stopped": "Zatrzymano",
        "stopped early": "Zatrzymano. Poniżej znajduje się dotychczasowy tekst.",
        "failed early": "Poniżej znajduje się tekst, który powstał przed błędem.",
        "silence": "W tym nagraniu nie wykryto mowy.",
        "shown": "Wyświetlane nagranie",
        "player": "{name} z napisami",
        "no player": "Filmy z YouTube nie są tu przechowywane; obejrzyj je w serwisie YouTube.",
        "hint": "Tu możesz zmieniać tekst i czasy oraz dodawać i usuwać wiersze; zmiany obejmą też "
        "odtwarzacz i pliki do pobrania. ▶ odtwarza od danego wiersza.",
        "play": "Odtwórz",
        "start": "Początek",
        "end": "Koniec",
        "text": "Tekst",
        "not yet": "Odtwarzacz i pliki do pobrania zmienią się, gdy poprawisz ten błąd: {error}",
        "downloads": "Pobierz jako",
        "model": "Model: {name} ({engine}).",
    },
}

# The Polish message for an error: by its reason, its class or the nearest base class. English
# pages show the error's own message, and so do Polish ones for an error that is not listed.
ERRORS = {
    "pl": {
        "CutShort": "Plik jest niekompletny: zawiera mniej dźwięku, niż deklaruje.",
        "TooLong": "Nagranie przekracza limit {minutes} min. Podziel je na krótsze części.",
        "Undecodable": "Tego pliku nie można odczytać jako nagrania albo nie zawiera on dźwięku.",
        "Empty": "Plik jest pusty (0 bajtów). Skopiuj go ponownie albo wybierz inny.",
        "TooLarge": "Plik przekracza limit {mb} MB. Zapisz sam dźwięk albo podziel nagranie.",
        "UnknownLanguage": "Model nie obsługuje tego języka. Wybierz inny język nagrania.",
        "NoSpace": "Na serwerze brakuje miejsca na nagrania. Spróbuj ponownie za kilka minut.",
        "Damaged": "Plik modelu jest uszkodzony albo go brakuje. Powiadom osobę prowadzącą tę "
        "stronę.",
        "StoreError": "Nie można odczytać magazynu modeli. Powiadom osobę prowadzącą tę stronę.",
        "no link": "To nie jest link do filmu na YouTube. Wklej link w postaci "
        "https://www.youtube.com/watch?v=… albo prześlij plik.",
        "playlist": "Ten link prowadzi do playlisty, a filmy są przetwarzane pojedynczo. Otwórz film "
        "i wklej jego link.",
        "live": "Ta transmisja jeszcze trwa. Wklej link po jej zakończeniu albo prześlij plik.",
        "private": "Ten film jest prywatny albo dostępny tylko dla członków kanału. Poproś "
        "właściciela o nagranie i prześlij je jako plik.",
        "age": "YouTube pokazuje ten film tylko zalogowanym osobom, które potwierdziły wiek. Prześlij "
        "nagranie jako plik.",
        "gone": "Ten film nie istnieje albo jest niedostępny w kraju tego serwera. Sprawdź link albo "
        "prześlij plik.",
        "too long": "Film przekracza limit {minutes} min. Prześlij jego fragment.",
        "too large": "Dźwięk tego filmu przekracza limit {mb} MB. Prześlij fragment filmu.",
        "no sound": "YouTube nie udostępnia temu serwerowi dźwięku tego filmu. Prześlij nagranie "
        "jako plik.",
        "too slow": "Pobieranie z YouTube trwa zbyt długo. Spróbuj później albo prześlij plik.",
        "no network": "Nie można połączyć się z YouTube. Spróbuj później albo prześlij plik.",
        "refused": "YouTube blokuje ten serwer, podobnie jak wiele innych. Prześlij nagranie jako "
        "plik (strona uruchomiona na Twoim komputerze prawdopodobnie nie będzie blokowana).",
        "VideoError": "YouTube nie udostępnił tego filmu. Prześlij nagranie jako plik.",
        "QueueFull": "Kolejka jest pełna. Spróbuj ponownie za kilka minut.",
        "TooMany": "Masz już maksymalną liczbę nagrań. Najpierw usuń któreś z listy.",
        "BadCue": "Każdy wiersz musi kończyć się po swoim początku, a dwa wiersze nie mogą zaczynać "
        "się w tej samej chwili.",
        "BadTime": "Nie można odczytać któregoś z czasów. Zapisz go jak 1:02.500, w minutach i "
        "sekundach.",
    },
}

# The names of common languages; other languages are shown by their code.
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
