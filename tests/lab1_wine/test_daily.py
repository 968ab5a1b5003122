"""The Wine lab's daily run keeps the ledger's promises, as the Iris lab's does."""

from __future__ import annotations

import runpy
import shutil
import sys
from datetime import timedelta

import pandas as pd
import pytest
from _year import FIRST, FailingStore, simulate_year

from lab1_wine import daily, generator, inference
from lab1_wine.schema import LEDGER, PREDICTIONS, SNAPSHOT, SYNTHETIC, WINES
from labstore import NotWritable, open_store
from labstore.ledger import done_dates
from labstore.monitor import snapshot


def synthetic(store):
    wines = store.read(WINES)
    return wines[wines["source"] == SYNTHETIC]


def test_a_date_gets_one_wine_and_one_prediction_and_again_nothing(wine_store):
    assert daily.run_daily(wine_store, FIRST) == [FIRST]
    files = sorted(wine_store.root.rglob("*"))
    assert daily.run_daily(wine_store, FIRST) == []
    assert sorted(wine_store.root.rglob("*")) == files
    assert len(synthetic(wine_store)) == len(wine_store.read(PREDICTIONS)) == 1


def test_missed_dates_are_filled_in_and_joined_by_id(wine_store):
    daily.run_daily(wine_store, FIRST)
    daily.run_daily(wine_store, FIRST + timedelta(days=9))
    history = inference.history(wine_store)
    assert len(history) == 10
    wines = synthetic(wine_store).set_index("wine_id")["quality"]
    assert (history["quality"] == wines.loc[history["wine_id"]].to_numpy()).all()
    content = snapshot.read(wine_store, SNAPSHOT)
    assert len(content["rows"]) == 10 and content["data"] == "offline sample"


@pytest.mark.parametrize("failing_write", [0, 3, 5, 8])
def test_a_failure_is_repaired_by_the_next_run(wine_store, failing_write):
    store = FailingStore(wine_store.root)
    daily.run_daily(store, FIRST)
    store.writes_left = failing_write
    with pytest.raises(NotWritable):
        daily.run_daily(store, FIRST + timedelta(days=1))
    daily.run_daily(open_store(store.root), FIRST + timedelta(days=1))
    assert len(inference.history(open_store(store.root))) == 2
    assert snapshot.read(open_store(store.root), SNAPSHOT)["through"] == "2026-01-02"


def test_a_wine_that_was_predicted_is_kept_when_another_generator_comes(wine_store, monkeypatch):
    """A run is killed between prediction and "done", then another generator is registered."""
    store = FailingStore(wine_store.root)
    daily.run_daily(store, FIRST)
    store.writes_left = 6
    with pytest.raises(NotWritable):
        daily.run_daily(store, FIRST + timedelta(days=1))
    before = synthetic(open_store(store.root))
    monkeypatch.setattr(generator.Copula, "sample", lambda *_, **__: before.assign(alcohol=9.99))
    daily.run_daily(open_store(store.root), FIRST + timedelta(days=1))
    pd.testing.assert_frame_equal(synthetic(open_store(store.root)), before)


@pytest.mark.parametrize(
    ("length", "min_failures"), [(20, 2), pytest.param(60, 6, marks=pytest.mark.slow)]
)
def test_many_failures_and_skipped_days_leave_a_complete_history(
    trained_wine, tmp_path, length, min_failures
):
    """benchmarks/wine.py runs a whole year, as the slow tests of the Iris lab do."""
    root = shutil.copytree(trained_wine, tmp_path / "store")
    assert simulate_year(daily.run_daily, root, days=length) >= min_failures
    store = open_store(root)
    assert len(synthetic(store)) == len(store.read(PREDICTIONS)) == length
    assert len(done_dates(store, LEDGER)) == length


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_command_line_reports_a_failure_in_a_sentence(tmp_path, monkeypatch):
    """`python -m lab1_wine.daily` in this process, which has imported what it needs already."""
    monkeypatch.setenv("LABS_STORE", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "argv", ["daily"])
    with pytest.raises(SystemExit, match="wine_quality") as ended:
        runpy.run_module("lab1_wine.daily", run_name="__main__")
    assert isinstance(ended.value.code, str)  # which Python prints, and exits with status 1
