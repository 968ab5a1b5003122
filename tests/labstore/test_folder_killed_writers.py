"""Writers of the folder store that are killed at random, and the benchmark that does the same."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.slow  # processes that are killed while they start, again and again

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def race(monkeypatch):
    """The benchmark's race: writers are killed at random, and rows compared after each kill."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("store").race


def test_a_writer_killed_at_any_moment_leaves_a_readable_store(race, tmp_path):
    found = race(tmp_path, writers=1, inserts=40, life=0.3)
    assert found["kills"] >= 3
    assert (found["acknowledged"], found["lost"], found["duplicated"]) == (40, 0, 0)


@pytest.mark.parametrize("links", [True, False], ids=["usual folder", "no links, renames or locks"])
def test_writers_killed_together_lose_and_duplicate_nothing(race, tmp_path, links):
    found = race(tmp_path, writers=8, inserts=20, links=links, life=0.6)
    assert found["kills"] >= 3
    assert (found["acknowledged"], found["lost"], found["duplicated"]) == (160, 0, 0)


def test_the_benchmark_runs_alone_and_a_quick_run_keeps_no_results():
    results = BENCHMARKS / "results/store.json"
    before = results.read_bytes()
    command = [sys.executable, str(BENCHMARKS / "store.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() - {"quick"} == json.loads(before).keys() - {"machine", "versions", "date"}
    for name in ("lost", "duplicated", "lost_without_links", "duplicated_without_links"):
        assert figures[name] == json.loads(before)[name] == 0
    assert results.read_bytes() == before
