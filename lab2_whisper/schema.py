"""Names, units and limits of the Whisper lab, in one place."""

from __future__ import annotations

from pathlib import Path

from labstore import Model

LANGUAGE = "pl"  # a Common Voice locale
SAMPLE_RATE = 16_000  # samples a second, mono
WINDOW_SECONDS = 30  # the longest clip that Whisper sees at once
HOP_SAMPLES = 160  # samples between two log-mel frames: 100 frames a second
N_FFT = 400
N_MELS = 80  # 128 for large-v3

SPLITS = ("train", "validation", "test")

NANO_CORPUS = Path(__file__).parent / "nano" / "cv-corpus-nano-1.0-2026-11-23"
NANO_TOKENIZER = Path(__file__).parent / "nano" / "tokenizer"
NANO_MODEL = Path(__file__).parent / "nano" / "model"

# Beside a model's transformers weights, as training publishes them:
FOR_PAGES = "ctranslate2"  # the folder of its CTranslate2 copy
RECORD = "whisper_lab.json"  # what else serving has to know: {"short_context": true}

COLUMNS = {  # one record of a corpus, and the type of each field in Arrow
    "clip_id": "string",
    "audio": "binary",  # Ogg Opus, or the bytes of the source
    "text": "string",  # Unicode NFC
    "split": "string",  # one of SPLITS
    "speaker": "string",
    "source": "string",  # release or data set
    "locale": "string",
    "seconds": "float32",
}

DROPPED = (  # why a clip of a source is not in the corpus
    "malformed line",
    "listed twice",
    "empty text",
    "characters outside the language",
    "path outside the folder",
    "listed but absent",
    "empty file",
    "file too large",
    "undecodable audio",
    "cut short",
    "too short",
    "too long",
)

LETTERS = {  # lower case; q, v and x occur in Polish names. Other locales: any letter is let in.
    "pl": "aąbcćdeęfghijklłmnńoóprsśtuwyzźżqvx",
}


class LabError(Exception):
    """Something that a person has to mend; the message says what, and what to do next."""


def model_of(corpus: str) -> Model:
    """The line of models tuned for a corpus; which is best is decided on that corpus's test."""
    return Model(name=f"whisper_{corpus}", metric="wer", direction="min")


def whisper_language(locale: str) -> str:
    """The language that Whisper's tokenizer is told for a locale: "zh" for "zh-CN"."""
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    language = locale.partition("-")[0]
    if language not in LANGUAGES:
        raise LabError(
            f"Whisper does not know the language of the locale {locale!r}. It knows "
            f"{', '.join(sorted(LANGUAGES))}: choose the nearest for the tokenizer."
        )
    return language
