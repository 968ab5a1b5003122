"""A store copied to another: folder to folder, to Hopsworks and back, interrupted and resumed."""

from __future__ import annotations

import importlib
from datetime import UTC, date, datetime

import pandas as pd
import pytest
from helpers.stores import (
    FLOWERS,
    HIGH_SCORE,
    contents,
    flower,
    folder_of,
    frame,
    group,
    kept,
    new_store,
)

from lab1_iris import daily
from lab1_iris.schema import FLOWERS as IRISES
from lab1_iris.schema import LEDGER, MODEL, PREDICTIONS, SNAPSHOT
from labstore import Damaged, StoreError
from labstore.copying import copy, rows_sha256
from labstore.files import FileStore
from labstore.monitor import snapshot

TARGETS = ["files", "hopsworks"]


@pytest.fixture
def source(tmp_path):
    """A store with two groups, three versions of files and two of a model."""
    store = FileStore(tmp_path / "source store")
    store.insert(FLOWERS, frame(*(flower(name, day) for day, name in enumerate("abc"))))
    store.insert(FLOWERS, frame(flower("b", 7, 9.0)))
    store.insert(group("weeds"), frame(flower("w")))
    for number in range(3):
        files = folder_of(tmp_path / "files", **{"deep__a.txt": f"number {number}", "b.bin": ""})
        store.save_files("shards", files, {"number": number})
    for figure in (0.9, 0.1):
        store.save_model(HIGH_SCORE, files, {"score": figure}, {"data": "real", "f": figure})
    return store


@pytest.fixture(params=TARGETS)
def target(request, tmp_path):
    return new_store(request.param, tmp_path / "target")


GROUPS = [FLOWERS, group("weeds"), group("never_used")]


def quietly(*arguments):
    return copy(*arguments, report=lambda line: None)


def assert_equal(one, other):
    for table in GROUPS:
        pd.testing.assert_frame_equal(one.read(table), other.read(table))
    assert one.contents() == other.contents()
    for version in one.list_files("shards"):
        first, second = one.open_files("shards", version), other.open_files("shards", version)
        assert contents(first.path) == contents(second.path)
        assert first.metadata == second.metadata and first.created_at == second.created_at
    for choice in ("best", "latest"):
        first, second = one.load_model(HIGH_SCORE, choice), other.load_model(HIGH_SCORE, choice)
        assert (first.version, first.metrics, first.metadata) == (
            second.version,
            second.metrics,
            second.metadata,
        )


def test_all_arrives_with_ids_metadata_and_order(source, target):
    done = quietly(source, target, GROUPS)
    assert_equal(source, target)
    assert [(c.name.split("/2")[0], c.amount, c.moved, c.unit) for c in done] == [
        ("groups/flowers v1", 3, 3, "rows"),
        ("groups/weeds v1", 1, 1, "rows"),
        *[("files/shards", 8, 8, "bytes")] * 3,
        *[("models/flower_score", 8, 8, "bytes")] * 2,
    ]


def test_a_second_copy_finds_all_there_and_writes_nothing(source, target):
    first = quietly(source, target, GROUPS)
    before = kept(target)
    second = quietly(source, target, GROUPS)
    assert kept(target) == before and not any(copied.moved for copied in second)
    assert [c.sha256 for c in second] == [c.sha256 for c in first]


def test_there_and_back_again_is_the_same_store(source, tmp_path):
    between, home = new_store("hopsworks", tmp_path), FileStore(tmp_path / "home")
    between.cluster.outside = True  # HUDI
    quietly(source, between, GROUPS)
    quietly(between, home, GROUPS)
    assert_equal(source, home)


def test_progress_and_proof_are_reported_line_by_line(source, target):
    lines = []
    copy(source, target, GROUPS, report=lines.append)
    digest = rows_sha256(source.read(FLOWERS))[:12]
    assert lines[0] == f"1/7  groups/flowers v1: 3 rows (3 new), sha256 {digest} in both"
    assert len(lines) == 7 and lines[-1].startswith("7/7  models/flower_score/")


@pytest.mark.parametrize("kind", TARGETS)
@pytest.mark.parametrize("survived", range(4))
def test_an_interrupted_copy_continues_where_it_stopped(
    source, tmp_path, kind, survived, monkeypatch
):
    target = new_store(kind, tmp_path / "target")
    writing, calls = ("_copy", []) if kind == "files" else ("_upload", [])

    def interrupt(self, *arguments):
        calls.append(arguments)
        if len(calls) > survived:
            raise KeyboardInterrupt
        return whole(self, *arguments)

    whole = getattr(type(target), writing)
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(type(target), writing, interrupt)
        quietly(source, target, GROUPS)
    done = quietly(source, target, GROUPS)
    assert_equal(source, target)
    assert any(copied.moved for copied in done)


