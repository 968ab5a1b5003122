"""Transcribe recordings of any length to text with times.

    transcriber = load("models/whisper_small_pl")             # a folder, or a name on the Hub
    for segment in transcribe("interview.mp4", transcriber):
        print(f"{segment.start:7.1f} s  {segment.text}")

Sound is streamed: decoded, searched for speech and transcribed in windows of at most 30 s. The
first text comes early, and hours need no more memory than minutes.
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
from lab2_whisper.inference.vad import MAX_PAUSE_SECONDS, Window, speech_windows
from lab2_whisper.schema import LANGUAGE, SAMPLE_RATE, WINDOW_SECONDS

__all__ = ["Limits", "Media", "Transcriber", "load", "load_from_store", "transcribe"]

# Windows for a model tuned on a short audio context. They are about as long as its training clips,
# and shorter pauses end them: unlike other models, it spends time on the silence in a window.
SHORT_WINDOW_SECONDS = 10
SHORT_PAUSE_SECONDS = 0.6
MIN_WINDOW_SECONDS = 2.0  # shorter windows are not halved any further

Progress = Callable[[float, float | None], None]
"""Called with the seconds done and the seconds in all, None while the length is unknown."""


def transcribe(
    media: Media,
    transcriber: Transcriber,
    language: str = LANGUAGE,
    *,
    limits: Limits = DEFAULT_LIMITS,
    stop: threading.Event | None = None,
    on_progress: Progress | None = None,
) -> Iterator[Segment]:
    """Yield the segments of a recording, each as soon as it is ready; none for silence.

    Once `stop` is set, no further window is started and the iterator ends. Raises LabError, in
    one sentence, for a file that cannot be decoded or a language that the model does not know;
    segments yielded before the error are valid.
    """
    transcriber.check(language)
    stop = stop or threading.Event()
    reporter = _Reporter(expected_length(media, limits), on_progress)
    blocks = _until(stop, reporter.count(decode_upload(media, limits)))
    if transcriber.short_audio_context:
        windows = speech_windows(blocks, SHORT_WINDOW_SECONDS, SHORT_PAUSE_SECONDS)
    else:
        windows = speech_windows(blocks, WINDOW_SECONDS, MAX_PAUSE_SECONDS)
    for window in windows:
        if stop.is_set():
            return
        yield from _segments(window, transcriber, language, stop)
        reporter.report(window.end)
    if not stop.is_set():
        reporter.finish()


def _segments(
    window: Window, transcriber: Transcriber, language: str, stop: threading.Event
) -> Iterator[Segment]:
    """Yield the segments of a window.

    Where the model does not finish, the window is transcribed in halves, down to
    MIN_WINDOW_SECONDS. A loop in so short a window is not a transcript, and is dropped.
    """
    result = transcriber.transcribe_window(window.samples, language)
    if result.finished and result.text:
        yield _segment(window, result)
    if result.finished or window.end - window.start < MIN_WINDOW_SECONDS:
        return
    for half in window.halves():
        if not stop.is_set():
            yield from _segments(half, transcriber, language, stop)


def _segment(window: Window, result: WindowResult) -> Segment:
    """Move a window's words to the recording's times, inside the window's speech."""
    first, last = window.spoken

    def inside(seconds: float) -> float:
        return min(max(window.start + seconds, first), last)

    words = tuple(
        replace(word, start=inside(word.start), end=inside(word.end)) for word in result.words
    )
    if words:
        start, end = words[0].start, max(word.end for word in words)
    else:
        start, end = first, last
    return Segment(start, end, result.text, words, result.confidence)


def _until(stop: threading.Event, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    for block in blocks:
        if stop.is_set():
            return
        yield block


class _Reporter:
    """Reports progress at most once per second of sound, and never backwards."""

    def __init__(self, total: float | None, on_progress: Progress | None) -> None:
        self._total, self._on_progress = total, on_progress or (lambda done, total: None)
        self._done = self._decoded = 0.0
        self._on_progress(0.0, total)

    def count(self, blocks: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
        """Pass blocks on, and report what must be done because it was decoded a window ago."""
        for block in blocks:
            self._decoded += len(block) / SAMPLE_RATE
            self.report(self._decoded - WINDOW_SECONDS)
            yield block

    def report(self, seconds: float) -> None:
        if seconds >= self._done + 1:
            self._done = seconds
            total = self._total and max(self._total, seconds)
            self._on_progress(seconds, total)

    def finish(self) -> None:
        self._on_progress(self._decoded, self._decoded)
