"""Audio: decode any container to 16 kHz mono float32, encode to Opus, compute log-mel.

decode(data)                        a whole recording, shape (samples,)
decode_blocks(file, max_seconds)    the same in blocks of about a second
measure(data)                       its length in seconds, several times faster
log_mel(samples)                    what Whisper sees, shape (B, n_mels, frames)
"""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, BinaryIO

import av
import numpy as np

from lab2_whisper.schema import HOP_SAMPLES, N_FFT, N_MELS, SAMPLE_RATE, WINDOW_SECONDS, LabError

if TYPE_CHECKING:  # the processes that encode start faster without these
    import torch
    from av.container import InputContainer

# Demuxers by their libav names. No playlist (hls, concat, dash): those open other files.
FORMATS = "wav,w64,aiff,mp3,aac,mov,mp4,m4a,3gp,ogg,flac,matroska,webm,amr,asf,caf"
BLOCK_SECONDS = 1
MAX_ODD_FRAMES = 5  # frames with a corrupt header that a recording may have
SAMPLE_RATES = range(4_000, 400_001)  # Hz; others are not speech, and resampling takes much memory
MAX_PACKET_BYTES, MAX_PACKET_SECONDS = 8 * 2**20, 60  # far more than any recorder writes
MIN_GAP_SECONDS = 0.1  # a shorter gap between two frames is not filled
MAX_GAP_SECONDS = 60.0  # a longer one is a wrong time stamp, where the file declares no length


class Undecodable(LabError):
    """The data is not audio that can be read."""


class CutShort(Undecodable):
    """The file declares more audio than it holds."""


class TooLong(LabError):
    """There is more audio than is allowed; the rest was not decoded."""


# -------------------------------------------------------------------------------- decoding


def decode(media: bytes | BinaryIO, max_seconds: float = WINDOW_SECONDS) -> np.ndarray:
    """Decode a whole recording to 16 kHz mono float32, shape (samples,).

    Raises Undecodable, CutShort, or TooLong for more than `max_seconds` of audio.
    """
    return np.concatenate(list(decode_blocks(media, max_seconds)))


def decode_blocks(
    media: bytes | BinaryIO, max_seconds: float, keep_time: bool = False
) -> Iterator[np.ndarray]:
    """Decode a recording to 16 kHz mono float32 in blocks of about a second, shape (samples,).

    A recording of hours therefore needs little memory. `media` is bytes or an open binary file:
    libav gets no path, so it can open no other file. Damaged packets are skipped. `keep_time` puts
    silence where the time stamps leave gaps, so that subtitles fit a video.

    Raises Undecodable, CutShort, or TooLong for more than `max_seconds` of audio; the blocks
    yielded before are valid.
    """
    count, limit = 0, round(max_seconds * SAMPLE_RATE)
    with _opened(media) as (container, stream):
        declared = _declared_seconds(container, stream, media)
        clock = _clock(container) if keep_time else None
        for block in _resampled(_frames(container, stream), clock):
            yield block[: limit - count]
            count += len(block)
            if count > limit:
                raise TooLong(
                    f"The recording is longer than {max_seconds:g} s, the limit here. "
                    "Cut it into shorter recordings."
                )
    _check_length(count / SAMPLE_RATE, declared)


def measure(media: bytes | BinaryIO, max_seconds: float = WINDOW_SECONDS) -> float:
    """Return the seconds of audio by its packets, of which only the first second is decoded.

    This is several times faster than `decode`, but does not see damage after the first second,
    where `decode` may find less audio. Raises Undecodable, CutShort, or TooLong for more than
    `max_seconds` of audio.
    """
    ticks = decoded = 0
    with _opened(media) as (container, stream):
        declared = _declared_seconds(container, stream, media)
        for packet in container.demux(stream):
            ticks += packet.duration or 0
            if decoded < SAMPLE_RATE:
                decoded += sum(frame.samples for frame in _decoded(packet))
            if _seconds(ticks, stream) > max_seconds + 0.1:  # packets hold a little padding
                raise TooLong(f"The recording is longer than {max_seconds:g} s.")
        seconds = _seconds(ticks, stream)
    _check_length(seconds if decoded else 0, declared)
    return seconds


def expected_seconds(media: bytes | BinaryIO) -> tuple[float | None, float | None]:
    """Return the length that the file declares, and that or libav's estimate, both in seconds.

    Each is None where it is unknown, as in a browser's recording. Raises Undecodable.
    """
    with _opened(media) as (container, stream):
        declared = _declared_seconds(container, stream, media)
        return declared, declared or (container.duration or 0) / av.time_base or None