def test_rows_that_only_the_target_has_stay_and_older_ones_are_replaced(source, target):
    target.insert(FLOWERS, frame(flower("a", 0, 5.0), flower("z", 30)))
    quietly(source, target, GROUPS)
    found = target.read(FLOWERS).set_index("flower_id")
    assert sorted(found.index) == ["a", "b", "c", "z"] and found.loc["a", "petal_cm"] == 1.0


def test_only_newest_rows_are_copied_and_as_of_begins_with_the_copy(source, target):
    before = datetime.now(UTC)
    quietly(source, target, GROUPS)
    assert len(source.read(FLOWERS, as_of=before)) == 3
    assert target.read(FLOWERS, as_of=before).empty


def test_an_undeclared_group_is_named_before_anything_is_written(source, target):
    before = kept(target)
    with pytest.raises(StoreError, match=r"holds weeds v1.*declared: flowers v1.*Nothing was"):
        quietly(source, target, [FLOWERS])
    assert kept(target) == before


def test_rows_that_do_not_arrive_as_sent_are_noticed(source, target, monkeypatch):
    read = type(target).read
    monkeypatch.setattr(target, "read", lambda *a, **k: read(target, *a, **k).iloc[:-1])
    with pytest.raises(Damaged, match=r"flowers v1 did not arrive.*3 rows.*2 \("):
        quietly(source, target, GROUPS)


def test_values_that_do_not_arrive_as_sent_are_noticed(source, target, monkeypatch):
    read = type(target).read
    monkeypatch.setattr(
        target, "read", lambda *a, **k: read(target, *a, **k).replace({"petal_cm": {9.0: 8.9}})
    )
    with pytest.raises(Damaged, match=r"flowers v1 did not arrive.*3 rows.*3 \("):
        quietly(source, target, GROUPS)


@pytest.mark.parametrize("kind", ["files", "models"])
def test_bytes_that_do_not_arrive_as_sent_are_noticed(source, tmp_path, kind):
    target = new_store("hopsworks", tmp_path / "target")
    upload = target.cluster._upload

    def spoil(local_path, upload_path, **more):
        upload(local_path, upload_path, **more)
        for path, data in target.cluster.files.items():
            inside = kind == ("models" if path.startswith("Models") else "files")
            if inside and path.endswith("a.txt"):
                target.cluster.files[path] = data.replace(b"number", b"nvmber")

    target._datasets.upload.side_effect = target.cluster._upload = spoil
    with pytest.raises(Damaged, match=r"a\.txt is damaged"):
        quietly(source, target, GROUPS)


def test_a_damaged_source_is_not_copied(source, target):
    file = next((source.root / "files/shards").rglob("a.txt"))
    file.write_text("number x")
    with pytest.raises(Damaged, match=r"a\.txt"):
        quietly(source, target, GROUPS)


def test_the_command_copies_every_labs_groups_and_says_so(old_store, tmp_path, capsys):
    tool = importlib.import_module("tools.copy_store")
    source, target = str(old_store.root), str(tmp_path / "copy")
    assert tool.main([source, target]) == 0
    printed = capsys.readouterr().out
    assert "groups/iris_predictions v1: 8 rows (8 new)" in printed
    assert "equal by row count and checksum" in printed.splitlines()[-1]
    assert tool.main([source, target]) == 0
    assert "(8 new)" not in capsys.readouterr().out
    for wrong, words in (
        ([target, target], "the same store"),
        ([str(tmp_path / "none"), target], "nothing to copy"),
    ):
        assert tool.main(wrong) == 1
        assert words in capsys.readouterr().err


def test_a_labs_daily_run_continues_in_hopsworks_as_in_a_folder(old_store, tmp_path):
    """Ledger, model, rows, predictions and the monitor's snapshot: eight days, moved, three more."""
    stores = [FileStore(tmp_path / "folder"), new_store("hopsworks", tmp_path)]
    for store in stores:
        quietly(old_store, store, [IRISES, PREDICTIONS, LEDGER])
        days = [date(2026, 1, day) for day in (9, 10, 11)]
        assert daily.run_daily(store, days[-1]) == days
        assert daily.run_daily(store, days[-1]) == []
    folder, hopsworks = stores
    for table in (IRISES, PREDICTIONS):
        pd.testing.assert_frame_equal(folder.read(table), hopsworks.read(table))
    assert folder.load_model(MODEL).version == hopsworks.load_model(MODEL).version
    shown = [snapshot.read(store, SNAPSHOT) for store in stores]
    for content in shown:
        assert content["through"] == "2026-01-11"
        content.pop("last_run", None)
    assert shown[0] == shown[1]
    assert len(hopsworks.read(PREDICTIONS, since=datetime(2026, 1, 9, tzinfo=UTC))) == 3
