"""A store that the version of November 2026 wrote, before manifests had a format, still opens."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pytest
from helpers.stores import STORES, new_store

from lab1_iris.schema import FEATURES, FLOWERS, LEDGER, MODEL, PREDICTIONS
from labstore import FeatureGroup
from labstore.contract import Contents
from labstore.copying import copy, rows_sha256
from labstore.files import FileStore

ROWS = {  # as read by the version that wrote them
    FLOWERS.label: (158, "3b2f485e92237f5276a256a1f44984261d8d63c7b413919ead31d4d6cea77e89"),
    PREDICTIONS.label: (8, "3c0aef1c7ac57cf148f59699eeab6de44c254623852644ea61ad9b442d73d144"),
    LEDGER.label: (16, "9888634c4104ba1fe8add29f73c4fbaf9437bcd7a8ea2d4853977cb5c386144c"),
}
GROUPS = [FLOWERS, LEDGER, PREDICTIONS]
MODEL_VERSION = "20261126T151026123514Z-55f68b6d"
MONITORS = [
    "20261126T151026298106Z-968981de",
    "20261126T151026584403Z-c0ac69a6",
    "20261126T151027490106Z-b8fc0609",
    "20261126T151027794261Z-17c6593c",
]
CONTENTS = Contents(
    groups=["iris_flowers v1", "iris_ledger v1", "iris_predictions v1"],
    files={
        "checkpoint_old": ["20261126T151059474271Z-c5e3908f"],
        "few_pl": ["20261126T151027085967Z-d0e1b3b9"],
        "few_pl_b3e6025e2cdd": ["20261126T151027075943Z-d1016531"],
        "iris_monitor": MONITORS,
    },
    models={"iris_species": [MODEL_VERSION]},
)


def test_everything_is_listed(old_store):
    assert old_store.contents() == CONTENTS
    assert old_store.list_files("iris_monitor") == MONITORS


@pytest.mark.parametrize("group", GROUPS, ids=lambda group: group.name)
def test_rows_are_those_that_were_written(old_store, group: FeatureGroup):
    rows = old_store.read(group)
    assert (len(rows), rows_sha256(rows)) == ROWS[group.label]


def test_values_are_those_that_were_written(old_store):
    flowers = old_store.read(FLOWERS)
    first, last = flowers.iloc[0], flowers.iloc[-1]
    assert first["flower_id"] == "0182dec6-a546-50fc-83cc-898028cfbee4"
    assert last["flower_id"] == "eae1da56-8ac3-5952-a168-1413ada79a0b"
    assert last["measured_at"] == datetime(2026, 1, 8, tzinfo=UTC)
    assert last[FEATURES].tolist() == [5.8, 2.7, 6.0, 1.4]
    counts = flowers["species"].value_counts().to_dict()
    assert counts == {"setosa": 53, "versicolor": 54, "virginica": 51}


def test_merged_rows_and_time_travel_are_read(old_store):
    """The flowers' newest commits replace older ones; before them the store had fewer rows."""
    assert any("replaces" in p.read_text() for p in old_store.root.rglob("groups/*/*.json"))
    moment = datetime(2026, 11, 26, 15, 10, 26, 300_000, tzinfo=UTC)
    assert len(old_store.read(FLOWERS, as_of=moment)) == 151
    assert len(old_store.read(FLOWERS, since=datetime(2026, 1, 5, tzinfo=UTC))) == 4


def test_versions_open_with_their_metadata(old_store):
    clips = old_store.open_files("few_pl")
    assert (clips.metadata["clips"], clips.metadata["seconds"]) == (6, 10.15)
    (shard, version) = clips.metadata["shards"][0]
    assert (old_store.open_files(shard, version).path / "clips.arrow").stat().st_size == 43_744
    checkpoint = old_store.open_files("checkpoint_old")
    assert checkpoint.metadata["settings"]["steps"] == 4
    assert (checkpoint.path / "checkpoint.tar").stat().st_size == 13_834_240
    for version in MONITORS:
        opened = old_store.open_files("iris_monitor", version)
        assert opened.version == version and (opened.path / "snapshot.json").exists()
    for choice in ("best", "latest", MODEL_VERSION):
        model = old_store.load_model(MODEL, choice)
        assert model.version == MODEL_VERSION and model.metadata["data"] == "real"
    assert model.created_at == datetime(2026, 11, 26, 15, 10, 26, 123_514, tzinfo=UTC)


def test_new_rows_and_versions_join_the_old_ones(old_store, tmp_path):
    before = old_store.read(FLOWERS)
    new = before.tail(1).assign(flower_id="new", measured_at=pd.Timestamp("2026-01-09", tz="UTC"))
    old_store.insert(FLOWERS, new)
    again = FileStore(old_store.root)
    found = again.read(FLOWERS)
    assert len(found) == 159 and found["flower_id"].iloc[-1] == "new"
    pd.testing.assert_frame_equal(found.head(158), before)
    (tmp_path / "new").mkdir()
    (tmp_path / "new/snapshot.json").write_text("{}")
    saved = again.save_files("iris_monitor", tmp_path / "new", {})
    assert again.list_files("iris_monitor") == [*MONITORS, saved.version]


@pytest.mark.parametrize("kind", STORES)
def test_it_is_copied_whole(old_store, kind, tmp_path):
    """Its manifests are copied unchanged, and what arrived is compared with what was sent."""
    target = new_store(kind, tmp_path / "target")
    done = copy(old_store, target, GROUPS, report=lambda line: None)
    assert len(done) == 3 + 7 + 1 and target.contents() == CONTENTS
    for group in GROUPS:
        assert rows_sha256(target.read(group)) == ROWS[group.label][1]
    with target.lend("files", "few_pl", CONTENTS.files["few_pl"][0]) as folder:
        assert "format" not in (folder / "manifest.json").read_text()
