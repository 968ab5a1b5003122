"""Voice activity detection on streamed sound, and windows of speech cut in the pauses.

The detector is Silero VAD v6 (https://github.com/snakers4/silero-vad), as shipped inside the
faster-whisper wheel and run by onnxruntime.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from lab2_whisper.schema import SAMPLE_RATE, WINDOW_SECONDS

# Since 1.29, onnxruntime on Linux reports its use to Microsoft over the network, unless this is set
# before it is first imported (microsoft/onnxruntime pull request 27379). faster-whisper 1.2.1
# imports it only when the detector is loaded, so this line comes first.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

CHUNK_SAMPLES = 512  # what Silero VAD classifies in one step: 32 ms
CONTEXT_SAMPLES = 64  # the samples before a chunk, which are part of its input
CHUNK_SECONDS = CHUNK_SAMPLES / SAMPLE_RATE

SPEECH_THRESHOLD = 0.5  # speech begins at this probability
SILENCE_THRESHOLD = 0.35  # and ends below this one
SPEECH_PAD_CHUNKS = round(0.2 / CHUNK_SECONDS)  # kept around speech: soft beginnings and endings
MIN_SPEECH_CHUNKS = 3  # about 0.1 s; a window with less speech is dropped
MAX_PAUSE_SECONDS = 2.0  # a longer pause ends a window


@dataclass(frozen=True)
class Window:
    """A stretch of a recording with speech in it.

    `samples` are 16 kHz mono float32, shape (samples,), and begin `start` seconds into the
    recording. `speech` is bool, shape (chunks,): whether there is speech in each 32 ms of them.
    """

    start: float
    samples: np.ndarray
    speech: np.ndarray

    @property
    def end(self) -> float:
        """The end of the window, in seconds of the recording."""
        return self.start + len(self.samples) / SAMPLE_RATE

    @property
    def spoken(self) -> tuple[float, float]:
        """The first and the last moment of speech, in seconds of the recording."""
        where = np.flatnonzero(self.speech)
        first, last = int(where[0]), int(where[-1]) + 1
        return self.start + first * CHUNK_SECONDS, self.start + last * CHUNK_SECONDS

    def halves(self) -> list[Window]:
        """Return the window cut in two in the longest pause near its middle.

        A half without speech is left out.
        """
        length = len(self.speech)
        cut = _best_cut(self.speech, length // 4, length * 3 // 4)
        parts = (self._part(0, cut), self._part(cut, length))
        return [part for part in parts if part.speech.any()]

    def _part(self, first: int, end: int) -> Window:
        return Window(
            self.start + first * CHUNK_SECONDS,
            self.samples[first * CHUNK_SAMPLES : end * CHUNK_SAMPLES],
            self.speech[first:end],
        )


class VoiceActivity:
    """Silero VAD for one recording that arrives in blocks: it carries its state between them."""

    def __init__(self) -> None:
        from faster_whisper.vad import get_vad_model

        self._session = get_vad_model().session  # shared by all: the session itself has no state
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT_SAMPLES, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """Return the probability of speech in each chunk, float32, shape (chunks,).

        `samples`: 16 kHz mono float32, shape (chunks * CHUNK_SAMPLES,).
        """
        if not len(samples):
            return np.zeros(0, np.float32)
        with_context = np.concatenate([self._context, samples])
        self._context = with_context[-CONTEXT_SAMPLES:].copy()
        chunks = np.lib.stride_tricks.sliding_window_view(
            with_context, CHUNK_SAMPLES + CONTEXT_SAMPLES
        )[::CHUNK_SAMPLES]
        inputs = {"input": np.ascontiguousarray(chunks), "h": self._h, "c": self._c}
        probabilities, self._h, self._c = self._session.run(None, inputs)
        return probabilities.reshape(-1)


def speech_windows(
    blocks: Iterable[np.ndarray],
    max_seconds: float = WINDOW_SECONDS,
    max_pause_seconds: float = MAX_PAUSE_SECONDS,
) -> Iterator[Window]:
    """Yield the speech of a recording in windows of at most `max_seconds`, each as soon as it ends.

    A pause longer than `max_pause_seconds` ends a window. Speech without such a pause is cut in
    the longest pause of the window's second half. `blocks` are 16 kHz mono float32, each of shape
    (samples,). Memory holds one window at a time.
    """
    max_chunks = int(max_seconds / CHUNK_SECONDS)
    max_silent_chunks = round(max_pause_seconds / CHUNK_SECONDS)
    pending: list[np.ndarray] = []  # chunks that are in no window yet
    speech: list[bool] = []  # whether there is speech in each of them
    first = 0  # the number of pending[0] in the recording

    def take(count: int) -> Window | None:
        """Remove `count` chunks and return them as a window, if they hold enough speech."""
        nonlocal first
        window = _window(first, pending[:count], speech[:count])
        del pending[:count], speech[:count]
        first += count
        return window

    speaking = False
    for chunk, probability in _classified(blocks):
        speaking = probability >= (SILENCE_THRESHOLD if speaking else SPEECH_THRESHOLD)
        pending.append(chunk)
        speech.append(speaking)
        silent = _trailing_silence(speech)
        if silent == len(speech):
            take(max(0, silent - SPEECH_PAD_CHUNKS))
        elif silent > max_silent_chunks:
            yield from _present(take(len(pending) - silent + SPEECH_PAD_CHUNKS))
        elif len(pending) >= max_chunks:
            yield from _present(take(_best_cut(speech, max_chunks // 2, max_chunks)))
    yield from _present(take(len(pending)))


def _present(window: Window | None) -> list[Window]:
    return [window] if window else []


def _classified(blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, float]]:
    """Yield chunks with their probability of speech; the last chunk is padded with silence."""
    detect, rest = VoiceActivity(), np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) // CHUNK_SAMPLES * CHUNK_SAMPLES
        chunks = rest[:whole].reshape(-1, CHUNK_SAMPLES)
        yield from zip(chunks, detect(rest[:whole]), strict=True)
        rest = rest[whole:]
    if len(rest):
        last = np.pad(rest, (0, CHUNK_SAMPLES - len(rest)))
        yield last, detect(last)[0]


def _trailing_silence(speech: list[bool]) -> int:
    """Return how many chunks at the end are silent."""
    return next((i for i, spoken in enumerate(reversed(speech)) if spoken), len(speech))


def _window(first: int, chunks: list[np.ndarray], speech: list[bool]) -> Window | None:
    """Return chunks as a window, without the silence around them; None for too little speech."""
    where = np.flatnonzero(speech)
    if len(where) < MIN_SPEECH_CHUNKS:
        return None
    start = max(0, int(where[0]) - SPEECH_PAD_CHUNKS)
    end = min(len(chunks), int(where[-1]) + 1 + SPEECH_PAD_CHUNKS)
    return Window(
        (first + start) * CHUNK_SECONDS,
        np.concatenate(chunks[start:end]),
        np.array(speech[start:end]),
    )


def _best_cut(speech: Sequence[bool] | np.ndarray, low: int, high: int) -> int:
    """Return the middle of the longest pause between chunks `low` and `high`, else `high`."""
    best, length = high, 0
    begin: int | None = None
    for i in range(low, high + 1):
        if i < high and not speech[i]:
            begin = i if begin is None else begin
        elif begin is not None:
            if i - begin >= length:  # of two equally long pauses, the later one
                best, length = (begin + i) // 2, i - begin
            begin = None
    return max(1, best)
