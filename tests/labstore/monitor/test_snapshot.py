"""Snapshots: what is refused, with the name of what is wrong, and what is read."""

from __future__ import annotations

import json

import pytest

from labstore import StoreError, open_store
from labstore.monitor import snapshot

NAN, INF = float("nan"), float("inf")


@pytest.fixture
def content():
    """A snapshot with what every lab's snapshot holds."""
    days = ["2026-01-02", "2026-01-01"]
    return {
        "lab": "rose",
        "data": "real",
        "through": "2026-01-02",
        "last_run": "2026-01-02T06:00:00+00:00",
        "dates": days,
        "model": {"version": "v1", "algorithm": "guessing"},
        "rows": [{"date": day, "model_version": "v1", "petals": 5} for day in days],
    }


@pytest.mark.parametrize("text", ["", "no json", "[]", "{}", '"through"', "[" * 100_000])
def test_an_unreadable_snapshot_is_a_sentence(tmp_path, text):
    (tmp_path / "snapshot.json").write_text(text)
    with pytest.raises(StoreError, match="snapshot"):
        snapshot.fetch(tmp_path / "snapshot.json")
    with pytest.raises(StoreError, match="LABS_SNAPSHOT"):
        snapshot.fetch(tmp_path / "absent.json")


def test_a_snapshot_is_read_from_a_file_and_its_rows_are_ordered(tmp_path, content):
    (tmp_path / "snapshot.json").write_text(json.dumps(content))
    fetched = snapshot.fetch(tmp_path / "snapshot.json")
    assert fetched == content
    rows = snapshot.table(fetched)
    assert rows.columns.tolist() == ["date", "model_version"]
    assert rows["date"].tolist() == ["2026-01-01", "2026-01-02"]


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (lambda c: c.pop("through"), "through is missing"),
        (lambda c: c.update(through="yesterday"), "through is 'yesterday', .* a date such as"),
        (lambda c: c.update(lab=None), "lab has no value"),
        (lambda c: c.update(data=3), "data is 3, where it must be text"),
        (lambda c: c["model"].pop("version"), r"model\.version is missing"),
        (lambda c: c.update(model=[1]), r"model\.version is missing"),
        (lambda c: c.update(dates="2026-01-01"), "dates is '2026-01-01'"),
        (lambda c: c.update(dates=["2026-02-30"]), "dates: date is '2026-02-30'"),
        (lambda c: c["model"].update(accuracy=10**400), "int too large"),
        (lambda c: c["rows"][0].update(petals=10**400), "rows: int too large"),
        (lambda c: c["model"].update(accuracy=NAN), r"model\.accuracy is nan, .* finite number"),
        (lambda c: c["rows"][1].update(petals=-INF), r"rows\[1\]\.petals is -inf"),
        (lambda c: c.update(training={"ph": [3.2, INF]}), r"training\.ph\[1\] is inf"),
        (lambda c: c.update(rows={}), "rows is {}"),
        (lambda c: c.update(rows=[]), r"rows is \[\]"),
        (lambda c: c.update(rows=[1, 2]), r"rows is \[1, 2\]"),
        (lambda c: c["rows"][0].pop("model_version"), "rows: model_version"),
        (lambda c: [row.pop("date") for row in c["rows"]], "rows: date is missing"),
    ],
)
def test_a_broken_or_foreign_snapshot_is_refused_with_what_is_wrong(
    tmp_path, content, spoil, words
):
    spoil(content)
    (tmp_path / "snapshot.json").write_text(json.dumps(content))
    with pytest.raises(StoreError, match=words):
        snapshot.fetch(tmp_path / "snapshot.json")


def test_an_enormous_snapshot_is_not_read(tmp_path, monkeypatch):
    monkeypatch.setattr(snapshot, "MAX_BYTES", 1_000_000)
    (tmp_path / "snapshot.json").write_bytes(b" " * 1_000_001)
    with pytest.raises(StoreError, match="over 1 MB"):
        snapshot.fetch(tmp_path / "snapshot.json")


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_snapshot_that_no_page_would_show_is_not_published(tmp_path, content, value):
    store = open_store(tmp_path)
    content["model"]["accuracy"] = value
    with pytest.raises(StoreError, match=r"model\.accuracy is .* finite number"):
        snapshot.publish(store, "rose_monitor", content)
    assert not list(tmp_path.iterdir())


def test_a_number_too_large_for_a_float_is_refused(tmp_path, content):
    text = json.dumps(content).replace('"petals": 5', '"petals": 1e999')
    (tmp_path / "snapshot.json").write_text(text)
    with pytest.raises(StoreError, match="petals is inf"):
        snapshot.fetch(tmp_path / "snapshot.json")


def test_a_snapshot_in_the_home_folder_is_found(tmp_path, content, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "snapshot.json").write_text(json.dumps(content))
    assert snapshot.fetch("~/snapshot.json") == content
