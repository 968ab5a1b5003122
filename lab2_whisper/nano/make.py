"""Make the nano corpus and the nano tokenizer: python -m lab2_whisper.nano.make

The corpus has the layout of a Common Voice release. Its sentences are the project's own; its
voices are espeak-ng's (Debian package espeak-ng), each with its own pitch; its sound is MP3 of few
bits. No sentence and no voice of test or validation occurs in train, but every word does.
"""

from __future__ import annotations

import hashlib
import io
import itertools
import random
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from lab2_whisper.audio import decode, encode
from lab2_whisper.schema import NANO_CORPUS, NANO_TOKENIZER, SAMPLE_RATE, LabError

SEED = 20261123
MP3_BITRATE = 24_000  # bit/s

# espeak-ng's names of voices, and a pitch (0 to 99) for each. Nano's own training uses others.
VOICES = {
    "train": {"f1": 50, "f2": 55, "f3": 45, "f4": 50, "Alicia": 50, "Andrea": 45, "linda": 55}
    | {"belinda": 50, "steph": 45, "anika": 50},
    "validation": {"Annie": 50, "steph2": 55},
    "test": {"f5": 50, "steph3": 50, "aunty": 45},
}
CLIPS = {"train": 300, "validation": 40, "test": 100}
FILES = {"train": "train.tsv", "validation": "dev.tsv", "test": "test.tsv"}

FIRST_SPECIAL = 50_257  # the id of <|endoftext|> in every multilingual Whisper

# fmt: off
UNITS = ["zero", "jeden", "dwa", "trzy", "cztery", "pięć", "sześć", "siedem", "osiem", "dziewięć"]
TEENS = [
    "dziesięć", "jedenaście", "dwanaście", "trzynaście", "czternaście", "piętnaście",
    "szesnaście", "siedemnaście", "osiemnaście", "dziewiętnaście",
]
TENS = [
    "dwadzieścia", "trzydzieści", "czterdzieści", "pięćdziesiąt", "sześćdziesiąt",
    "siedemdziesiąt", "osiemdziesiąt", "dziewięćdziesiąt",
]
HUNDREDS = ["sto", "dwieście", "trzysta", "czterysta"]
HOURS = [
    "pierwsza", "druga", "trzecia", "czwarta", "piąta", "szósta", "siódma", "ósma", "dziewiąta",
    "dziesiąta", "jedenasta", "dwunasta",
]
DAYS = [
    "pierwszego", "drugiego", "trzeciego", "czwartego", "piątego", "szóstego", "siódmego",
    "ósmego", "dziewiątego", "dziesiątego",
]
MONTHS = [
    "stycznia", "lutego", "marca", "kwietnia", "maja", "czerwca", "lipca", "sierpnia",
    "września", "października", "listopada", "grudnia",
]
THINGS = ["światło", "radio", "muzykę", "telewizor"]
ROOMS = ["w kuchni", "w salonie", "w łazience"]
FOOD = ["mleko", "chleb", "masło", "ser", "kawę", "herbatę", "wodę"]
TIMES = ["jutro", "dzisiaj", "w piątek", "w sobotę"]

COLUMNS = [
    "client_id", "path", "sentence_id", "sentence", "sentence_domain", "up_votes", "down_votes",
    "age", "gender", "accents", "variant", "locale", "segment",
]
# fmt: on


