"""Transcription: voice activity, windows, both engines, stopping, and models that cannot be loaded."""

import itertools
import json
import random
import shutil
import subprocess
import sys
import threading
import tracemalloc
from pathlib import Path
from unittest.mock import create_autospec

import numpy as np
import pytest
from helpers.speech import DIGITS as DIGITS_FOLDER
from helpers.speech import mp3, needs_digits, wav
from transformers import WhisperTokenizer

from lab2_whisper import audio
from lab2_whisper.inference import engines
from lab2_whisper.inference.engines import Transcriber, WindowResult
from lab2_whisper.inference.transcribe import (
    SHORT_WINDOW_SECONDS,
    Limits,
    load,
    load_from_store,
    transcribe,
)
from lab2_whisper.inference.vad import (
    CHUNK_SAMPLES,
    CHUNK_SECONDS,
    VoiceActivity,
    speech_windows,
)
from lab2_whisper.nano.make import sentence, synthesize
from lab2_whisper.schema import (
    CT2_FOLDER,
    NANO_CORPUS,
    NANO_MODEL,
    RECORD,
    SAMPLE_RATE,
    LabError,
    model_of,
)
from lab2_whisper.training.dataset import label_ids
from labstore import Damaged, NotFound, open_store

CLIPS = NANO_CORPUS / "pl" / "clips"


@pytest.fixture(scope="module")
def nano(published_nano) -> Transcriber:
    return load(published_nano, device="cpu", threads=1)


@pytest.fixture(scope="module")
def voice() -> np.ndarray:
    """Five clips of the nano corpus: about ten seconds of speech with hardly a pause."""
    clips = [audio.decode((CLIPS / f"common_voice_pl_0200{i}.mp3").read_bytes()) for i in range(5)]
    return np.concatenate(clips)


@pytest.fixture(scope="module")
def without_copy(published_nano, tmp_path_factory) -> Path:
    """The nano model without its CTranslate2 copy, so that transformers runs it."""
    ignore = shutil.ignore_patterns(CT2_FOLDER)
    return shutil.copytree(published_nano, tmp_path_factory.mktemp("whole") / "nano", ignore=ignore)


def silence(seconds: float) -> np.ndarray:
    return np.zeros(round(seconds * SAMPLE_RATE), np.float32)


def in_blocks(samples: np.ndarray, seconds: float = 1.0):
    size = round(seconds * SAMPLE_RATE)
    yield from (samples[i : i + size] for i in range(0, len(samples), size))


# ---------------------------------------------------------------------------- voice activity


