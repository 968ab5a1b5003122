"""Any container to 16 kHz mono; what is no audio ends in one sentence; log-mel is Whisper's."""

import contextlib
import io

import numpy as np
import pytest
import torch
from helpers.speech import mp3, tone, wav
from hypothesis import given, settings
from hypothesis import strategies as st

from lab2_whisper import audio
from lab2_whisper.audio import CutShort, TooLong, Undecodable, decode, log_mel, measure

CONTAINERS = [
    ("mp3", "libmp3lame", 48_000),
    ("mp4", "aac", 44_100),
    ("mov", "aac", 48_000),
    ("adts", "aac", 44_100),
    ("ogg", "libopus", 48_000),
    ("webm", "libopus", 48_000),
    ("matroska", "aac", 48_000),
]


@pytest.mark.parametrize(("container", "codec", "rate"), CONTAINERS)
def test_any_container_becomes_16_khz_mono(container, codec, rate):
    data = audio.encode(tone(2, rate), rate, 64_000, container=container, codec=codec)
    samples = decode(data)
    assert samples.dtype == np.float32
    assert samples.ndim == 1
    assert len(samples) / 16_000 == pytest.approx(2, abs=0.1)
    assert measure(data) == pytest.approx(2, abs=0.1)


@pytest.mark.parametrize("form", ["WAV", "FLAC", "AIFF", "OGG"])
def test_formats_of_recorders(form):
    import soundfile

    file = io.BytesIO()
    soundfile.write(file, tone(1), 16_000, format=form)
    assert len(decode(file.getvalue())) == pytest.approx(16_000, abs=400)


def test_stereo_at_48_khz_is_mixed_down():
    left, right = tone(1, 48_000, 200), tone(1, 48_000, 300)
    both = decode(wav(np.stack([left, right], axis=1), 48_000))
    mono = decode(wav((left + right) / 2, 48_000))
    assert len(both) == pytest.approx(16_000, abs=20)
    # libav keeps the loudness when it mixes: the shape is the same, the scale need not be
    assert np.corrcoef(both, mono)[0, 1] > 0.999


OPUS, MP3 = audio.encode_opus(tone(1), 24_000, 0), mp3(0.5)
BROKEN = {
    "a text file named .mp3": b"to nie jest nagranie\n" * 200,
    "zero bytes": b"",
    "zeros": bytes(10_000),
    "a scrap of an MP3": mp3(2)[:300],
    "a truncated mp4": audio.encode(tone(2), 16_000, 64_000, container="mp4", codec="aac")[:9000],
    "a concat list": b"ffconcat version 1.0\nfile '/etc/passwd'\n",
    "a playlist": b"#EXTM3U\n#EXTINF:5,\nfile:///etc/passwd\n#EXT-X-ENDLIST\n",
    "a playlist of the network": b"#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:1/a\n#EXT-X-ENDLIST\n",
}


@pytest.mark.parametrize("name", BROKEN)
@pytest.mark.parametrize("function", [decode, measure])
def test_what_is_no_audio_is_refused_in_a_sentence(function, name):
    with pytest.raises(Undecodable, match=r"^[A-Z].*\.$"):
        function(BROKEN[name])


