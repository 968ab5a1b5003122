"""The daily run: complete, exact and repeatable, whatever fails in between."""

from __future__ import annotations

import runpy
import shutil
import sys
from datetime import timedelta

import pytest
from _year import FIRST, FailingStore, simulate_year

from lab1_iris import daily, inference, training
from lab1_iris.schema import FLOWERS, LEDGER, PREDICTIONS, SNAPSHOT, SYNTHETIC
from labstore import NotFound, NotWritable, open_store
from labstore.ledger import done_dates, missed_dates
from labstore.monitor import snapshot


def synthetic(store):
    flowers = store.read(FLOWERS)
    return flowers[flowers["source"] == SYNTHETIC]


def test_the_first_run_does_its_own_date_only(iris_store):
    assert daily.run_daily(iris_store, FIRST) == [FIRST]
    assert len(synthetic(iris_store)) == len(iris_store.read(PREDICTIONS)) == 1
    [entry] = done_dates(iris_store, LEDGER).to_dict("records")
    assert (entry["date"], entry["rows"]) == ("2026-01-01", 1)


def test_the_same_date_again_changes_no_file(iris_store):
    daily.run_daily(iris_store, FIRST)
    files = sorted(iris_store.root.rglob("*"))
    assert daily.run_daily(iris_store, FIRST) == []
    assert sorted(iris_store.root.rglob("*")) == files


def test_missed_dates_are_filled_in(iris_store):
    daily.run_daily(iris_store, FIRST)
    done = daily.run_daily(iris_store, FIRST + timedelta(days=9))
    assert done == [FIRST + timedelta(days=n) for n in range(1, 10)]
    assert len(inference.history(iris_store)) == 10


def test_a_date_before_the_first_starts_the_history_earlier(iris_store):
    daily.run_daily(iris_store, FIRST)
    daily.run_daily(iris_store, FIRST - timedelta(days=3))
    daily.run_daily(iris_store, FIRST)
    assert len(inference.history(iris_store)) == 4


def test_a_new_model_predicts_from_then_on_and_keeps_what_was_predicted(iris_store):
    daily.run_daily(iris_store, FIRST)
    old = inference.load(iris_store).record
    flowers = training.load_training_rows(iris_store)
    comparison = training.compare(flowers, repeats=1, seed=3)
    comparison.table.loc[comparison.best, "log_loss"] = old.metrics["log_loss"] / 2
    new = training.register(iris_store, flowers, comparison)
    daily.run_daily(iris_store, FIRST + timedelta(days=1))
    versions = inference.history(iris_store)["model_version"].tolist()
    assert versions == [old.version, new.version]


def test_label_and_prediction_are_joined_by_id_not_by_place(iris_store):
    daily.run_daily(iris_store, FIRST)
    daily.run_daily(iris_store, FIRST + timedelta(days=20))
    flowers = synthetic(iris_store).set_index("flower_id")["species"]
    history = inference.history(iris_store)
    assert (history["species"] == flowers.loc[history["flower_id"]].to_numpy()).all()


def test_a_date_done_again_by_a_newer_model_counts_once(iris_store):
    """A run is killed between prediction and "done", then a better model is registered."""
    store = FailingStore(iris_store.root)
    daily.run_daily(store, FIRST)
    store.writes_left = 6  # pending, flower and prediction are written, "done" is not
    with pytest.raises(NotWritable):
        daily.run_daily(store, FIRST + timedelta(days=1))
    store = open_store(iris_store.root)
    flowers = training.load_training_rows(store)
    comparison = training.compare(flowers, repeats=1, seed=3)
    comparison.table.loc[comparison.best, "log_loss"] = 0.001
    training.register(store, flowers, comparison)
    daily.run_daily(store, FIRST + timedelta(days=1))
    assert len(store.read(PREDICTIONS)) == 3
    rows = snapshot.read(store, SNAPSHOT)["rows"]
    assert [row["date"] for row in rows] == ["2026-01-01", "2026-01-02"]