@contextmanager
def _opened(media: bytes | BinaryIO) -> Iterator[tuple[InputContainer, av.AudioStream]]:
    """Open a recording and its first audio stream; whatever libav refuses is Undecodable."""
    file = io.BytesIO(media) if isinstance(media, bytes) else media
    options = {"format_whitelist": FORMATS, "codec_whitelist": _audio_codecs()}
    try:
        # tags in cp1250 are common, and nothing here reads them
        with av.open(file, "r", options=options, metadata_errors="replace") as container:
            if not container.streams.audio:
                raise Undecodable("This file has no sound in it.")
            yield container, container.streams.audio[0]
    except (av.error.FFmpegError, ValueError) as error:  # ValueError: PyAV's own, and _decoded's
        reason = getattr(error, "strerror", None) or error
        raise Undecodable(f"This is not audio that can be read ({reason}).") from error


@functools.cache
def _audio_codecs() -> str:
    """List libav's audio decoders, so that no cover picture, of any size, is decoded."""
    found = []
    for name in sorted(av.codecs_available):
        with contextlib.suppress(ValueError):  # some only encode
            if av.Codec(name, "r").type == "audio":
                found.append(name)
    return ",".join(found)


# --------------------------------------------------------------------- lengths and clocks


def _seconds(ticks: int, stream: av.AudioStream) -> float:
    assert stream.time_base is not None  # it is set in every stream that was opened to be read
    return float(ticks * stream.time_base)


def _declared_seconds(
    container: InputContainer, stream: av.AudioStream, media: bytes | BinaryIO
) -> float | None:
    """Return the length that the file declares, or None (a browser's recording declares none)."""
    estimated = container.format.name == "mp3" and not _mp3_declares_length(media)
    if estimated or container.format.name == "aac":
        return None  # libav extrapolates from the first frames: wrong where the bitrate varies
    if stream.duration:
        return _seconds(stream.duration, stream)
    if container.streams.video:
        return None  # the length is the picture's, and the audio may end long before
    return container.duration / av.time_base if container.duration else None


def _clock(container: InputContainer) -> tuple[float, float | None]:
    """Return where a player's clock begins and, if known, ends, in seconds.

    It does not begin with the audio where the video starts before it.
    """
    start = (container.start_time or 0) / av.time_base
    return start, start + container.duration / av.time_base if container.duration else None


def _mp3_declares_length(media: bytes | BinaryIO) -> bool:
    """Return whether an MP3 begins, after any ID3v2 tag, with a Xing, Info or VBRI header."""
    file = io.BytesIO(media) if isinstance(media, bytes) else media
    place = file.tell()
    file.seek(0)
    head = file.read(10)
    if head[:3] == b"ID3":  # its size has 7 bits a byte
        file.seek(10 + sum(byte << 7 * (3 - i) for i, byte in enumerate(head[6:10])))
    else:
        file.seek(0)
    first = file.read(4096)
    file.seek(place)  # libav reads on from where it was
    return any(name in first for name in (b"Xing", b"Info", b"VBRI"))


def _check_length(seconds: float, declared: float | None) -> None:
    if not seconds:
        raise Undecodable("There is no sound in this file that can be decoded.")
    if declared and seconds < 0.9 * declared - 0.2:
        raise CutShort(
            f"The file is cut short: it holds {seconds:.1f} s of the {declared:.1f} s it declares."
        )


# ---------------------------------------------------------------------- frames and blocks


def _frames(container: InputContainer, stream: av.AudioStream) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        yield from _decoded(packet)


def _decoded(packet: av.Packet[av.AudioStream]) -> list[av.AudioFrame]:
    """Decode a packet; a damaged one gives no frames. Raises ValueError for an oversized one.

    A small file may hold hours in one packet, all of which would be in memory at once.
    """
    if packet.size > MAX_PACKET_BYTES:
        raise ValueError(f"a packet of {packet.size / 2**20:.0f} MiB")
    try:
        frames = packet.decode()
    except av.error.InvalidDataError:
        return []  # the other packets may be whole
    for frame in frames:
        if frame.sample_rate not in SAMPLE_RATES:
            raise ValueError(f"a sample rate of {frame.sample_rate} Hz")
        if frame.samples > MAX_PACKET_SECONDS * frame.sample_rate:
            raise ValueError(f"a packet of {frame.samples / frame.sample_rate:.0f} s")
    return frames