def test_voice_activity_in_blocks_equals_one_pass_over_the_recording(voice):
    """Its state is carried from block to block. The reference is faster-whisper's single pass."""
    from faster_whisper.vad import get_vad_model

    samples = voice[: len(voice) // CHUNK_SAMPLES * CHUNK_SAMPLES]
    whole = get_vad_model()(samples.copy()).reshape(-1)
    detect = VoiceActivity()
    blocks = [
        detect(samples[i : i + 31 * CHUNK_SAMPLES])
        for i in range(0, len(samples), 31 * CHUNK_SAMPLES)
    ]
    np.testing.assert_allclose(np.concatenate(blocks)[:-1], whole[:-1], atol=1e-4)
    # without the last chunk: faster-whisper blanks its end


def test_speech_is_found_where_it_is_and_cut_in_the_pauses(voice):
    """Speech at 5, 25 and 60 s; the second pause is too long for one window."""
    parts = [silence(5), voice, silence(4), voice, silence(20), voice, silence(3)]
    starts = np.cumsum([0, *map(len, parts)]) / SAMPLE_RATE
    windows = list(speech_windows(in_blocks(np.concatenate(parts), 0.7)))
    assert len(windows) == 3
    for window, i in zip(windows, (1, 3, 5), strict=True):
        first, last = window.spoken
        assert first == pytest.approx(starts[i], abs=0.3)
        assert last == pytest.approx(starts[i + 1], abs=0.4)
        assert window.start <= first < last <= window.end


def test_a_window_holds_the_unchanged_samples(voice):
    samples = np.concatenate([silence(3), voice, silence(3)])
    (window,) = speech_windows(in_blocks(samples))
    start = round(window.start * SAMPLE_RATE)
    np.testing.assert_array_equal(window.samples, samples[start : start + len(window.samples)])


@pytest.mark.parametrize("max_seconds", [30, 10])
def test_speech_without_a_pause_is_cut_into_windows_of_at_most_max_seconds(voice, max_seconds):
    samples = np.tile(voice, 10)
    windows = list(speech_windows(in_blocks(samples), max_seconds))
    lengths = [window.end - window.start for window in windows]
    assert max(lengths) <= max_seconds
    assert min(lengths[:-1]) > max_seconds / 2 - 1
    for before, after in itertools.pairwise(windows):
        assert after.start >= before.end - 1e-6  # no overlap
    found = sum(window.speech.sum() for window in windows) * CHUNK_SECONDS
    whole = sum(w.speech.sum() for w in speech_windows(in_blocks(samples), 1000)) * CHUNK_SECONDS
    assert found == pytest.approx(whole, rel=0.02)  # nothing is lost


def test_a_window_is_cut_in_a_pause(voice):
    samples = np.concatenate([voice, voice, silence(0.8), voice, voice])
    pause = 2 * len(voice) / SAMPLE_RATE
    first, *_ = speech_windows(in_blocks(samples), max_seconds=pause * 1.3)
    assert first.end == pytest.approx(pause + 0.2, abs=0.6)


def test_the_halves_of_a_window_add_up_to_it(voice):
    (window,) = speech_windows(in_blocks(voice))
    left, right = window.halves()
    assert left.end == pytest.approx(right.start)
    np.testing.assert_array_equal(np.concatenate([left.samples, right.samples]), window.samples)


@pytest.mark.parametrize("noise", [0, 0.002])
def test_silence_and_noise_give_no_window(noise):
    samples = noise * np.random.default_rng(0).standard_normal(20 * SAMPLE_RATE)
    assert not list(speech_windows(in_blocks(samples.astype(np.float32))))


# ------------------------------------------------------------------------------ transcription


def test_segments_have_their_times_in_the_recording(nano, voice):
    samples = np.concatenate([silence(4), voice, silence(5), voice])
    segments = list(transcribe(wav(samples), nano))
    assert segments
    end = 0.0
    for segment in segments:
        assert segment.text == " ".join(segment.text.split()) != ""
        assert 0 <= segment.confidence <= 1
        assert (
            end - 0.01 <= segment.start < segment.end <= len(samples) / SAMPLE_RATE + CHUNK_SECONDS
        )
        end = segment.end
    assert segments[0].start == pytest.approx(4, abs=0.4)
    gap = (4 + len(voice) / SAMPLE_RATE, 9 + len(voice) / SAMPLE_RATE)
    assert not [s for s in segments if gap[0] + 0.4 < s.end and s.start < gap[1] - 0.4]


def test_words_add_up_to_the_text_and_lie_inside_their_segment(nano, voice):
    assert nano.word_times
    for segment in transcribe(wav(voice), nano):
        assert " ".join(word.text for word in segment.words) == segment.text
        for word in segment.words:
            assert segment.start <= word.start <= word.end <= segment.end
            assert 0 <= word.confidence <= 1
        starts = [word.start for word in segment.words]
        assert starts == sorted(starts)


@pytest.mark.skipif(not shutil.which("espeak-ng"), reason="needs espeak-ng")
def test_the_nano_model_understands_the_voices_of_its_training(nano):
    """With a loose bound: this checks that sound, prompt and text belong together."""
    import jiwer

    rng = random.Random(3)
    references = [sentence(rng) for _ in range(12)]
    voices = ["m1", "m3", "max"] * 4
    sounds = [synthesize(text, voice, 40) for text, voice in zip(references, voices, strict=True)]
    hypotheses = [" ".join(s.text for s in transcribe(wav(sound), nano)) for sound in sounds]
    assert jiwer.wer(references, hypotheses) < 0.9


def test_both_engines_give_nearly_the_same_text(nano, without_copy):
    """The CTranslate2 copy is in int8, so a word may differ; most do not."""
    import jiwer

    slow = load(without_copy, device="cpu")
    assert slow.engine.startswith("transformers")
    assert not slow.word_times
    texts = []
    for name in ("common_voice_pl_02000.mp3", "common_voice_pl_02001.mp3"):
        (one,), (other,) = transcribe(CLIPS / name, slow), transcribe(CLIPS / name, nano)
        assert one.words == ()
        assert one.start == pytest.approx(other.start, abs=0.5)
        assert one.end == pytest.approx(other.end, abs=0.5)
        assert 0 < one.confidence <= 1
        texts.append((one.text, other.text))
    assert jiwer.wer(*map(list, zip(*texts, strict=True))) < 0.5


def test_the_prompt_in_serving_equals_the_prompt_in_training(nano):
    tokenizer = WhisperTokenizer.from_pretrained(NANO_MODEL, language="pl", task="transcribe")
    text = "Dziś jest piątego maja."
    labels = label_ids(tokenizer, text)
    prompt = nano.transcribe_window.__self__.prompt("pl")
    assert prompt[0] == tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert prompt[1:] == labels[: len(prompt) - 1]
    assert tokenizer.decode(labels[len(prompt) - 1 :], skip_special_tokens=False).startswith(text)


@pytest.fixture(scope="module", params=[True, False], ids=["short windows", "30 s windows"])
def recorded(request, published_nano, tmp_path_factory) -> tuple[Transcriber, bool]:
    """The nano model with a short audio context or without, and which of the two it is."""
    folder = shutil.copytree(published_nano, tmp_path_factory.mktemp("recorded") / "nano")
    (folder / RECORD).write_text(json.dumps({"short_context": request.param}))
    return load(folder, device="cpu"), request.param


@pytest.mark.parametrize("seconds", [2.4, 9.0, 29.0, 30.0])
def test_the_log_mel_of_a_window_equals_that_of_training(recorded, seconds):
    import torch

    model, short = recorded
    assert model.short_audio_context == short
    samples = np.random.default_rng(0).standard_normal(round(seconds * SAMPLE_RATE))
    samples = (0.1 * samples).astype(np.float32)
    mel = model.transcribe_window.__self__.log_mel(samples)
    whole = -(-len(samples) // SAMPLE_RATE) if short else 30
    padded = np.pad(samples, (0, whole * SAMPLE_RATE - len(samples)))
    assert mel.shape == (80, whole * 100)
    np.testing.assert_allclose(mel, audio.log_mel(torch.from_numpy(padded)[None])[0], atol=2e-3)


def test_silence_gives_no_text(nano):
    assert not list(transcribe(wav(silence(5)), nano))


@pytest.mark.parametrize("minutes", [5, pytest.param(60, marks=pytest.mark.slow)])
def test_hours_of_silence_give_no_text_and_no_error(nano, minutes):
    seconds, reports = 60 * minutes, []
    quiet = audio.encode(silence(seconds), SAMPLE_RATE, 8_000, container="flac", codec="flac")
    assert not list(transcribe(quiet, nano, on_progress=lambda *now: reports.append(now)))
    assert reports[-1] == (pytest.approx(seconds, abs=1), pytest.approx(seconds, abs=1))


def test_progress_never_goes_back_and_ends_at_the_end(nano, voice):
    samples, reports = np.concatenate([voice, silence(5)] * 4), []
    list(transcribe(wav(samples), nano, on_progress=lambda *now: reports.append(now)))
    done = [now[0] for now in reports]
    assert done == sorted(done)
    assert done[0] == 0
    assert done[-1] == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.1)
    assert all(total == pytest.approx(len(samples) / SAMPLE_RATE, abs=0.5) for _, total in reports)


def stand_in(
    lengths: list[float], finished=lambda samples: True, then=lambda: None, short: bool = False
) -> Transcriber:
    """A stand-in for a slow model: `lengths` receives the seconds of each window."""

    def transcribe_window(samples: np.ndarray, language: str) -> WindowResult:
        lengths.append(len(samples) / SAMPLE_RATE)
        then()
        return WindowResult("tekst", (), 1.0, finished(samples))

    return Transcriber("a stand-in", "none", ("pl",), short, False, transcribe_window)


def test_after_stop_no_further_window_is_transcribed(voice):
    stop, lengths = threading.Event(), []
    model = stand_in(lengths, then=stop.set)
    samples = np.concatenate([voice, silence(3)] * 5)
    assert len(list(transcribe(wav(samples), model, stop=stop))) == 1
    assert len(lengths) == 1


def test_stop_is_noticed_in_hours_of_silence():
    stop, read = threading.Event(), []

    def progress(done, total):
        read.append(done)
        if done > 5:
            stop.set()

    quiet = audio.encode(silence(600), SAMPLE_RATE, 8_000, container="flac", codec="flac")
    assert not list(transcribe(quiet, stand_in([]), stop=stop, on_progress=progress))
    assert read[-1] < 10


def test_the_first_text_comes_before_the_rest_is_decoded(voice):
    """An error at the end of a file is raised after the text before it, too."""
    samples = np.concatenate([np.concatenate([voice, silence(3)])] * 6)
    whole = audio.encode(samples, SAMPLE_RATE, 48_000, container="mp3", codec="libmp3lame")
    found = []
    with pytest.raises(LabError, match="cut short"):
        for segment in transcribe(whole[: len(whole) // 2], stand_in([])):
            found.append(segment)
    assert len(found) == 3


def test_a_window_that_the_model_does_not_finish_is_transcribed_in_halves(voice):
    """The model loops, or the window holds more words than it can take."""
    lengths = []
    model = stand_in(lengths, finished=lambda samples: len(samples) < 4 * SAMPLE_RATE)
    segments = list(transcribe(wav(voice), model))
    assert max(lengths) > 4
    assert len(segments) == sum(seconds < 4 for seconds in lengths) > 2
    for before, after in itertools.pairwise(segments):
        assert before.end <= after.start + 0.01


def test_a_short_window_that_the_model_does_not_finish_gives_no_text(voice):
    """A loop is not a transcript."""
    lengths = []
    assert not list(transcribe(wav(voice), stand_in(lengths, finished=lambda samples: False)))
    assert min(lengths) < 2


def test_a_model_with_a_short_audio_context_gets_short_windows(voice):
    recording, long, short = wav(np.tile(voice, 5)), [], []
    list(transcribe(recording, stand_in(long)))
    assert max(long) > 20
    list(transcribe(recording, stand_in(short, short=True)))
    assert max(short) <= SHORT_WINDOW_SECONDS


def test_five_minutes_take_no_more_memory_than_one(voice):
    """Python's and numpy's share; benchmarks/transcription.py measures the process."""
    minute = np.concatenate([voice, silence(60 - len(voice) / SAMPLE_RATE)])
    files = [
        audio.encode(np.tile(minute, n), SAMPLE_RATE, 8_000, container="flac", codec="flac")
        for n in (1, 5)
    ]
    peaks = []
    for file in [files[0], *files]:  # the first to load what is loaded once
        tracemalloc.start()
        list(transcribe(file, stand_in([])))
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < peaks[1] + 2 * 2**20
    assert peaks[2] < 20 * 2**20


def test_two_visitors_may_transcribe_at_the_same_time(nano, voice):
    alone = [s.text for s in transcribe(wav(voice), nano)]
    found = {}

    def visit(i):
        found[i] = [s.text for s in transcribe(wav(voice), nano)]

    threads = [threading.Thread(target=visit, args=(i,)) for i in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert found == {0: alone, 1: alone}


@needs_digits
def test_real_speech_is_found_where_it_is():
    files = sorted(DIGITS_FOLDER.glob("*_george_1*.wav"))[:8]
    parts = [audio.decode(file.read_bytes()) for file in files]
    samples = np.concatenate([silence(2), *parts, silence(6), *parts])
    windows = list(speech_windows(in_blocks(samples)))
    assert len(windows) == 2
    assert windows[0].spoken[0] == pytest.approx(2, abs=0.5)


# ------------------------------------------------------------------------------- what goes wrong


def test_a_language_that_the_model_does_not_know_is_refused(nano):
    with pytest.raises(LabError, match=r"does not know the language 'de'. It knows pl\.$"):
        list(transcribe(wav(silence(1)), nano, language="de"))


@pytest.mark.parametrize("content", [b"to nie jest nagranie\n" * 500, mp3(1)[:200]])
def test_the_error_for_a_bad_file_names_the_kinds_that_can_be_read(nano, content):
    with pytest.raises(LabError, match=r"^[A-Z].*Files that can be read: wav, mp3, .*\.$"):
        list(transcribe(content, nano))


def test_limits_apply_to_the_decoder(nano):
    with pytest.raises(LabError, match="limit"):
        list(transcribe(mp3(5), nano, limits=Limits(seconds=2)))


@pytest.mark.parametrize("name", ["no/such/folder", "models", Path("a/b"), "./a/b"])
def test_a_missing_model_is_reported_in_one_sentence(name):
    with pytest.raises(LabError, match=r"^There is no model folder .*openai/whisper-small'\.$"):
        load(name)


def test_a_model_on_the_hub_without_a_network_is_reported_in_one_sentence(monkeypatch):
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(LabError, match=r"could not be fetched from the Hub .*network\.$"):
        load("no-owner-here/no-model-here")


def cut(file: Path) -> None:
    file.write_bytes(file.read_bytes()[: file.stat().st_size // 2])


def edit_settings(folder: Path, **changes) -> None:
    file = folder / "generation_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


DAMAGE = {
    "half of the copy's weights": lambda folder: cut(folder / CT2_FOLDER / "model.bin"),
    "weights of nothing": lambda folder: (folder / CT2_FOLDER / "model.bin").write_bytes(b"x" * 99),
    "half of the tokenizer": lambda folder: cut(folder / CT2_FOLDER / "tokenizer.json"),
    "no tokenizer": lambda folder: (folder / CT2_FOLDER / "tokenizer.json").unlink(),
    "half of the settings": lambda folder: cut(folder / "generation_config.json"),
    "half of the record": lambda folder: cut(folder / RECORD),
    "a record of another kind": lambda folder: (folder / RECORD).write_text("[1]"),
    "languages that are a number": lambda folder: edit_settings(folder, lang_to_id=5),
    "languages that are a list": lambda folder: edit_settings(folder, lang_to_id=[1, 2]),
    "a tokenizer of another kind": lambda folder: (
        folder / CT2_FOLDER / "tokenizer.json"
    ).write_text("[]"),
    "an empty tokenizer": lambda folder: (folder / CT2_FOLDER / "tokenizer.json").write_text(
        "null"
    ),
    "no copy, and tokenizer settings of another kind": lambda folder: (
        shutil.rmtree(folder / CT2_FOLDER),
        (folder / "tokenizer_config.json").write_text("[]"),
    ),
    "no copy, and half of the weights": lambda folder: (
        shutil.rmtree(folder / CT2_FOLDER),
        cut(folder / "model.safetensors"),
    ),
    "an empty folder": lambda folder: (shutil.rmtree(folder), folder.mkdir()),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_model_is_reported_in_one_sentence(published_nano, tmp_path, name):
    folder = shutil.copytree(published_nano, tmp_path / "nano")
    DAMAGE[name](folder)
    sentence = r"^The model in .* is damaged, or is not a Whisper model .*\.$"
    with pytest.raises(LabError, match=sentence) as caught:
        load(folder, device="cpu")
    assert "\n" not in str(caught.value)
    assert caught.value.__cause__  # what the library raised


@pytest.mark.parametrize("bug", [TypeError, AttributeError, NameError])
@pytest.mark.parametrize("place", ["Traits", "CTranslate2Engine"])
def test_a_bug_is_not_reported_as_a_damaged_model(published_nano, monkeypatch, place, bug):
    monkeypatch.setattr(engines, place, create_autospec(getattr(engines, place), side_effect=bug))
    with pytest.raises(bug):
        load(published_nano, device="cpu")


def test_a_ctranslate2_copy_alone_can_be_loaded(published_nano, tmp_path):
    folder = shutil.copytree(published_nano / CT2_FOLDER, tmp_path / "copy")
    model = load(folder, device="cpu")
    assert model.word_times
    assert "pl" in model.languages
    assert list(transcribe(CLIPS / "common_voice_pl_02000.mp3", model))


def test_the_best_model_of_a_store_is_served(published_nano, tmp_path):
    store = open_store(tmp_path / "store")
    with pytest.raises(NotFound):
        load_from_store(store, "nano_pl")
    version = store.save_model(model_of("nano_pl"), published_nano, {"wer": 0.2}, {})
    model = load_from_store(store, "nano_pl", device="cpu")
    assert version.version in model.name
    assert model.short_audio_context
    assert list(transcribe(CLIPS / "common_voice_pl_02000.mp3", model))
    (version.path / CT2_FOLDER / "model.bin").write_bytes(b"changed")
    with pytest.raises(Damaged, match=r"model\.bin"):
        load_from_store(open_store(tmp_path / "store"), "nano_pl")


def test_a_model_without_a_copy_is_run_by_transformers_in_windows_of_30_s(
    without_copy, monkeypatch
):
    model = load(without_copy, device="cpu")
    assert model.engine.startswith("transformers") and not model.short_audio_context
    monkeypatch.setitem(sys.modules, "torch", None)  # as if it were not installed
    with pytest.raises(LabError, match=r"needs torch: install it, or give .* CTranslate2 copy"):
        load(without_copy, device="cpu")


def test_an_english_only_model_is_refused_in_one_sentence(without_copy, tmp_path):
    folder = shutil.copytree(without_copy, tmp_path / "nano.en")
    settings = json.loads((folder / "generation_config.json").read_text())
    del settings["lang_to_id"]
    (folder / "generation_config.json").write_text(json.dumps(settings))
    with pytest.raises(
        LabError, match=r"lists no languages .* English only\. Give a multilingual one"
    ):
        load(folder, device="cpu")


def test_a_ctranslate2_copy_needs_neither_torch_nor_transformers(published_nano):
    """As in a Space, where neither is installed and the page starts in a second."""
    code = """
import os, sys
sys.modules["torch"] = sys.modules["transformers"] = None  # as if they were not installed
from lab2_whisper.inference.transcribe import load, transcribe
assert os.environ["ORT_DISABLE_TELEMETRY"] and "onnxruntime" not in sys.modules
print([segment.text for segment in transcribe(sys.argv[1], load(sys.argv[2]))])
"""
    command = [sys.executable, "-c", code, str(CLIPS / "common_voice_pl_02000.mp3")]
    run = subprocess.run(
        [*command, str(published_nano)], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("['")
