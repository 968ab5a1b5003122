"""Sound: any container people have to 16 kHz mono float32; Opus; log-mel."""

from __future__ import annotations

import contextlib
import functools
import io
from collections.abc import Iterator
from typing import BinaryIO

import av
import numpy as np

from lab2_whisper.schema import HOP_SAMPLES, N_FFT, N_MELS, SAMPLE_RATE, WINDOW_SECONDS, LabError

# Demuxers by their libav names. No playlist (hls, concat, dash): those open other files.
FORMATS = "wav,w64,aiff,mp3,aac,mov,mp4,m4a,3gp,ogg,flac,matroska,webm,amr,asf,caf"
BLOCK_SECONDS = 1
MAX_ODD_FRAMES = 5  # frames with a corrupt header that a recording may have
RATES = range(4_000, 400_001)  # samples a second; others ask for much memory, and are no sound
MAX_PACKET_BYTES, MAX_PACKET_SECONDS = 8 * 2**20, 60  # far more than any recorder writes
MIN_GAP_SECONDS = 0.1  # seconds between frames from which on they are silence
MAX_GAP_SECONDS = 60.0  # and beyond which a time stamp is wrong, in a file that tells no length


class Undecodable(LabError):
    """What was given is not audio that can be read."""


class CutShort(Undecodable):
    """The file declares more sound than it holds."""


class TooLong(LabError):
    """There is more sound than was allowed; the rest was not decoded."""


def decode(media: bytes | BinaryIO, max_seconds: float = WINDOW_SECONDS) -> np.ndarray:
    """A whole recording as 16 kHz mono float32, shape (samples,).

    Raises Undecodable, CutShort, or TooLong for more than `max_seconds` of sound.
    """
    return np.concatenate(list(decode_blocks(media, max_seconds)))


def decode_blocks(
    media: bytes | BinaryIO, max_seconds: float, keep_time: bool = False
) -> Iterator[np.ndarray]:
    """The same in blocks of about a second, so that hours of sound need no memory.

    `media` is bytes or an open binary file: libav gets no path, so it can open no other file.
    A damaged packet is left out. What was yielded before an exception is good sound.
    `keep_time` puts silence where time stamps leave gaps, so that subtitles fit a video.
    """
    count, limit = 0, round(max_seconds * SAMPLE_RATE)
    try:
        with _open(media) as container:
            stream = _audio_stream(container)
            declared = _declared_seconds(container, stream, media)
            clock = _clock(container) if keep_time else None
            for block in _resampled(_frames(container, stream), clock):
                yield block[: limit - count]
                count += len(block)
                if count > limit:
                    raise TooLong(
                        f"This is more than {max_seconds:g} s of sound, the limit here. "
                        "Cut it into shorter recordings."
                    )
    except (av.error.FFmpegError, ValueError) as error:  # ValueError: see _resampled
        raise Undecodable(f"This is not audio that can be read ({_reason(error)}).") from None
    _check_length(count / SAMPLE_RATE, declared)


def measure(media: bytes | BinaryIO, max_seconds: float = WINDOW_SECONDS) -> float:
    """Seconds of sound by its packets, of which only the first second is decoded.

    Several times faster than `decode`. It raises the same for what is no audio, cut short or too
    long, but does not see damage past that second, where `decode` may find less sound.
    """
    ticks = decoded = 0
    try:
        with _open(media) as container:
            stream = _audio_stream(container)
            declared = _declared_seconds(container, stream, media)
            limit = (max_seconds + 0.1) / stream.time_base  # packets hold a little padding
            for packet in container.demux(stream):
                ticks += packet.duration or 0
                if decoded < SAMPLE_RATE:
                    decoded += sum(frame.samples for frame in _decoded(packet))
                if ticks > limit:
                    raise TooLong(f"This is more than {max_seconds:g} s of sound.")
            seconds = float(ticks * stream.time_base)
    except (av.error.FFmpegError, ValueError) as error:
        raise Undecodable(f"This is not audio that can be read ({_reason(error)}).") from None
    _check_length(seconds if decoded else 0, declared)
    return seconds


