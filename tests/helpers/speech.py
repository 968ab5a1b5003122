"""Small recordings and Common Voice releases for the Whisper lab's tests."""

import io
import os
from pathlib import Path

import numpy as np
import pytest
import soundfile

from lab2_whisper import audio
from lab2_whisper.schema import SAMPLE_RATE

DIGITS = Path(os.environ.get("LABS_DATA", "no-data"), "speech", "digits")
needs_digits = pytest.mark.skipif(
    not DIGITS.is_dir(), reason="needs the recordings in $LABS_DATA/speech/digits"
)

HEADER = "client_id\tpath\tsentence_id\tsentence\tup_votes\tdown_votes\tlocale\tsegment"


def tone(seconds: float = 1.0, rate: int = SAMPLE_RATE, pitch: float = 220) -> np.ndarray:
    """Return a tone that swells and fades, mono float32, shape (samples,)."""
    time = np.arange(round(seconds * rate)) / rate
    wave = np.sin(2 * np.pi * pitch * time) * np.sin(2 * np.pi * 3 * time)
    return (0.3 * wave).astype(np.float32)


def mp3(seconds: float = 1.0, rate: int = 48_000, pitch: float = 220) -> bytes:
    """Return a tone as MP3, 64 kbit/s."""
    samples = tone(seconds, rate, pitch)
    return audio.encode(samples, rate, 64_000, container="mp3", codec="libmp3lame")


def wav(samples: np.ndarray, rate: int = SAMPLE_RATE) -> bytes:
    """Return samples, shape (samples,) or (samples, channels), as WAV."""
    file = io.BytesIO()
    soundfile.write(file, samples, rate, format="WAV")
    return file.getvalue()


def line(path: str, text: str = "Dzień dobry", speaker: str = "a") -> str:
    """Return a clip's line in a release's table."""
    return f"{speaker}\t{path}\tid\t{text}\t2\t0\tpl\t"


def release(folder: Path, tables: dict[str, list[str]], clips: dict[str, bytes]) -> Path:
    """Write a Common Voice release with these lines in its tables and these files in its clips."""
    home = folder / "cv-corpus-26.0" / "pl"
    (home / "clips").mkdir(parents=True)
    for name, lines in tables.items():
        text = "\n".join([HEADER, *lines]) + "\n"
        (home / f"{name}.tsv").write_bytes(text.encode())
    for name, data in clips.items():
        (home / "clips" / name).write_bytes(data)
    return home.parent
