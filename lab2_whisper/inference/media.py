"""Decode what people upload: any container, streamed, and treated as hostile until decoded."""

from __future__ import annotations

import io
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

from lab2_whisper.audio import CutShort, TooLong, Undecodable, decode_blocks, expected_seconds
from lab2_whisper.schema import LabError

Media = str | Path | bytes | BinaryIO
"""A path, the bytes of a file, or a seekable file opened for reading bytes."""

KINDS = ("wav", "mp3", "m4a", "ogg", "opus", "flac", "webm", "mp4", "mkv", "mov")


class Empty(LabError):
    """A file of zero bytes."""


class TooLarge(LabError):
    """A file over the limit of bytes."""


@dataclass(frozen=True)
class Limits:
    """The maximum length and size of one recording."""

    seconds: float = 4 * 3600.0
    bytes: int = 2 * 2**30


DEFAULT_LIMITS = Limits()


def decode_upload(media: Media, limits: Limits = DEFAULT_LIMITS) -> Iterator[np.ndarray]:
    """Yield the sound as 16 kHz mono float32, in blocks of about a second, shape (samples,).

    Times match the recording's own clock, as a player shows it. Raises LabError, in one sentence,
    for a file that is not audio, is cut short or exceeds a limit; blocks yielded before the error
    are valid.
    """
    with _opened(media, limits) as file:
        declared, _ = expected_seconds(file)
        if declared and declared > limits.seconds + 1:
            raise TooLong(
                f"The recording is {clock(declared)} long; the limit is {clock(limits.seconds)}. "
                "Cut it into shorter recordings."
            )
        file.seek(0)
        yield from decode_blocks(file, limits.seconds, keep_time=True)


def expected_length(media: Media, limits: Limits = DEFAULT_LIMITS) -> float | None:
    """Return the expected length of a recording in seconds.

    None where the file does not hold it, as in one recorded by a browser.
    """
    with _opened(media, limits) as file:
        return expected_seconds(file)[1]


@contextmanager
def _opened(media: Media, limits: Limits) -> Iterator[BinaryIO]:
    """Open a file at its beginning, if it is neither empty nor over the limit of bytes.

    To the error for a file that is not audio, the kinds that can be read are added.
    """
    file = _as_file(media)
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not size:
            raise Empty("The file is empty (0 bytes): copy it again, or choose another.")
        if size > limits.bytes:
            raise TooLarge(
                f"The file is {size / 2**20:.0f} MiB; the limit is {limits.bytes / 2**20:.0f} MiB. "
                "Save only its sound, or cut it into parts."
            )
        yield file
    except CutShort:
        raise
    except Undecodable as error:
        raise Undecodable(f"{error} Files that can be read: {', '.join(KINDS)}.") from error
    finally:
        if file is not media:
            file.close()


def _as_file(media: Media) -> BinaryIO:
    if isinstance(media, bytes):
        return io.BytesIO(media)
    if not isinstance(media, str | Path):
        return media
    path = Path(media)
    if not path.is_file():  # pipes and devices have no end
        raise LabError(f"There is no file {path}. Give the path of a recording.")
    try:
        return path.open("rb")
    except OSError as error:
        raise LabError(f"{path} cannot be read ({error.strerror}).") from error


def clock(seconds: float) -> str:
    """Return a time as 0:07, 12:34 or 1:02:03."""
    minutes, second = divmod(round(seconds), 60)
    hours, minute = divmod(minutes, 60)
    return f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