def expected_seconds(media: bytes | BinaryIO) -> tuple[float | None, float | None]:
    """The length that the file claims, and the length it seems to have where it claims none.

    None where there is nothing to go by, as in a browser's recording. Raises Undecodable.
    """
    try:
        with _open(media) as container:
            claimed = _declared_seconds(container, _audio_stream(container), media)
            return claimed, claimed or (container.duration or 0) / av.time_base or None
    except (av.error.FFmpegError, ValueError) as error:
        raise Undecodable(f"This is not audio that can be read ({_reason(error)}).") from None


def _open(media: bytes | BinaryIO):
    file = io.BytesIO(media) if isinstance(media, bytes) else media
    options = {"format_whitelist": FORMATS, "codec_whitelist": _sound_codecs()}
    # tags in cp1250 are common, and nobody reads them here
    return av.open(file, options=options, metadata_errors="replace")


@functools.cache
def _sound_codecs() -> str:
    """libav's decoders of sound: opening a file would else decode a picture of any size in it."""
    found = []
    for name in sorted(av.codecs_available):
        with contextlib.suppress(ValueError):  # some only encode
            if av.Codec(name, "r").type == "audio":
                found.append(name)
    return ",".join(found)


def _audio_stream(container):
    if not container.streams.audio:
        raise Undecodable("This file has no sound in it.")
    return container.streams.audio[0]


def _declared_seconds(container, stream, media: bytes | BinaryIO) -> float | None:
    """The length that the file claims; None where it claims none (a browser's recording)."""
    guessed = container.format.name == "mp3" and not _mp3_tells_length(media)
    if guessed or container.format.name == "aac":
        return None  # libav guesses from the first frames: wrong where the bitrate varies
    if stream.duration:
        return float(stream.duration * stream.time_base)
    if container.streams.video:
        return None  # the length is the picture's, and its sound may end long before
    return container.duration / av.time_base if container.duration else None


def _clock(container) -> tuple[float, float | None]:
    """Where a player's clock begins, as video may start before the sound, and where it ends."""
    start = (container.start_time or 0) / av.time_base
    return start, start + container.duration / av.time_base if container.duration else None


def _mp3_tells_length(media: bytes | BinaryIO) -> bool:
    """Whether an MP3 begins with a frame of facts (Xing, Info or VBRI), after any ID3v2 tag."""
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
        raise CutShort(f"The file is cut short: {seconds:.1f} s of the {declared:.1f} s it claims.")


def _frames(container, stream) -> Iterator[av.AudioFrame]:
    for packet in container.demux(stream):
        yield from _decoded(packet)


def _decoded(packet) -> list[av.AudioFrame]:
    """A packet's sound. One that is longer than any recorder writes is a ValueError.

    A small file may hold hours in one packet, which would all be in memory at once.
    """
    if packet.size > MAX_PACKET_BYTES:
        raise ValueError(f"a packet of {packet.size / 2**20:.0f} MiB")
    try:
        frames = packet.decode()
    except av.error.InvalidDataError:
        return []  # one damaged packet: the others may be whole
    for frame in frames:
        if frame.sample_rate not in RATES:
            raise ValueError(f"{frame.sample_rate} samples a second")
        if frame.samples > MAX_PACKET_SECONDS * frame.sample_rate:
            raise ValueError(f"a packet of {frame.samples / frame.sample_rate:.0f} s")
    return frames


def _resampled(
    frames: Iterator[av.AudioFrame], clock: tuple[float, float | None] | None = None
) -> Iterator[np.ndarray]:
    """Blocks of 16 kHz mono. Frames are gathered first: resampling each alone costs more.

    `clock`, in seconds, is where a player's clock begins and, if known, ends; gaps in the time
    stamps between them are filled with silence. Without it nobody looks at time stamps.
    """
    resampler = av.AudioResampler(format="flt", layout="mono", rate=SAMPLE_RATE)
    gathered = av.AudioFifo()
    seconds, end = clock or (None, None)
    for frame in _alike(frames):
        gap = _gap(frame, seconds, end)
        if gap and gathered.samples:
            yield from _arrays(resampler.resample(gathered.read()))
        yield from _silence(gap)
        if clock:
            seconds += gap + frame.samples / frame.sample_rate
        frame.pts = None
        gathered.write(frame)
        if gathered.samples >= BLOCK_SECONDS * frame.sample_rate:
            yield from _arrays(resampler.resample(gathered.read()))
    if gathered.samples:
        yield from _arrays(resampler.resample(gathered.read()))
        yield from _arrays(resampler.resample(None))


