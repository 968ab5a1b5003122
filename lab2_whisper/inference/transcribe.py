"""Recordings of any length to text with times.

    transcriber = load("models/whisper_small_pl")             # a folder, or a name on the Hub
    for segment in transcribe("interview.mp4", transcriber):
        print(f"{segment.start:7.1f} s  {segment.text}")

Sound is decoded, searched for speech and heard in windows of at most 30 s as it streams by, so
the first text comes early and hours need no more memory than minutes.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace

import numpy as np

from lab2_whisper.inference.engines import Transcriber, WindowResult, load, load_from_store
from lab2_whisper.inference.media import (
    DEFAULT_LIMITS,
    Limits,
    Media,
    decode_upload,
    expected_length,
)
from lab2_whisper.inference.segments import Segment
from lab2_whisper.inference.vad import Window, speech_windows
from lab2_whisper.schema import LANGUAGE, SAMPLE_RATE, WINDOW_SECONDS

__all__ = ["Limits", "Media", "Transcriber", "load", "load_from_store", "transcribe"]

SHORT_SECONDS = 10  # windows for a model of short context: about what it was tuned on
SHORT_PAUSE = 0.6  # seconds of silence that end such a window; they cost it time, unlike others
MIN_WINDOW_SECONDS = 2.0  # windows that are not halved any further

Progress = Callable[[float, float | None], None]
"""Called with the seconds that are done and the seconds in all, None where nobody knows."""


def transcribe(
    media: Media,
    transcriber: Transcriber,
    language: str = LANGUAGE,
    *,
    limits: Limits = DEFAULT_LIMITS,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Iterator[Segment]:
    """The segments of a recording, each as soon as it is ready; silence gives none.

    Once `stop` is set no further window is begun, and the iterator ends. Raises LabError, in one
    sentence, for a file that cannot be heard or a language that the model does not know; segments
    that came before are good.
    """
    transcriber.check(language)
    stop = stop or threading.Event()
    report = _Reporter(expected_length(media, limits), on_progress)
    blocks = _until(stop, report.decoded(decode_upload(media, limits)))
    cut = (SHORT_SECONDS, SHORT_PAUSE) if transcriber.short_audio_context else ()
    for window in speech_windows(blocks, *cut):
        if stop.is_set():
            return
        yield from _segments(window, transcriber, language, stop)
        report.at(window.end)
    if not stop.is_set():
        report.finish()


def _segments(
    window: Window, transcriber: Transcriber, language: str, stop: threading.Event
) -> Iterator[Segment]:
    """What is heard in a window. One that the model comes to no end with is heard in halves,
    and not at all once they are the smallest."""
    heard = transcriber.transcribe_window(window.samples, language)
    if heard.finished and heard.text:
        yield _segment(window, heard)
    if heard.finished or window.end - window.start < MIN_WINDOW_SECONDS:
        return  # the smallest without an end is a loop, not what was said
    for half in window.halves():
        if not stop.is_set():
            yield from _segments(half, transcriber, language, stop)


def _segment(window: Window, heard: WindowResult) -> Segment:
    """Words at the recording's times, inside the speech of their window."""
    first, last = window.spoken
    inside = lambda seconds: min(max(window.start + seconds, first), last)  # noqa: E731
    words = tuple(
        replace(word, start=inside(word.start), end=inside(word.end)) for word in heard.words
    )
    if words:
        first, last = words[0].start, max(word.end for word in words)
    return Segment(first, last, heard.text, words, heard.confidence)


def _until(stop: threading.Event, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        if stop.is_set():
            return
        yield block


class _Reporter:
    """Tells how far a transcription is, once in a second of sound and never backwards."""

    def __init__(self, total: float | None, on_progress: Progress | None):
        self._total, self._tell = total, on_progress or (lambda done, total: None)
        self._done = self._decoded = 0.0
        self._tell(0.0, total)

    def decoded(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        for block in blocks:
            self._decoded += len(block) / SAMPLE_RATE
            self.at(self._decoded - WINDOW_SECONDS)  # what is older has been heard
            yield block

    def at(self, seconds: float) -> None:
        if seconds >= self._done + 1:
            self._done = seconds
            total = self._total and max(self._total, seconds)
            self._tell(seconds, total)

    def finish(self) -> None:
        self._tell(self._decoded, self._decoded)
