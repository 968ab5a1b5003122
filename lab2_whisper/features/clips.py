"""One clip to a row or a drop: what the worker processes do. It imports little: they start fast."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from lab2_whisper.audio import CutShort, TooLong, Undecodable, decode, encode_opus, measure
from lab2_whisper.features.sources import Clip, Drop
from lab2_whisper.schema import SAMPLE_RATE, WINDOW_SECONDS, LabError

Row = dict[str, Any]


@dataclass(frozen=True)
class Recipe:
    """How clips are kept: as Opus (16 kHz mono), or the bytes of the source untouched.

    The default is chosen from benchmarks/results/corpora.json: 32 kbit/s at complexity 0 moves
    log-mel by 1.9 dB, and by 1.15 on real voices in the telephone band (recorded at 8 kHz);
    24 kbit/s moves it further at complexity 0 and 5, and at 10 takes about ten times as long. A
    clip is still 50 times smaller than a spectrogram.
    """

    codec: Literal["opus", "source"] = "opus"
    bitrate: int = 32_000  # bit/s
    complexity: int = 0  # 0 (fast) to 10 (small)
    min_seconds: float = 0.2
    max_seconds: float = WINDOW_SECONDS

    def __post_init__(self):
        if self.codec not in ("opus", "source"):
            raise LabError(f"codec {self.codec!r} is none of 'opus', 'source'.")
        if not (6_000 <= self.bitrate <= 128_000 and 0 <= self.complexity <= 10):
            raise LabError("Opus takes a bitrate of 6000 to 128000 and a complexity of 0 to 10.")
        if not 0 < self.min_seconds < self.max_seconds <= WINDOW_SECONDS:
            raise LabError(f"0 < min_seconds < max_seconds <= {WINDOW_SECONDS} does not hold.")

    def settings(self) -> dict[str, Any]:
        """What has a say in what is kept: source bytes know no bitrate or complexity."""
        silent = ("bitrate", "complexity") if self.codec == "source" else ()
        return {name: value for name, value in asdict(self).items() if name not in silent}


DEFAULT = Recipe()


def prepare(batch: list[tuple[Clip, bytes | Drop]], recipe: Recipe) -> list[Row | Drop]:
    """Sounds as rows (schema.COLUMNS but source and locale), or as drops that say why not."""
    return [_prepare(clip, sound, recipe) for clip, sound in batch]


def _prepare(clip: Clip, sound: bytes | Drop, recipe: Recipe) -> Row | Drop:
    if isinstance(sound, Drop):
        return sound
    try:
        if recipe.codec == "opus":
            samples = decode(sound, recipe.max_seconds)
            sound, seconds = b"", len(samples) / SAMPLE_RATE
            if seconds >= recipe.min_seconds:
                sound = encode_opus(samples, recipe.bitrate, recipe.complexity)
        else:
            seconds = measure(sound, recipe.max_seconds)
    except CutShort as error:
        return Drop(clip.clip_id, "cut short", str(error))
    except TooLong:
        return Drop(clip.clip_id, "too long", f"more than {recipe.max_seconds:g} s")
    except Undecodable as error:
        return Drop(clip.clip_id, "undecodable audio", str(error))
    if seconds < recipe.min_seconds:
        return Drop(clip.clip_id, "too short", f"{seconds:.2f} s")
    return {
        "clip_id": clip.clip_id,
        "audio": sound,
        "text": clip.text,
        "split": clip.split,
        "speaker": clip.speaker,
        "seconds": seconds,
    }