def test_a_run_that_fails_late_does_not_undo_a_date_that_another_run_did(iris_store, monkeypatch):
    """Two runs overlap: while the later one works on a date, the other finishes it."""

    def the_other_run_is_faster(classifier, flower):
        monkeypatch.undo()
        daily.run_daily(open_store(iris_store.root), FIRST)
        raise RuntimeError("made to fail")

    monkeypatch.setattr(inference, "predict", the_other_run_is_faster)
    with pytest.raises(RuntimeError):
        daily.run_daily(iris_store, FIRST)
    assert done_dates(iris_store, LEDGER)["date"].tolist() == ["2026-01-01"]
    assert missed_dates(iris_store, LEDGER, FIRST) == []


def test_a_damaged_snapshot_is_made_again(iris_store):
    daily.run_daily(iris_store, FIRST)
    path = iris_store.open_files(SNAPSHOT).path / "snapshot.json"
    path.write_text("{}")
    daily.run_daily(open_store(iris_store.root), FIRST)
    assert snapshot.read(open_store(iris_store.root), SNAPSHOT)["through"] == "2026-01-01"


def test_without_a_model_nothing_is_written(tmp_path):
    with pytest.raises(NotFound, match="iris_species"):
        daily.run_daily(open_store(tmp_path), FIRST)
    assert not list(tmp_path.rglob("*"))


@pytest.mark.parametrize("failing_write", range(10))  # all writes of a run, two for the snapshot
def test_a_failure_at_any_write_is_repaired_by_the_next_run(iris_store, failing_write):
    store = FailingStore(iris_store.root)
    daily.run_daily(store, FIRST)
    store.writes_left = failing_write
    with pytest.raises(NotWritable):
        daily.run_daily(store, FIRST + timedelta(days=1))
    store.writes_left = None
    daily.run_daily(open_store(store.root), FIRST + timedelta(days=1))
    history = inference.history(open_store(store.root))
    assert history["measured_at"].dt.date.tolist() == [FIRST, FIRST + timedelta(days=1)]
    content = snapshot.read(open_store(store.root), SNAPSHOT)
    assert content["through"] == "2026-01-02" and len(content["rows"]) == 2


@pytest.mark.parametrize(
    ("length", "min_failures"), [(40, 4), pytest.param(365, 40, marks=pytest.mark.slow)]
)
def test_many_failures_and_skipped_days_leave_a_complete_history(
    trained_iris, tmp_path, length, min_failures
):
    root = shutil.copytree(trained_iris, tmp_path / "store")
    assert simulate_year(daily.run_daily, root, days=length) >= min_failures
    store = open_store(root)
    days = [(FIRST + timedelta(days=n)).isoformat() for n in range(length)]
    assert len(synthetic(store)) == length
    assert len(store.read(PREDICTIONS)) == length
    assert done_dates(store, LEDGER)["date"].tolist() == days
    content = snapshot.read(store, SNAPSHOT)
    assert content["through"] == days[-1] and len(content["rows"]) == length


@pytest.mark.filterwarnings("ignore:.*found in sys.modules")
def test_the_command_line_reports_a_failure_in_a_sentence(tmp_path, monkeypatch):
    """`python -m lab1_iris.daily` in this process, which has imported what it needs already."""
    monkeypatch.setenv("LABS_STORE", str(tmp_path / "empty"))
    monkeypatch.setattr(sys, "argv", ["daily"])
    with pytest.raises(SystemExit, match="iris_species") as ended:
        runpy.run_module("lab1_iris.daily", run_name="__main__")
    assert isinstance(ended.value.code, str)  # which Python prints, and exits with status 1


def test_an_unchanged_snapshot_is_not_published_again(iris_store):
    daily.run_daily(iris_store, FIRST)
    content = daily.snapshot_content(iris_store, inference.load(iris_store).record)
    assert snapshot.publish(iris_store, SNAPSHOT, content) is None
