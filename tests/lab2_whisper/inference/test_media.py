"""Uploads: every container that people have is decoded, every bad file ends in one sentence."""

import io
import socket
import subprocess
import sys
import threading
import tracemalloc
from fractions import Fraction
from pathlib import Path

import av
import numpy as np
import pytest
from helpers.media import BAD, UPLOADS, film, upload
from helpers.speech import tone, wav

from lab2_whisper.audio import CutShort, TooLong, Undecodable
from lab2_whisper.inference.media import DEFAULT_LIMITS, Limits, decode_upload, expected_length
from lab2_whisper.schema import SAMPLE_RATE, LabError

PACKET_SECONDS = 0.12  # the longest Opus packet


def opus_silence(seconds: float, container: str = "ogg", options: dict | None = None) -> bytes:
    """Hours of silence in few bytes: one encoded packet, repeated."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format=container, container_options=options or {}) as output:
        stream = output.add_stream("libopus", 48_000, layout="mono")
        stream.options = {"frame_duration": "120"}
        stream.bit_rate = 6_000
        silence = np.zeros((1, 48_000), np.float32)
        frame = av.AudioFrame.from_ndarray(silence, format="fltp", layout="mono")
        frame.sample_rate = 48_000
        content = bytes(stream.encode(frame)[-1])
        for i in range(round(seconds / PACKET_SECONDS)):
            packet = av.Packet(content)
            packet.stream, packet.time_base = stream, Fraction(1, 48_000)
            packet.pts = packet.dts = round(i * PACKET_SECONDS * 48_000)
            packet.duration = round(PACKET_SECONDS * 48_000)
            output.mux_one(packet)
    return buffer.getvalue()


def decoded(media, limits: Limits = DEFAULT_LIMITS) -> np.ndarray:
    return np.concatenate(list(decode_upload(media, limits)))


@pytest.mark.parametrize("kind", UPLOADS)
def test_every_kind_of_upload_becomes_16_khz_mono(kind, tmp_path):
    data = upload(kind, 3)
    (tmp_path / f"a.{kind}").write_bytes(data)
    for media in (data, io.BytesIO(data), tmp_path / f"a.{kind}", str(tmp_path / f"a.{kind}")):
        samples = decoded(media)
        assert samples.dtype == np.float32
        assert len(samples) / SAMPLE_RATE == pytest.approx(3, abs=0.1)
        assert np.abs(samples).max() > 0.1


def test_a_recording_comes_in_blocks_of_about_a_second():
    blocks = list(decode_upload(upload("mp3", 10)))
    assert 9 <= len(blocks) <= 12
    assert max(map(len, blocks)) < 1.2 * SAMPLE_RATE


def test_the_expected_length_is_known_without_decoding():
    assert expected_length(upload("m4a", 3)) == pytest.approx(3, abs=0.1)
    assert expected_length(opus_silence(30, "webm", {"live": "1"})) is None  # as a browser records


def test_sound_that_starts_later_than_the_picture_keeps_its_place(tmp_path):
    samples = decoded(film(6, 3, tmp_path))
    loud = np.flatnonzero(np.abs(samples) > 0.05)[0] / SAMPLE_RATE
    assert loud == pytest.approx(3, abs=0.15)


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_sound_that_starts_minutes_later_keeps_its_place(name, tmp_path):
    data = film(75, 70, tmp_path, name)
    loud = np.flatnonzero(np.abs(decoded(data)) > 0.05)[0] / SAMPLE_RATE
    assert loud == pytest.approx(70, abs=0.15)
    with pytest.raises(TooLong):  # the silence counts too
        decoded(data, Limits(seconds=69))


@pytest.mark.parametrize("name", ["film.mp4", "film.mkv"])
def test_sound_may_end_long_before_the_picture(name, tmp_path):
    data = film(10, 0, tmp_path, name)
    assert len(decoded(data)) / SAMPLE_RATE == pytest.approx(1, abs=0.15)


@pytest.mark.parametrize("name", BAD)
def test_a_bad_file_ends_in_one_sentence(name, tmp_path):
    content, reason = BAD[name]
    (tmp_path / "upload.mp3").write_bytes(content)
    for media in (io.BytesIO(content), tmp_path / "upload.mp3"):
        with pytest.raises(LabError, match=rf"^[A-Z].*({reason}).*\.$"):
            decoded(media)


def test_a_film_cut_short_says_so_after_its_sound(tmp_path):
    whole, found = film(4, 0, tmp_path), []
    with pytest.raises(CutShort, match="cut short"):
        for block in decode_upload(upload("mp3", 4)[: len(upload("mp3", 4)) // 2]):
            found.append(block)
    assert 1 < sum(map(len, found)) / SAMPLE_RATE < 3
    with pytest.raises(Undecodable):
        decoded(whole[: len(whole) // 3])


def test_a_video_without_sound_says_so(tmp_path):
    with pytest.raises(LabError, match="no sound"):
        decoded(film(2, None, tmp_path))


def cover(side: int) -> bytes:
    """Three seconds of MP3 with a picture of side x side in it, as albums have."""
    buffer, plain = io.BytesIO(), np.zeros((side, side), np.uint8)
    with av.open(buffer, "w", format="mp3") as output:
        sound = output.add_stream("libmp3lame", SAMPLE_RATE, layout="mono")
        picture = output.add_stream("png")
        picture.width, picture.height, picture.pix_fmt = side, side, "gray"
        picture.disposition = av.stream.Disposition.attached_pic
        output.start_encoding()
        for packet in picture.encode(av.VideoFrame.from_ndarray(plain, format="gray")):
            packet.stream = picture
            output.mux(packet)
        frame = av.AudioFrame.from_ndarray(tone(3)[None], format="fltp", layout="mono")
        frame.sample_rate = SAMPLE_RATE
        output.mux(sound.encode(frame))
        output.mux(sound.encode(None))
    return buffer.getvalue()


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="asks Linux for the memory used")
def test_a_huge_picture_in_a_small_file_takes_no_memory(tmp_path):
    """In a process of its own, as libav would decode the picture outside Python's memory."""
    (tmp_path / "album.mp3").write_bytes(cover(11_000))  # 121 MB as pixels
    code = """
import re, sys
from lab2_whisper.inference.media import decode_upload, expected_length

def peak():
    return int(re.search(r"VmHWM:\\s*(\\d+)", open("/proc/self/status").read())[1]) // 1024

before = peak()
seconds = expected_length(sys.argv[1]), sum(map(len, decode_upload(sys.argv[1]))) / 16_000
print(*seconds, peak() - before)
"""
    command = [sys.executable, "-c", code, str(tmp_path / "album.mp3")]
    run = subprocess.run(command, capture_output=True, text=True, check=True)
    expected, decoded_seconds, mebibytes = map(float, run.stdout.split())
    assert expected == pytest.approx(3, abs=0.2)
    assert decoded_seconds == pytest.approx(3, abs=0.2)
    assert mebibytes < 60


