"""Where somebody speaks: voice activity as sound streams by, cut into windows in the pauses."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from lab2_whisper.schema import SAMPLE_RATE, WINDOW_SECONDS

CHUNK = 512  # samples that Silero VAD judges at once: 32 ms
CONTEXT = 64  # samples before them that it also sees
CHUNK_SECONDS = CHUNK / SAMPLE_RATE

SPEECH = 0.5  # a probability from which speech begins
SILENCE = 0.35  # and below which it ends
MARGIN = round(0.2 / CHUNK_SECONDS)  # chunks kept around speech: soft beginnings and endings
SHORTEST = 3  # chunks of speech that are worth hearing: about 0.1 s


@dataclass(frozen=True)
class Window:
    """A stretch of a recording with speech in it.

    `samples` are 16 kHz mono float32, shape (samples,), and begin at `start`. `speech` says, for
    each 32 ms of them, whether somebody speaks. Times in seconds of the recording.
    """

    start: float
    samples: np.ndarray
    speech: np.ndarray

    @property
    def end(self) -> float:
        return self.start + len(self.samples) / SAMPLE_RATE

    @property
    def spoken(self) -> tuple[float, float]:
        """From the first to the last moment of speech."""
        where = np.flatnonzero(self.speech)
        first, last = int(where[0]), int(where[-1]) + 1
        return self.start + first * CHUNK_SECONDS, self.start + last * CHUNK_SECONDS

    def halves(self) -> list[Window]:
        """Two windows, cut in the longest pause near the middle."""
        length = len(self.speech)
        cut = _best_cut(self.speech, length // 4, length * 3 // 4)
        parts = ((0, cut), (cut, length))
        return [part for first, end in parts if (part := self._part(first, end)).speech.any()]

    def _part(self, first: int, end: int) -> Window:
        return Window(
            self.start + first * CHUNK_SECONDS,
            self.samples[first * CHUNK : end * CHUNK],
            self.speech[first:end],
        )


class VoiceActivity:
    """Silero VAD on sound that comes in blocks: its state is carried from one to the next."""

    def __init__(self):
        from faster_whisper.vad import get_vad_model

        self._session = get_vad_model().session  # one for all: it keeps no state itself
        self._h = self._c = np.zeros((1, 1, 128), np.float32)
        self._context = np.zeros(CONTEXT, np.float32)

    def __call__(self, samples: np.ndarray) -> np.ndarray:
        """The probability of speech in each chunk of a block of whole chunks, shape (chunks,)."""
        if not len(samples):
            return np.zeros(0, np.float32)
        seen = np.concatenate([self._context, samples])
        self._context = seen[-CONTEXT:].copy()
        chunks = np.lib.stride_tricks.sliding_window_view(seen, CHUNK + CONTEXT)[::CHUNK]
        inputs = {"input": np.ascontiguousarray(chunks), "h": self._h, "c": self._c}
        probabilities, self._h, self._c = self._session.run(None, inputs)
        return probabilities.reshape(-1)


def speech_windows(
    blocks: Iterable[np.ndarray], longest: float = WINDOW_SECONDS, pause: float = 2.0
) -> Iterator[Window]:
    """The speech of a recording in windows of at most `longest` seconds, each as soon as it ends.

    A pause of more than `pause` seconds ends a window; where there is none, it is cut in the
    longest pause of its second half. `blocks` are 16 kHz mono float32. No more than one window is
    held in memory.
    """
    most, wait = int(longest / CHUNK_SECONDS), round(pause / CHUNK_SECONDS)
    held: list[np.ndarray] = []  # chunks that are in no window yet
    speech: list[bool] = []  # of each of them
    first = 0  # which chunk of the recording held[0] is

    def take(count: int) -> Window | None:
        """Leave `count` chunks behind, and make a window of them if they are worth it."""
        nonlocal first
        window = _window(first, held[:count], speech[:count])
        del held[:count], speech[:count]
        first += count
        return window

    spoken = False
    for chunk, probability in _judged(blocks):
        spoken = probability >= (SILENCE if spoken else SPEECH)
        held.append(chunk)
        speech.append(spoken)
        silent = _silent_end(speech)
        if silent == len(speech):
            take(max(0, silent - MARGIN))
        elif silent > wait:
            yield from _some(take(len(held) - silent + MARGIN))
        elif len(held) >= most:
            yield from _some(take(_best_cut(speech, most // 2, most)))
    yield from _some(take(len(held)))


def _some(window: Window | None) -> list[Window]:
    return [window] if window else []


def _judged(blocks: Iterable[np.ndarray]) -> Iterator[tuple[np.ndarray, float]]:
    """Chunks and their probability of speech; the last chunk is filled with silence."""
    detect, rest = VoiceActivity(), np.zeros(0, np.float32)
    for block in blocks:
        rest = np.concatenate([rest, block])
        whole = len(rest) // CHUNK * CHUNK
        yield from zip(rest[:whole].reshape(-1, CHUNK), detect(rest[:whole]), strict=True)
        rest = rest[whole:]
    if len(rest):
        last = np.pad(rest, (0, CHUNK - len(rest)))
        yield last, detect(last)[0]


def _silent_end(speech: list[bool]) -> int:
    """How many chunks at the end are silent."""
    return next((i for i, spoken in enumerate(reversed(speech)) if spoken), len(speech))


def _window(first: int, chunks: list[np.ndarray], speech: list[bool]) -> Window | None:
    """Chunks as a window without the silence around their speech; None without speech."""
    where = np.flatnonzero(speech)
    if len(where) < SHORTEST:
        return None
    start, end = max(0, where[0] - MARGIN), min(len(chunks), where[-1] + 1 + MARGIN)
    return Window(
        (first + int(start)) * CHUNK_SECONDS,
        np.concatenate(chunks[start:end]),
        np.array(speech[start:end]),
    )


def _best_cut(speech, low: int, high: int) -> int:
    """The middle of the longest pause that lies between two chunks; without any, `high`."""
    best, length, begun = high, 0, None
    for i in range(low, high + 1):
        if i < high and not speech[i]:
            begun = i if begun is None else begun
        elif begun is not None:
            if i - begun >= length:  # of two as long, the later one
                best, length = (begun + i) // 2, i - begun
            begun = None
    return max(1, best)
