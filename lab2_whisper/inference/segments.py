"""The parts of a transcript: the types between the model and the subtitles."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Word:
    """One spoken word. `start` and `end` in seconds of the recording, `confidence` from 0 to 1."""

    start: float
    end: float
    text: str
    confidence: float


@dataclass(frozen=True)
class Segment:
    """A stretch of speech and its text, stripped. Times in seconds of the recording.

    `words` is empty where the model gives no word times. `confidence` from 0 to 1.
    """

    start: float
    end: float
    text: str
    words: tuple[Word, ...]
    confidence: float