@pytest.mark.parametrize(("seconds", "reason"), [(61, "a packet of 61 s"), (2400, "of 9 MiB")])
def test_a_packet_that_holds_a_whole_recording_is_refused(seconds, reason):
    """A Matroska packet can hold hours, past the limit of seconds and in memory all at once."""
    buffer = io.BytesIO()
    with av.open(buffer, "w", format="matroska") as output:
        stream = output.add_stream("pcm_u8", rate=4_000, layout="mono")
        samples = np.full((1, seconds * 4_000), 128, np.uint8)
        frame = av.AudioFrame.from_ndarray(samples, format="u8", layout="mono")
        frame.sample_rate = 4_000
        for packet in (*stream.encode(frame), *stream.encode(None)):
            output.mux(packet)
    with pytest.raises(Undecodable, match=reason):
        decoded(buffer.getvalue())


@pytest.mark.parametrize("name", ["ffconcat", "m3u8"])
def test_a_list_in_disguise_opens_no_other_file_and_no_connection(name, tmp_path):
    (tmp_path / "secret.wav").write_bytes(wav(tone(1)))
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.3)
        address = f"http://127.0.0.1:{server.getsockname()[1]}/a.wav"
        for target in (tmp_path / "secret.wav", address):
            playlist = f"#EXTM3U\n#EXT-X-TARGETDURATION:5\n#EXTINF:5,\n{target}\n#EXT-X-ENDLIST\n"
            lists = {"ffconcat": f"ffconcat version 1.0\nfile '{target}'\n", "m3u8": playlist}
            (tmp_path / "upload.mp3").write_text(lists[name])
            with pytest.raises(Undecodable):
                decoded(tmp_path / "upload.mp3")
        with pytest.raises(TimeoutError):  # nothing connected
            server.accept()


@pytest.mark.parametrize("path", ["http://127.0.0.1/a.mp3", "file:///etc/passwd", "/dev/zero", "/"])
def test_a_path_that_is_not_a_file_is_refused(path):
    with pytest.raises(LabError, match="There is no file"):
        decoded(path)


def test_a_file_over_the_limit_of_bytes_is_refused_unread():
    media = io.BytesIO(upload("mp3", 2))
    with pytest.raises(LabError, match="limit"):
        next(decode_upload(media, Limits(bytes=1000)))
    assert not media.closed


def test_a_file_that_declares_too_much_is_refused_before_it_is_decoded():
    with pytest.raises(TooLong, match=r"is 0:05 long; the limit is 0:03"):
        next(decode_upload(upload("mp3", 5), Limits(seconds=3)))


def test_hours_of_silence_in_a_small_file_are_refused_at_once():
    bomb = opus_silence(5 * 3600)
    assert len(bomb) < 6 * 2**20
    with pytest.raises(TooLong, match="5:00:00"):
        next(decode_upload(bomb))


def test_an_undeclared_length_stops_at_the_limit_in_little_memory():
    bomb = opus_silence(3600, "webm", {"live": "1"})
    seconds = 0.0
    tracemalloc.start()
    with pytest.raises(TooLong):
        for block in decode_upload(bomb, Limits(seconds=600)):
            seconds += len(block) / SAMPLE_RATE
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert seconds == pytest.approx(600, abs=1)
    assert peak < 5 * 2**20


def test_two_uploads_may_be_decoded_at_the_same_time():
    """Visitors share no state."""
    data, found = [upload("mp3", 2), upload("m4a", 3)], {}
    threads = [
        threading.Thread(target=lambda i=i: found.update({i: len(decoded(data[i]))}))
        for i in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found[0] / SAMPLE_RATE == pytest.approx(2, abs=0.1)
    assert found[1] / SAMPLE_RATE == pytest.approx(3, abs=0.1)
