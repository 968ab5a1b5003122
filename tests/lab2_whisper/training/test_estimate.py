"""Estimates: the batch size that fits, hours and sessions, space for checkpoints."""

import re
import shutil
from dataclasses import replace

import pytest
import torch
from helpers.models import tiny_run

from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import NANO_TOKENIZER, LabError
from lab2_whisper.training import estimate as estimating
from lab2_whisper.training import presets
from lab2_whisper.training.estimate import (
    estimate,
    find_batch_size,
    forecast,
    largest_batch,
    max_batch_size,
)


def runs_up_to(limit: int):
    def runs(batch_size: int) -> None:
        if batch_size > limit:
            raise torch.OutOfMemoryError

    return runs


def test_the_largest_batch_that_fits_is_found():
    assert largest_batch(runs_up_to(11), 64) == 8
    assert largest_batch(runs_up_to(11), 4) == 4
    assert largest_batch(runs_up_to(11), 30) == 10  # three make up a step
    assert largest_batch(runs_up_to(0), 64) == 0


def test_other_errors_are_not_taken_for_a_lack_of_memory():
    def fails(_):
        raise RuntimeError("shape mismatch")

    with pytest.raises(RuntimeError, match="shape mismatch"):
        largest_batch(fails, 64)


def test_where_not_even_one_clip_fits_the_error_names_what_to_do(monkeypatch, capsys):
    preset, model = presets.choose(10_000, "t4"), torch.nn.Linear(1, 1)
    cpu = presets.devices()
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "a GPU")
    monkeypatch.setattr(estimating, "devices", lambda: cpu)
    monkeypatch.setattr(estimating, "largest_batch", lambda runs, limit: limit // 2)
    assert find_batch_size(model, preset) == 8
    assert "Batch size 8: the most clips of 10 s that fit into a GPU." in capsys.readouterr().out
    monkeypatch.setattr(estimating, "largest_batch", lambda runs, limit: 0)
    with pytest.raises(LabError, match=r"Not even one clip fits.*smaller model"):
        find_batch_size(model, preset)


def test_fewer_clips_of_longer_windows_fit():
    assert [max_batch_size(32, seconds) for seconds in (5, 10, 20, 30)] == [32, 32, 16, 10]
    assert max_batch_size(1, 30) == 1


def test_a_forecast_has_hours_and_sessions():
    text = forecast(3.6, 10_000, scoring_seconds=1.5 * 3600)
    assert text.startswith("10000 steps of 3.60 s and 1.5 hours of scoring: 11.5 hours, 3 session")


def test_an_estimate_has_hours_sessions_and_space(store, run):
    text = estimate(store, replace(run, steps=1000))
    steps = r"1000 steps of [\d.]+ s and [\d.]+ hours of scoring"
    assert re.search(steps + r": [\d.]+ hours, \d+ session\(s\) of 4 hours", text)
    assert re.search(r"GB on the store, and two are kept: [\d.]+ GB are free\.", text)


@pytest.fixture
def instant(monkeypatch) -> list[bool]:
    """No pass is timed: a clip's transcript takes an hour. Records whether autocast was on."""
    autocast = []

    def an_hour(*_):
        autocast.append(torch.is_autocast_enabled("cpu"))
        return 3600.0

    monkeypatch.setattr(estimating, "_seconds_per_transcript", an_hour)
    monkeypatch.setattr(estimating, "_seconds_per_step", lambda *_: 1.0)
    return autocast


def test_an_estimate_counts_the_baseline_and_uses_the_presets_precision(store, run, instant):
    clips = 3 * 2 + 2 * len(open_corpus(store, "nano_pl", "test"))  # evaluated at 0, 4 and 8
    assert f"{clips}.0 hours of scoring" in estimate(store, run)
    half = replace(run.preset, precision="bfloat16")
    text = estimate(store, replace(run, preset=half), minutes=200)
    assert "of 3.33 hours" in text and instant == [False, True]


@pytest.mark.usefixtures("instant")
def test_an_estimate_warns_where_two_checkpoints_do_not_fit(store, run, monkeypatch):
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 15 * 10**9))
    monkeypatch.setattr(estimating, "checkpoint_gb", lambda *_: 8.0)
    warning = "8.0 GB on the store, and two are kept, but only 15.0 GB are free"
    assert warning in estimate(store, run)
    store.save_files("checkpoint_r", NANO_TOKENIZER, {})  # this one will be replaced
    assert "two are kept: 15.0 GB are free." in estimate(store, run)
    monkeypatch.setattr(store, "free_bytes", lambda: None)
    assert estimate(store, run).endswith("and two are kept.")


def test_the_batch_size_of_a_run_is_used(store, tiny_model, instant):
    assert "batch size 3." in estimate(store, tiny_run(tiny_model, batch_size=3))
