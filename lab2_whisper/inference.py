"""Recordings of any length to text with times.

    transcriber = load("models/whisper_small_pl")             # a folder, or a name on the Hub
    for segment in transcribe("interview.mp4", transcriber):
        print(f"{segment.start:7.1f} s  {segment.text}")
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from lab2_whisper.media import Limits, Media
from lab2_whisper.schema import LANGUAGE
from lab2_whisper.segments import Segment
from labstore import Store

Progress = Callable[[float, float | None], None]
"""Called with the seconds that are done and the seconds in all, None where nobody knows."""


@dataclass(frozen=True)
class Transcriber:
    """A loaded model. Many threads may use one."""

    name: str  # of the model, to show
    engine: str  # what runs it, to show: "CTranslate2, int8, cpu"
    languages: tuple[str, ...]  # codes such as "pl"
    short_context: bool  # hears windows as long as the speech in them
    word_times: bool


def load(model: str | Path, device: str = "auto", threads: int = 0) -> Transcriber:
    """A Whisper from a folder, or by its name on the Hugging Face Hub.

    `device` is "cpu", "cuda" or "auto"; `threads` on a CPU, 0 for as many as there are cores.
    Raises LabError for what is missing or damaged.
    """
    raise NotImplementedError


def load_from_store(
    store: Store, corpus: str, version: str = "best", device: str = "auto", threads: int = 0
) -> Transcriber:
    """The best model that was tuned on a corpus. Raises StoreError where there is none."""
    raise NotImplementedError


def transcribe(
    media: Media,
    transcriber: Transcriber,
    language: str = LANGUAGE,
    limits: Limits = Limits(),
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Iterator[Segment]:
    """The segments of a recording, each as soon as it is ready; silence gives none.

    Once `stop` is set, no further window of at most 30 s is begun, and the iterator ends.
    Raises LabError in one sentence for a file that cannot be heard; segments that came before are
    good.
    """
    raise NotImplementedError
