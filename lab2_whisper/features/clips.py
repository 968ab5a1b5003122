"""One clip to a row or a drop: the work of the worker processes.

This module imports little, so that they start fast.
"""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal, get_args

from lab2_whisper.audio import CutShort, TooLong, Undecodable, decode, encode_opus, measure
from lab2_whisper.features.sources import Clip, Drop
from lab2_whisper.schema import SAMPLE_RATE, WINDOW_SECONDS, LabError

Row = dict[str, Any]
Codec = Literal["opus", "source"]


@dataclass(frozen=True)
class Recipe:
    """How clips are stored: as Opus (16 kHz mono), or as the source's own bytes.

    The default is chosen from benchmarks/results/corpora.json: 32 kbit/s at complexity 0 changes
    log-mel by 1.9 dB, and by 1.15 dB on real voices in the telephone band (recorded at 8 kHz).
    24 kbit/s changes it more at complexity 0 and 5, and takes about ten times as long at 10. The
    clip is still 50 times smaller than its spectrogram.
    """

    codec: Codec = "opus"
    bitrate: int = 32_000  # bit/s
    complexity: int = 0  # 0 (fast) to 10 (small)
    min_seconds: float = 0.2
    max_seconds: float = WINDOW_SECONDS

    def __post_init__(self):
        if self.codec not in get_args(Codec):
            valid = ", ".join(get_args(Codec))
            raise LabError(f"codec must be one of {valid}, not {self.codec!r}.")
        if not (6_000 <= self.bitrate <= 128_000 and 0 <= self.complexity <= 10):
            raise LabError("Opus takes a bitrate of 6000 to 128000 bit/s, a complexity of 0 to 10.")
        if not 0 < self.min_seconds < self.max_seconds <= WINDOW_SECONDS:
            raise LabError(f"Lengths must be 0 < min_seconds < max_seconds <= {WINDOW_SECONDS}.")

    def settings(self) -> dict[str, Any]:
        """Return the fields that affect what is stored: without Opus's own for source bytes."""
        unused = ("bitrate", "complexity") if self.codec == "source" else ()
        return {name: value for name, value in asdict(self).items() if name not in unused}


DEFAULT = Recipe()


def prepare(batch: list[tuple[Clip, bytes | Drop]], recipe: Recipe) -> list[Row | Drop]:
    """Check and encode clips: each becomes a row or a drop.

    A row has the columns of schema.COLUMNS without source and locale.
    """
    return [_row_or_drop(clip, data, recipe) for clip, data in batch]


def _row_or_drop(clip: Clip, data: bytes | Drop, recipe: Recipe) -> Row | Drop:
    if isinstance(data, Drop):
        return data
    try:
        if recipe.codec == "opus":
            samples = decode(data, recipe.max_seconds)
            seconds = len(samples) / SAMPLE_RATE
        else:
            seconds = measure(data, recipe.max_seconds)
    except CutShort as error:
        return Drop(clip.clip_id, "cut short", str(error))
    except TooLong:
        return Drop(clip.clip_id, "too long", f"more than {recipe.max_seconds:g} s")
    except Undecodable as error:
        return Drop(clip.clip_id, "undecodable audio", str(error))
    if seconds < recipe.min_seconds:
        return Drop(clip.clip_id, "too short", f"{seconds:.2f} s")
    if recipe.codec == "opus":
        data = encode_opus(samples, recipe.bitrate, recipe.complexity)
    return {
        "clip_id": clip.clip_id,
        "audio": data,
        "text": clip.text,
        "split": clip.split,
        "speaker": clip.speaker,
        "seconds": seconds,
    }
