"""What people upload, as 16 kHz mono float32: any container, streamed, hostile until decoded."""

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
"""A path, a file's bytes, or a file opened for reading bytes that can seek."""

KINDS = ("wav", "mp3", "m4a", "ogg", "opus", "flac", "webm", "mp4", "mkv", "mov")


class Empty(LabError):
    """A file of no bytes."""


class TooLarge(LabError):
    """A file of more bytes than are allowed."""


@dataclass(frozen=True)
class Limits:
    """The most that one recording may have."""

    seconds: float = 4 * 3600.0
    bytes: int = 2 * 2**30


DEFAULT_LIMITS = Limits()


def decode_upload(media: Media, limits: Limits = DEFAULT_LIMITS) -> Iterator[np.ndarray]:
    """The sound in blocks of about a second: 16 kHz mono float32, each of shape (samples,).

    Raises LabError in one sentence for what is no sound, cut short, or over a limit. What was
    yielded before is good sound. Times fit the recording's own clock, as a player shows it.
    """
    with _opened(media, limits) as file:
        claimed, _ = expected_seconds(file)
        if claimed and claimed > limits.seconds + 1:
            raise TooLong(
                f"This is {_clock(claimed)} of sound, and the limit here is "
                f"{_clock(limits.seconds)}. Cut it into shorter recordings."
            )
        file.seek(0)
        yield from decode_blocks(file, limits.seconds, keep_time=True)


def expected_length(media: Media, limits: Limits = DEFAULT_LIMITS) -> float | None:
    """The seconds that a recording seems to have; None where nothing tells, as in a browser's."""
    with _opened(media, limits) as file:
        return expected_seconds(file)[1]


@contextmanager
def _opened(media: Media, limits: Limits) -> Iterator[BinaryIO]:
    """A file to read from its beginning, not empty and not over the limit of bytes.

    What is no sound at all is told with the kinds of files that are.
    """
    if isinstance(media, bytes):
        file = io.BytesIO(media)
    elif isinstance(media, str | Path):
        file = _open_path(Path(media))
    else:
        file = media
    try:
        size = file.seek(0, os.SEEK_END)
        file.seek(0)
        if not size:
            raise Empty("The file is empty (0 bytes): copy it again, or choose another.")
        if size > limits.bytes:
            raise TooLarge(
                f"The file has {size / 2**20:.0f} MiB, and the limit here is "
                f"{limits.bytes / 2**20:.0f} MiB. Keep only its sound, or cut it."
            )
        yield file
    except CutShort:
        raise
    except Undecodable as error:
        raise Undecodable(f"{error} Files that can be read: {', '.join(KINDS)}.") from None
    finally:
        if file is not media:
            file.close()


def _open_path(path: Path) -> BinaryIO:
    if not path.is_file():  # pipes and devices have no end
        raise LabError(f"There is no file {path}. Give the path of a recording.")
    try:
        return path.open("rb")
    except OSError as error:
        raise LabError(f"{path} cannot be read ({error.strerror}).") from None


def _clock(seconds: float) -> str:
    """ "1:02:03" of 3723."""
    minutes, seconds = divmod(round(seconds), 60)
    return f"{minutes // 60}:{minutes % 60:02}:{seconds:02}"
