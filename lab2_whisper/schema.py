"""Names, units and limits of the Whisper lab, in one place."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Literal

from labstore import Model

LANGUAGE = "pl"  # a Common Voice locale
SAMPLE_RATE = 16_000  # Hz, mono
WINDOW_SECONDS = 30  # the length of Whisper's input window
HOP_SAMPLES = 160  # between two log-mel frames: 100 frames a second
N_FFT = 400  # samples
N_MELS = 80  # 128 for large-v3

SPLITS = ("train", "validation", "test")

NANO_CORPUS = Path(__file__).parent / "nano" / "cv-corpus-nano-1.0-2026-11-23"
NANO_TOKENIZER = Path(__file__).parent / "nano" / "tokenizer"
NANO_MODEL = Path(__file__).parent / "nano" / "model"

# What training publishes in a model's folder beside its transformers weights:
CT2_FOLDER = "ctranslate2"  # a folder: the model converted to CTranslate2
RECORD = "whisper_lab.json"  # what inference needs to know besides: {"short_context": true}

COLUMNS = {  # the columns of a corpus and their Arrow types
    "clip_id": "string",
    "audio": "binary",  # Ogg Opus, or the source's own bytes
    "text": "string",  # Unicode NFC
    "split": "string",  # one of SPLITS
    "speaker": "string",
    "source": "string",  # name of the release or data set
    "locale": "string",
    "seconds": "float32",
}

DropReason = Literal[  # why a clip of a source is not in the corpus
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
]

LETTERS = {  # lower case; q, v and x occur in Polish names. Other locales: any letter is accepted.
    "pl": "aąbcćdeęfghijklłmnńoóprsśtuwyzźżqvx",
}


MAX_TOKENS_PER_SECOND = 25  # nobody speaks faster, even in a vocabulary of single letters
SPARE_TOKENS = 20  # for a short window with a long word


class LabError(Exception):
    """A problem that the user can fix; the message states what is wrong and what to do next."""


def max_text_tokens(seconds: float) -> int:
    """Return the most tokens that so many seconds of speech need; a model that loops exceeds it."""
    return SPARE_TOKENS + math.ceil(MAX_TOKENS_PER_SECOND * seconds)


def model_of(corpus: str) -> Model:
    """Return the store's model for a corpus; its best version has the lowest test WER there."""
    return Model(name=f"whisper_{corpus}", metric="wer", direction="min")


def whisper_language(locale: str) -> str:
    """Return Whisper's code for the language of a locale: "zh" for "zh-CN".

    Raises LabError for a language that Whisper does not know.
    """
    from transformers.models.whisper.tokenization_whisper import LANGUAGES

    language = locale.partition("-")[0]
    if language not in LANGUAGES:
        raise LabError(
            f"Whisper does not know the language of the locale {locale!r}. It knows "
            f"{', '.join(sorted(LANGUAGES))}: choose the closest of them for the tokenizer."
        )
    return language
