"""Recordings as people upload them, and files that are not recordings."""

import io
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import soundfile
from helpers.speech import tone, wav

from lab2_whisper.audio import encode
from lab2_whisper.schema import SAMPLE_RATE

UPLOADS = {  # kind -> libav's names of container and codec, samples a second
    "wav": ("wav", "pcm_s16le", 44_100),
    "mp3": ("mp3", "libmp3lame", 44_100),
    "m4a": ("ipod", "aac", 44_100),
    "ogg": ("ogg", "vorbis", 44_100),
    "opus": ("ogg", "libopus", 48_000),
    "flac": ("flac", "flac", 48_000),
    "webm": ("webm", "libopus", 48_000),
    "mp4": ("mp4", "aac", 48_000),
    "mkv": ("matroska", "aac", 48_000),
    "mov": ("mov", "aac", 48_000),
}


def upload(kind: str, seconds: float) -> bytes:
    """Return a tone as a file of one of the kinds of UPLOADS."""
    container, codec, rate = UPLOADS[kind]
    if codec == "vorbis":  # libav has no good encoder of it
        file = io.BytesIO()
        soundfile.write(file, tone(seconds, rate), rate, format="OGG")
        return file.getvalue()
    return encode(tone(seconds, rate), rate, 64_000, container=container, codec=codec)


def film(seconds: float, sound_from: float | None, folder: Path, name: str = "film.mp4") -> bytes:
    """Return a small video (an mp4 has its index first), also left in the folder.

    It has a second of audio from `sound_from` seconds on, or none.
    """
    path, first = folder / name, {"movflags": "faststart"}
    with av.open(str(path), "w", options=first) as output:
        pictures = output.add_stream("mpeg4", rate=10)
        pictures.width = pictures.height = 64
        sound = None if sound_from is None else output.add_stream("aac", SAMPLE_RATE, layout="mono")
        for _ in range(round(10 * seconds)):
            picture = av.VideoFrame.from_ndarray(np.zeros((64, 64, 3), np.uint8), format="rgb24")
            output.mux(pictures.encode(picture))
        output.mux(pictures.encode(None))
        if sound:
            frame = av.AudioFrame.from_ndarray(tone(1)[None], format="fltp", layout="mono")
            frame.sample_rate, frame.time_base = SAMPLE_RATE, Fraction(1, SAMPLE_RATE)
            frame.pts = round(sound_from * SAMPLE_RATE)
            output.mux(sound.encode(frame))
            output.mux(sound.encode(None))
    return path.read_bytes()


TRUNCATED = upload("mp4", 4)  # its index is at the end
BAD = {
    "a text file named .mp3": (b"to nie jest nagranie\n" * 5000, "not audio|no sound"),
    "zero bytes": (b"", "is empty"),
    "a truncated mp4": (TRUNCATED[: len(TRUNCATED) // 2], "not audio"),
    "a local concat list": (b"ffconcat version 1.0\nfile '/etc/passwd'\n", "not audio"),
    "a local playlist": (
        b"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n/etc/passwd\n#EXT-X-ENDLIST\n",
        "not audio",
    ),
    "a WAV of one sample a second": (wav(tone(0.5), 1), "a sample rate of 1 Hz"),
}