def _resampled(
    frames: Iterator[av.AudioFrame], clock: tuple[float, float | None] | None = None
) -> Iterator[np.ndarray]:
    """Resample frames to blocks of 16 kHz mono float32, each of about a second, shape (samples,).

    Frames are gathered first, because resampling each one alone costs more. `clock` is where a
    player's clock begins and, if known, ends, in seconds: gaps between time stamps within it
    become silence. Without it time stamps are ignored.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    gathered = av.AudioFifo()
    expected, end = clock or (0.0, None)
    for frame in _uniform(frames):
        gap = _gap(frame, expected, end) if clock else 0.0
        if gap and gathered.samples:
            yield from _arrays(resampler.resample(gathered.read()))
        yield from _silence(gap)
        expected += gap + frame.samples / frame.sample_rate
        frame.pts = None
        gathered.write(frame)
        if gathered.samples >= BLOCK_SECONDS * frame.sample_rate:
            yield from _arrays(resampler.resample(gathered.read()))
    if gathered.samples:
        yield from _arrays(resampler.resample(gathered.read()))
        yield from _arrays(resampler.resample(None))


def _uniform(frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """Yield the frames that have the first one's sample format, channel layout and rate.

    A corrupt header makes a frame look different, so a few others are left out. More of them mean
    that the audio really changes midway: a ValueError.
    """
    first, odd = None, 0
    for frame in frames:
        form = (frame.format.name, frame.layout.name, frame.sample_rate)
        first = first or form
        if form == first:
            yield frame
            continue
        odd += 1
        if odd > MAX_ODD_FRAMES:
            raise ValueError("its format changes midway")


def _gap(frame: av.AudioFrame, expected: float, end: float | None) -> float:
    """Return the seconds of silence before a frame expected at `expected` s, usually 0."""
    if frame.time is None:
        return 0.0
    late = frame.time - expected
    plausible = frame.time <= end if end else late < MAX_GAP_SECONDS
    return late if late > MIN_GAP_SECONDS and plausible else 0.0


def _silence(seconds: float) -> Iterator[np.ndarray]:
    for done in range(0, round(seconds * SAMPLE_RATE), SAMPLE_RATE):
        yield np.zeros(min(SAMPLE_RATE, round(seconds * SAMPLE_RATE) - done), np.float32)


def _arrays(frames: list[av.AudioFrame]) -> Iterator[np.ndarray]:
    yield from (frame.to_ndarray()[0] for frame in frames)


# -------------------------------------------------------------------- encoding and log-mel


def encode_opus(samples: np.ndarray, bitrate: int, complexity: int) -> bytes:
    """Encode 16 kHz mono float32, shape (samples,), as an Ogg Opus file.

    `bitrate` in bit/s, `complexity` from 0 (fast) to 10 (small). Packets last 60 ms, Opus's
    maximum, which saves bytes; the delay that they add does not matter here.
    """
    options = {"compression_level": str(complexity), "frame_duration": "60"}
    return encode(samples, SAMPLE_RATE, bitrate, container="ogg", codec="libopus", options=options)


def encode(
    samples: np.ndarray,
    rate: int,
    bitrate: int,
    *,
    container: str,
    codec: str,
    options: dict[str, str] | None = None,
) -> bytes:
    """Encode mono float32, shape (samples,), at `rate` Hz as a file.

    `bitrate` in bit/s; `container`, `codec` and the codec's `options` have libav's names.
    """
    buffer = io.BytesIO()
    # bitexact: no random serial numbers or version tags, so the same samples give the same bytes
    exact = {"fflags": "+bitexact"}
    with av.open(buffer, "w", format=container, container_options=exact) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono", options=options or {})
        assert isinstance(stream, av.AudioStream), f"{codec} is not an audio codec"
        stream.bit_rate = bitrate
        planar = np.ascontiguousarray(samples[None, :], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(planar, format="fltp", layout="mono")
        frame.sample_rate = rate
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def log_mel(samples: torch.Tensor, n_mels: int = N_MELS) -> torch.Tensor:
    """Compute Whisper's log-mel of a batch of equally long windows, on the device they are on.

    `samples`: 16 kHz float32, shape (B, window), at most 30 s and a multiple of HOP_SAMPLES.
    Returns float32, shape (B, n_mels, window / HOP_SAMPLES), equal to the first frames that
    openai/whisper's log_mel_spectrogram gives for the same audio padded to 30 s.
    """
    import torch

    window = samples.shape[-1]
    # the last frames reach into the silence that follows in a window of 30 s
    beyond = min(N_FFT, WINDOW_SECONDS * SAMPLE_RATE - window)
    samples = torch.nn.functional.pad(samples, (0, max(0, beyond)))
    hann = torch.hann_window(N_FFT, device=samples.device)
    spectrum = torch.stft(samples, N_FFT, HOP_SAMPLES, window=hann, return_complex=True)
    power = spectrum[..., : window // HOP_SAMPLES].abs() ** 2  # (B, N_FFT / 2 + 1, frames)
    mel = torch.from_numpy(_mel_filters(n_mels)).to(samples.device) @ power
    log = mel.clamp(min=1e-10).log10()
    log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8)
    return (log + 4) / 4


@functools.cache
def _mel_filters(n_mels: int) -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=n_mels)
