"""Writers of the folder store that stop at each write or are killed at random."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path

import pytest
from _year import FailingStore
from helpers.stores import FLOWERS, flower, frame, ids

from labstore import NotWritable
from labstore.files import FileStore

slow = pytest.mark.slow  # processes are killed while they start, again and again

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.mark.parametrize("writes", range(8))
def test_a_writer_that_stops_within_any_write_leaves_a_readable_store(root, tmp_path, writes):
    """Half of the last file is written; every file of an insert and of a version is hit once."""
    failing, source = FailingStore(root), tmp_path / "source"
    failing.writes_left = writes
    with pytest.raises(NotWritable):
        for number in range(9):
            failing.insert(FLOWERS, frame(flower("d", 3)))
            failing.save_files("shards", source, {"number": number})
    store = FileStore(root)
    assert ids(store.read(FLOWERS))[:3] == ["a", "b", "c"]
    assert ("d" in ids(store.read(FLOWERS))) == (writes >= 2)  # rows, then their manifest
    # The version of the fixture, and a second one after two files and their manifest.
    assert len(store.list_files("shards")) == 1 + (writes >= 5)
    store.insert(FLOWERS, frame(flower("e", 4)))
    assert store.open_files("shards", store.save_files("shards", source, {}).version)
    assert ids(store.read(FLOWERS))[-1] == "e"


@pytest.fixture
def race(monkeypatch):
    """The benchmark's race: writers are killed at random, and rows compared after each kill."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("store").race


@slow
def test_a_writer_killed_at_any_moment_leaves_a_readable_store(race, tmp_path):
    found = race(tmp_path, writers=1, inserts=40, life=0.3)
    assert found["kills"] >= 3
    assert (found["acknowledged"], found["lost"], found["duplicated"]) == (40, 0, 0)


@slow
@pytest.mark.parametrize("links", [True, False], ids=["usual folder", "no links, renames or locks"])
def test_writers_killed_together_lose_and_duplicate_nothing(race, tmp_path, links):
    found = race(tmp_path, writers=8, inserts=20, links=links, life=0.6)
    assert found["kills"] >= 3
    assert (found["acknowledged"], found["lost"], found["duplicated"]) == (160, 0, 0)


@slow
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