def number(rng: random.Random, below: int = 500) -> str:
    """A number from 0 to `below` in words."""
    value = rng.randrange(below) if rng.random() < 0.5 else rng.randrange(min(below, 100))
    words, rest = [], value % 100
    if value >= 100:
        words.append(HUNDREDS[value // 100 - 1])
    if 10 <= rest < 20:
        words.append(TEENS[rest - 10])
    elif rest or not words:
        words += [TENS[rest // 10 - 2]] if rest >= 20 else []
        words += [UNITS[rest % 10]] if rest % 10 or not words else []
    return " ".join(words)


def sentence(rng: random.Random) -> str:
    """A Polish number, date, time or everyday request, two to seven words."""
    pick = rng.choice
    kinds = [
        lambda: f"Numer {number(rng)}.",
        lambda: f"{number(rng)} i {number(rng, 100)}.",
        lambda: f"Kod {number(rng)}.",
        lambda: f"Pokój {number(rng)}.",
        lambda: f"Dziś jest {pick(DAYS)} {pick(MONTHS)}.",
        lambda: f"Spotkanie {pick(DAYS)} {pick(MONTHS)}.",
        lambda: f"Jest godzina {pick(HOURS)} {pick(TENS[:4])}.",
        lambda: f"Godzina {pick(HOURS)} {pick(TEENS)}.",
        lambda: f"{pick(['Włącz', 'Wyłącz'])} {pick(THINGS)} {pick(ROOMS)}.",
        lambda: "Poproszę " + " i ".join(rng.sample(FOOD, 2)) + ".",
        lambda: f"Kup {pick(FOOD)} {pick(TIMES)}.",
        lambda: f"Jaka pogoda będzie {pick(TIMES)}?",
    ]
    text = pick(kinds)()
    return text[0].upper() + text[1:]


def words(texts: list[str]) -> set[str]:
    return {word.strip(".?").lower() for text in texts for word in text.split()}


def plan(rng: random.Random) -> dict[str, list[str]]:
    """The sentences of each split, all different. Train has every word of the others."""
    texts: dict[str, list[str]] = {split: [] for split in CLIPS}
    taken, known = set(), set()
    for split, count in CLIPS.items():
        while len(texts[split]) < count:
            text = sentence(rng)
            if text not in taken and (split == "train" or words([text]) <= known):
                texts[split].append(text)
            taken.add(text)
        known |= words(texts["train"])
    return texts


def synthesize(text: str, voice: str, pitch: int = 50, speed: int = 160) -> np.ndarray:
    """A Polish text in one of espeak-ng's voices as 16 kHz mono float32, shape (samples,).

    `pitch` from 0 to 99, `speed` in words a minute.
    """
    command = ["espeak-ng", "-v", f"pl+{voice}", "-p", str(pitch), "-s", str(speed), "-z"]
    try:
        spoken = subprocess.run([*command, "--stdout", text], capture_output=True, check=True)
    except FileNotFoundError:
        raise LabError("espeak-ng is missing. On Debian: apt-get install espeak-ng.") from None
    return decode(io.BytesIO(spoken.stdout))


def mp3(samples: np.ndarray) -> bytes:
    """16 kHz mono float32, shape (samples,), as MP3 of few bits: what nano has to get used to."""
    return encode(samples, SAMPLE_RATE, MP3_BITRATE, container="mp3", codec="libmp3lame")


def make_corpus(folder: Path) -> None:
    """Write the release to `folder`, which is emptied first."""
    home = folder / "pl"
    shutil.rmtree(folder, ignore_errors=True)
    (home / "clips").mkdir(parents=True)
    rng = random.Random(SEED)
    texts = plan(rng)
    rows = {FILES[split]: list(_clips(rng, split, texts[split], home / "clips")) for split in texts}
    rows["validated.tsv"] = list(itertools.chain(*rows.values()))
    rows |= {"invalidated.tsv": [], "other.tsv": []}
    for name, lines in rows.items():
        text = "\n".join(["\t".join(COLUMNS), *lines]) + "\n"
        (home / name).write_text(text, encoding="utf-8", newline="\n")


def _clips(rng: random.Random, split: str, texts: list[str], folder: Path) -> Iterator[str]:
    """Write a split's clips; a line of its table for each."""
    first = {"train": 0, "validation": 1000, "test": 2000}[split]
    for i, text in enumerate(texts):
        voice, pitch = list(VOICES[split].items())[i % len(VOICES[split])]
        samples = synthesize(text, voice, pitch, speed=rng.randrange(140, 200))
        name = f"common_voice_pl_{first + i:05}.mp3"
        (folder / name).write_bytes(mp3(samples))
        fields = {
            "client_id": hashlib.sha512(voice.encode()).hexdigest(),
            "path": name,
            "sentence_id": hashlib.sha256(text.encode()).hexdigest(),
            "sentence": text,
            "up_votes": "2",
            "down_votes": "0",
            "gender": "female_feminine",
            "locale": "pl",
        }
        yield "\t".join(fields.get(column, "") for column in COLUMNS)


def make_tokenizer(folder: Path) -> None:
    """Save nano's tokenizer: 256 bytes and the Polish letters, then Whisper's special tokens.

    Those have the same ids as in Whisper, and the ids between are unused, so that whatever counts
    on Whisper's ids is right. CTranslate2 takes a vocabulary without the empty token, Whisper's
    id 50256, for an English one, and then drops the language from the prompt.
    """
    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import AddedToken, WhisperTokenizer
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    letter_pairs = [
        tuple(ByteLevel(add_prefix_space=False).pre_tokenize_str(letter)[0][0])
        for letter in "ąćęłńóśźżĄĆĘŁŃÓŚŹŻ"
    ]
    languages = [code for code in LANGUAGES if code != "yue"]  # Cantonese came with large-v3
    special = ["endoftext", "startoftranscript", *languages, "translate", "transcribe"]
    special += ["startoflm", "startofprev", "nospeech", "notimestamps"]
    special = [f"<|{name}|>" for name in special]
    pieces = [*sorted(ByteLevel.alphabet()), *map("".join, letter_pairs)]
    pieces += [f"<|unused{i}|>" for i in range(len(pieces), FIRST_SPECIAL - 1)]
    pieces += ["", *special]
    tokenizer = WhisperTokenizer(
        vocab={piece: i for i, piece in enumerate(pieces)},
        merges=letter_pairs,
        extra_special_tokens=special[1:],
        language="pl",
        task="transcribe",
    )
    stamps = [f"<|{i * 0.02:.2f}|>" for i in range(1501)]
    tokenizer.add_tokens([AddedToken(stamp, normalized=False) for stamp in stamps])
    shutil.rmtree(folder, ignore_errors=True)
    tokenizer.save_pretrained(folder)
    tokenizer.backend_tokenizer.save(str(folder / "tokenizer.json"), pretty=False)


if __name__ == "__main__":
    make_corpus(NANO_CORPUS)
    make_tokenizer(NANO_TOKENIZER)
