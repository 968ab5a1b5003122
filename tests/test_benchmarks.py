"""Every benchmark's quick run ends, prints its keys last, and saves no results."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys

import pytest
from helpers.pages import ROOT

KEYS = {
    "iris": "accuracy accuracy_low accuracy_high year_rows year_predictions",
    "wine": "grouped_mse original_grouped_mse grouped_mse_ratio leaky_mse original_leaky_mse "
    "registered_mse_ratio coverage_90 model_mb load_s predict_ms column_shapes pair_trends "
    "synthetic_mse near_copies daily_speedup year_rows year_predictions",
    "corpora": "bytes_ratio seconds_ratio source_bytes_ratio source_seconds_ratio "
    "clips_per_second time_growth_10x memory_growth_10x",
    "training": "baseline_wer tuned_wer test_words seconds kills identical short_context_speedup "
    "short_context_wer_delta full_context_wer short_context_wer baseline_wer_without_mp3 "
    "short_context_fifth_wer_delta short_context_fifth_speedup",
    "gpu_training": "device original_clips_per_second original_peak_gib small_clips_per_second "
    "small_peak_gib medium_clips_per_second medium_peak_gib large_clips_per_second large_peak_gib",
    "transcription": "speedup short_context_speedup cold_start_s first_text_s peak_gib",
}  # tests/labstore runs benchmarks/store.py
LONG = {"training", "gpu_training"}  # tests/lab2_whisper/training covers them in less time


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(KEYS.keys() - LONG))
def test_a_quick_run_prints_its_keys_and_saves_nothing(name):
    if name in ("corpora", "transcription") and not shutil.which("espeak-ng"):
        pytest.skip("needs espeak-ng")
    kept = ROOT / "benchmarks" / "results" / f"{name}.json"
    before = kept.read_bytes() if kept.exists() else None
    run = subprocess.run(
        [sys.executable, str(ROOT / "benchmarks" / f"{name}.py"), "--quick"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    figures = json.loads(run.stdout.splitlines()[-1])
    assert set(KEYS[name].split()) <= set(figures)
    if "year_rows" in KEYS[name]:
        assert figures["year_rows"] == figures["year_predictions"] == 20
    assert (kept.read_bytes() if kept.exists() else None) == before


@pytest.mark.parametrize("name", KEYS)
def test_saved_results_have_every_key_and_name_the_machine(name):
    figures = json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text())
    assert {*KEYS[name].split(), "machine", "versions", "date"} <= set(figures)
