"""The Modal functions and the GPU benchmark: the same code as on one machine."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from unittest.mock import create_autospec

import pytest
from helpers.models import tiny_whisper

from lab2_whisper.features.shards import build_corpus
from lab2_whisper.features.sources import nano
from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import NANO_CORPUS, LabError, model_of, whisper_language
from lab2_whisper.training.run import Run
from labstore import open_store

ROOT = Path(__file__).parents[2]


@pytest.mark.filterwarnings("ignore")
def test_modal_functions_make_the_same_corpus(tmp_path):
    from lab2_whisper import modal_app

    cloud, here = tmp_path / "cloud", tmp_path / "here"
    plan = modal_app.plan_shards.local(str(NANO_CORPUS), "nano_pl", "pl")
    light = replace(plan, shards=())
    shards = [modal_app.make_shard.local(light, s, str(cloud), 1) for s in plan.shards]
    again = [modal_app.make_shard.local(light, s, str(cloud), 1) for s in plan.shards]
    assert [s.version for s in shards] == [s.version for s in again]  # a retry costs nothing
    made = modal_app.finish.local(light, shards, str(cloud))
    build_corpus(open_store(here), nano(), "nano_pl", processes=1)
    assert made.metadata["clips"] == 440
    stores = [open_corpus(open_store(store), "nano_pl") for store in (cloud, here)]
    assert stores[0].to_list() == stores[1].to_list()


def test_a_container_commits_what_it_made(monkeypatch, tmp_path):
    from lab2_whisper import modal_app

    order = []
    monkeypatch.setattr(modal_app.modal, "is_local", lambda: False)
    monkeypatch.setattr(modal_app, "build_shard", lambda *_: order.append("made") or "version")
    monkeypatch.setattr(modal_app.volume, "commit", lambda: order.append("committed"))
    assert modal_app.make_shard.local(None, None, str(tmp_path), 1) == "version"
    assert order == ["made", "committed"]


def test_whisper_knows_the_locales_language():
    assert [whisper_language(locale) for locale in ("pl", "zh-CN", "sv-SE")] == ["pl", "zh", "sv"]
    with pytest.raises(LabError, match=r"locale 'fy-NL'\. It knows .*pl"):
        whisper_language("fy-NL")


@pytest.mark.filterwarnings("ignore")
def test_modal_trains_in_sessions_and_registers_the_model(tmp_path):
    from lab2_whisper import modal_app

    store = tmp_path / "store"
    build_corpus(open_store(store), nano(), "nano_pl", processes=1)
    model = tiny_whisper(tmp_path / "tiny")
    run = Run("cloud", str(model), steps=4, evaluate_every=2, validation_clips=4, batch_size=8)
    assert modal_app.train_some.local(run, str(store), 1e-9) is None
    figures = modal_app.train_some.local(run, str(store), 60)
    assert open_store(store).load_model(model_of("nano_pl")).metrics == figures


def test_on_modal_a_session_begins_the_next_one_itself(monkeypatch, tmp_path):
    from lab2_whisper import modal_app

    order = []
    monkeypatch.setattr(modal_app.modal, "is_local", lambda: False)
    for name in ("reload", "commit"):
        monkeypatch.setattr(modal_app.volume, name, lambda name=name: order.append(name))
    spawn = create_autospec(modal_app.train_some.spawn, side_effect=lambda *_: order.append("next"))
    monkeypatch.setattr(modal_app.train_some, "spawn", spawn)
    unfinished = SimpleNamespace(finished=False, step=3)
    monkeypatch.setattr(modal_app, "train", lambda *_, **__: order.append("train") or unfinished)
    run = Run("cloud")
    assert modal_app.train_some.local(run, str(tmp_path), 5) is None
    assert order == ["reload", "train", "commit", "next"]
    spawn.assert_called_once_with(run, str(tmp_path), 5)


@pytest.mark.filterwarnings("ignore")
def test_modal_transcribes_recordings(tmp_path, published_nano):
    from lab2_whisper import modal_app

    store = open_store(tmp_path / "store")
    store.save_model(model_of("nano_pl"), published_nano, {"wer": 0.5}, {})
    clip = next((NANO_CORPUS / "pl" / "clips").glob("*.mp3"))
    texts = modal_app.transcribe_recording.local(str(clip), str(store.root), "nano_pl")
    assert set(texts) == {"vtt", "srt", "txt", "json"} and texts["vtt"].startswith("WEBVTT")


def test_the_gpu_benchmark_rehearses_on_a_cpu():
    command = [sys.executable, str(ROOT / "benchmarks" / "gpu_training.py"), "--tiny"]
    ran = subprocess.run([*command, "--steps", "1"], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr[-3000:]
    figures = json.loads(ran.stdout.splitlines()[-1])
    for name in ("original", "small", "medium", "large"):
        assert figures[f"{name}_clips_per_second"] > 0 and f"{name}_peak_gib" in figures