def _alike(frames: Iterator[av.AudioFrame]) -> Iterator[av.AudioFrame]:
    """The frames that are of the first one's form.

    A few of another form are left out, as a corrupt header makes them; more are a ValueError, as
    the sound changes midway.
    """
    form, odd = None, 0
    for frame in frames:
        form = form or _form(frame)
        if _form(frame) == form:
            yield frame
            continue
        odd += 1
        if odd > MAX_ODD_FRAMES:
            raise ValueError("its format changes midway")


def _gap(frame: av.AudioFrame, expected: float | None, end: float | None) -> float:
    """Seconds of silence before a frame that was expected earlier; mostly none."""
    if expected is None or frame.time is None:
        return 0.0
    late = frame.time - expected
    true = frame.time <= end if end else late < MAX_GAP_SECONDS
    return late if late > MIN_GAP_SECONDS and true else 0.0


def _silence(seconds: float) -> Iterator[np.ndarray]:
    for done in range(0, round(seconds * SAMPLE_RATE), SAMPLE_RATE):
        yield np.zeros(min(SAMPLE_RATE, round(seconds * SAMPLE_RATE) - done), np.float32)


def _form(frame: av.AudioFrame) -> tuple:
    return frame.format.name, frame.layout.name, frame.sample_rate


def _arrays(frames: list[av.AudioFrame]) -> Iterator[np.ndarray]:
    yield from (frame.to_ndarray()[0] for frame in frames)


def _reason(error: Exception) -> str:
    return getattr(error, "strerror", None) or str(error)


def encode_opus(samples: np.ndarray, bitrate: int, complexity: int) -> bytes:
    """16 kHz mono float32, shape (samples,), as an Ogg Opus file.

    `bitrate` in bit/s, `complexity` from 0 (fast) to 10 (small). Packets of 60 ms, the longest
    there are, since nothing here waits for the next one.
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
    """Mono float32 at `rate` samples a second as a file; libav's names of container and codec."""
    buffer = io.BytesIO()
    # bitexact: no random serial numbers or version tags, so the same sound gives the same bytes
    exact = {"fflags": "+bitexact"}
    with av.open(buffer, "w", format=container, container_options=exact) as output:
        stream = output.add_stream(codec, rate=rate, layout="mono", options=options or {})
        stream.bit_rate = bitrate
        planar = np.ascontiguousarray(samples[None, :], dtype=np.float32)
        frame = av.AudioFrame.from_ndarray(planar, format="fltp", layout="mono")
        frame.sample_rate = rate
        output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def log_mel(samples, n_mels: int = N_MELS):
    """Whisper's log-mel of a batch of equally long windows, on whatever device they are.

    `samples`: float32 tensor, 16 kHz, shape (B, window), a whole number of 10 ms hops, at most
    30 s. Returns float32, shape (B, n_mels, window / 160), equal to the first frames of what
    Whisper's own extractor gives for the same sound padded to 30 s.
    """
    import torch  # not at the top: the processes that encode do without it

    window = samples.shape[-1]
    beyond = min(N_FFT, WINDOW_SECONDS * SAMPLE_RATE - window)  # the silence that follows in 30 s
    samples = torch.nn.functional.pad(samples, (0, max(0, beyond)))
    hann = torch.hann_window(N_FFT, device=samples.device)
    spectrum = torch.stft(samples, N_FFT, HOP_SAMPLES, window=hann, return_complex=True)
    power = spectrum[..., : window // HOP_SAMPLES].abs() ** 2
    mel = torch.from_numpy(_mel_filters(n_mels)).to(samples.device) @ power
    log = mel.clamp(min=1e-10).log10()
    log = torch.maximum(log, log.amax(dim=(1, 2), keepdim=True) - 8)
    return (log + 4) / 4


@functools.cache
def _mel_filters(n_mels: int) -> np.ndarray:
    import librosa

    return librosa.filters.mel(sr=SAMPLE_RATE, n_fft=N_FFT, n_mels=n_mels)
