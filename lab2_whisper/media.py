"""What people upload, as 16 kHz mono float32: any container, streamed, hostile until decoded."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np

Media = str | Path | bytes | BinaryIO
"""A path, a file's bytes, or a file opened for reading bytes that can seek."""


@dataclass(frozen=True)
class Limits:
    """The most that one recording may have."""

    seconds: float = 4 * 3600.0
    bytes: int = 2 * 2**30


def decode_upload(media: Media, limits: Limits) -> Iterator[np.ndarray]:
    """The sound in blocks of about a second: 16 kHz mono float32, each of shape (samples,).

    Raises LabError in one sentence for what is no sound, cut short, or over a limit. What was
    yielded before is good sound.
    """
    raise NotImplementedError


def declared_seconds(media: Media) -> float | None:
    """The length that the file claims; None where it claims none, as a browser's recording."""
    raise NotImplementedError