@pytest.mark.parametrize("function", [decode, measure])
def test_a_truncated_mp3_is_cut_short(function):
    with pytest.raises(CutShort, match=r"1\.\d s of the 3\.\d s"):
        function(mp3(3)[: len(mp3(3)) // 2])


@pytest.mark.parametrize("function", [decode, measure])
def test_a_video_without_sound(function):
    import av

    file = io.BytesIO()
    with av.open(file, "w", format="mp4") as container:
        stream = container.add_stream("mpeg4", rate=10)
        stream.width = stream.height = 32
        stream.pix_fmt = "yuv420p"
        frame = av.VideoFrame.from_ndarray(np.zeros((32, 32, 3), np.uint8), format="rgb24")
        container.mux(stream.encode(frame))
        container.mux(stream.encode(None))
    with pytest.raises(Undecodable, match="no sound in it"):
        function(file.getvalue())


def test_three_hours_are_not_decoded_past_the_limit():
    minute = audio.encode_opus(np.zeros(60 * 16_000, np.float32), 6_000, 0)
    blocks = []
    with pytest.raises(TooLong, match="more than 30 s"):
        blocks.extend(audio.decode_blocks(minute, 30))
    with pytest.raises(TooLong, match="more than 30 s"):
        blocks.extend(audio.decode_blocks(wav(np.zeros(3 * 3600 * 8_000, np.int16), 8_000), 30))
    with pytest.raises(TooLong, match="more than 30 s"):
        measure(minute)


def test_decoding_is_streamed_in_blocks_of_a_second():
    blocks = list(audio.decode_blocks(io.BytesIO(mp3(5)), 60))
    assert len(blocks) >= 5
    assert max(map(len, blocks)) < 2 * 16_000


def test_one_damaged_packet_does_not_lose_the_rest():
    data = bytearray(mp3(4))
    data[10_000:10_300] = bytes(300)
    assert len(decode(bytes(data))) / 16_000 == pytest.approx(4, abs=0.4)


def without_facts(sound: bytes) -> bytes:
    """An MP3 without its first frame, which tells the length."""
    return sound[sound.index(b"\xff\xfb", 100) :]


@pytest.mark.parametrize("function", [decode, measure])
def test_a_guessed_length_cuts_nothing_short(function):
    """Silence at 32 kbit/s after noise at 256: libav guesses from the first frames."""
    loud = np.random.default_rng(0).standard_normal(48_000).astype(np.float32) * 0.3
    parts = [audio.encode(part, 48_000, rate, container="mp3", codec="libmp3lame")
             for part, rate in [(tone(1, 48_000), 32_000), (loud, 256_000)]]  # fmt: skip
    sound = b"".join(without_facts(part[part.index(b"\xff\xfb") :]) for part in parts)
    assert b"Xing" not in sound and b"Info" not in sound
    result = function(sound)
    assert (result if function is measure else len(result) / 16_000) == pytest.approx(2, abs=0.2)
    assert audio._mp3_tells_length(mp3(1))
    assert audio._mp3_tells_length(id3v2(mp3(1)))
    assert not audio._mp3_tells_length(io.BytesIO(sound))


def test_one_corrupt_frame_header_loses_one_frame():
    data = bytearray(mp3(4))
    place = data.index(b"\xff\xfb", 8_000)
    data[place + 2] ^= 0b0000_0100  # another sample rate
    data[place + 3] ^= 0b1100_0000  # mono to stereo
    assert len(decode(bytes(data))) / 16_000 == pytest.approx(4, abs=0.2)


def test_sound_that_changes_midway_is_refused():
    other = audio.encode(tone(2, 32_000), 32_000, 64_000, container="mp3", codec="libmp3lame")
    with pytest.raises(Undecodable, match="format changes midway"):
        decode(without_facts(mp3(2)) + without_facts(other))


def id3v1(sound: bytes) -> bytes:
    return sound + b"TAG" + "Zażółć gęślą".encode("cp1250").ljust(125, b"\0")


def id3v2(sound: bytes) -> bytes:
    text = b"\x03" + "Zażółć".encode("cp1250")  # 3 promises UTF-8
    frame = b"TIT2" + len(text).to_bytes(4, "big") + b"\0\0" + text
    return b"ID3\x04\0\0" + len(frame).to_bytes(4, "big") + frame + sound


def riff_info(sound: bytes) -> bytes:
    text = "Zażółć\0\0".encode("cp1250")
    info = b"INFOINAM" + len(text).to_bytes(4, "little") + text
    body = sound[8:] + b"LIST" + len(info).to_bytes(4, "little") + info
    return b"RIFF" + len(body).to_bytes(4, "little") + body


TAGGED = {
    "ID3v1": id3v1(mp3(1)),
    "ID3v2": id3v2(mp3(1)),
    "RIFF INFO": riff_info(wav(tone(1))),
}


@pytest.mark.parametrize("name", TAGGED)
def test_tags_that_are_not_utf_8_are_passed_over(name):
    assert len(decode(TAGGED[name])) / 16_000 == pytest.approx(1, abs=0.1)
    assert measure(TAGGED[name]) == pytest.approx(1, abs=0.1)


@settings(deadline=None, max_examples=40)
@given(st.binary(max_size=200), st.integers(0, 3_000))
def test_damage_anywhere_is_sound_or_a_sentence(junk, place):
    for whole in (OPUS, MP3):
        data = whole[:place] + junk + whole[place + len(junk) :]
        with contextlib.suppress(Undecodable, TooLong):
            assert decode(data).dtype == np.float32
        with contextlib.suppress(Undecodable, TooLong):
            assert measure(data) > 0


def test_opus_is_small_and_close():
    samples = tone(5)
    data = audio.encode_opus(samples, 32_000, 0)
    back = decode(data)
    assert len(data) < 5 * 32_000 / 8 * 1.1
    assert len(back) == len(samples)
    assert np.corrcoef(back, samples)[0, 1] > 0.98


@pytest.mark.parametrize("seconds", [1, 4, 29, 30])
@pytest.mark.parametrize("n_mels", [80, 128])
def test_log_mel_equals_whispers_extractor(seconds, n_mels):
    from transformers import WhisperFeatureExtractor

    noise = np.random.default_rng(0).standard_normal(seconds * 16_000).astype(np.float32) * 0.1
    clip = tone(seconds) + noise
    expected = WhisperFeatureExtractor(feature_size=n_mels)(clip, sampling_rate=16_000)
    ours = log_mel(torch.from_numpy(clip)[None], n_mels)
    assert ours.shape == (1, n_mels, 100 * seconds)
    theirs = expected.input_features[0][:, : 100 * seconds]
    np.testing.assert_allclose(ours[0].numpy(), theirs, atol=1e-5)
