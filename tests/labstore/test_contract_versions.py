"""What every store promises about versions of files and models."""

from __future__ import annotations

import json
import os
import shutil
from datetime import UTC, datetime, timedelta

import pandas as pd
import pytest
from helpers.stores import (
    DAY,
    FLOWERS,
    HIGH_SCORE,
    LOW_ERROR,
    STORES,
    flower,
    folder_of,
    frame,
    group,
    new_store,
    save_models,
)

from labstore import (
    Damaged,
    Model,
    NewerFormat,
    NotFound,
    NotWritable,
    StoreError,
)
from labstore.copying import copy
from labstore.files import FileStore
from labstore.hopsworks import HopsworksStore
from labstore.versions import manifest_text


def test_a_folder_comes_back_as_it_was(store, tmp_path):
    source = folder_of(tmp_path / "source", **{"a.txt": "1", "deep__b.txt": "2"})
    saved = store.save_files("shards", source, {"clips": 2})
    found = store.open_files("shards")
    assert found == saved and found.metadata == {"clips": 2}
    assert (found.path / "a.txt").read_text() + (found.path / "deep/b.txt").read_text() == "12"
    assert found.created_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - found.created_at) < timedelta(minutes=1)


def test_files_open_as_latest_or_by_id_and_never_change(store, tmp_path):
    versions = []
    for number in range(3):
        source = folder_of(tmp_path / "source", **{"a.txt": str(number)})
        versions.append(store.save_files("shards", source, {}))
    assert store.open_files("shards") == versions[-1]
    for number, version in enumerate(versions):
        again = store.open_files("shards", version.version)
        assert (again.path / "a.txt").read_text() == str(number)


def test_versions_of_files_are_listed_and_old_ones_pruned(store, tmp_path):
    assert store.list_files("checkpoint") == []
    versions = [
        store.save_files(
            "checkpoint", folder_of(tmp_path / "source", **{"weights.bin": str(n)}), {"n": n}
        )
        for n in range(4)
    ]
    assert store.list_files("checkpoint") == [version.version for version in versions]
    store.prune_files("checkpoint", keep=2)
    assert store.list_files("checkpoint") == [version.version for version in versions[2:]]
    assert store.open_files("checkpoint").metadata == {"n": 3}
    assert store.open_files("checkpoint", versions[2].version).metadata == {"n": 2}
    with pytest.raises(NotFound):
        store.open_files("checkpoint", versions[0].version)
    store.prune_files("checkpoint", keep=5)
    assert len(store.list_files("checkpoint")) == 2


def test_a_version_is_newer_than_any_before_it_whatever_the_clock_says(
    store, tmp_path, monkeypatch
):
    source = folder_of(tmp_path / "source", **{"a.txt": "1"})
    files = store.save_files("shards", source, {})
    (model,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    store.insert(FLOWERS, frame(flower("a", petal_cm=1.0)))
    for module in ("labstore.versions.datetime", "labstore.hopsworks.datetime"):
        monkeypatch.setattr(module, Yesterday)
    assert store.save_files("shards", source, {}).version > files.version
    assert store.save_model(HIGH_SCORE, source, {"score": 0.5}, {}).version > model.version
    store.insert(FLOWERS, frame(flower("a", petal_cm=2.0)))
    assert store.read(FLOWERS)["petal_cm"].tolist() == [2.0]


class Yesterday(datetime):
    """A clock that was set back by a day."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) - DAY


def test_an_empty_folder_is_not_saved(store, tmp_path):
    with pytest.raises(StoreError, match="no files in"):
        store.save_files("shards", tmp_path / "absent", {})


@pytest.mark.parametrize("inside", [".", "deep"])
@pytest.mark.parametrize("target", ["a.txt", "deep", "nowhere"])
def test_a_link_in_a_folder_is_refused_by_name_not_left_out(store, tmp_path, inside, target):
    source = folder_of(tmp_path / "source", **{"a.txt": "1", "deep__b.txt": "2"})
    (source / inside / "shortcut").symlink_to(source / target)
    for save in (
        lambda: store.save_files("shards", source, {}),
        lambda: store.save_model(HIGH_SCORE, source, {"score": 1.0}, {}),
    ):
        with pytest.raises(StoreError, match=r"shortcut is a link.*cp -RL"):
            save()
    assert store.list_files("shards") == []


def test_a_pipe_in_a_folder_is_refused_by_name(store, tmp_path):
    source = folder_of(tmp_path / "source", **{"a.txt": "1"})
    os.mkfifo(source / "pipe")
    with pytest.raises(StoreError, match="pipe is neither a file nor a folder"):
        store.save_files("shards", source, {})


def test_a_folder_that_is_reached_by_a_link_is_saved(store, tmp_path):
    (tmp_path / "link").symlink_to(folder_of(tmp_path / "source", **{"a.txt": "1"}))
    assert (store.save_files("shards", tmp_path / "link", {}).path / "a.txt").read_text() == "1"


def test_an_opened_version_can_be_saved_again_or_is_refused_with_the_reason(store, tmp_path):
    first = store.save_files("shards", folder_of(tmp_path / "source", **{"a.txt": "1"}), {})
    try:
        again = store.save_files("shards", first.path, {})
    except NotWritable:
        raise
    except StoreError as refused:
        assert "manifest.json" in str(refused)
        again = first
    assert store.open_files("shards") == again


def test_metadata_of_any_plain_kind_is_kept(store, tmp_path):
    metadata = {"by_seed": {10: 0.5, 9: 0.4}, "shape": (2, 3), "note": "ä", "none": None}
    source = folder_of(tmp_path / "source", **{"a.txt": "1"})
    saved = store.save_files("shards", source, metadata)
    found = store.open_files("shards")
    assert found.metadata == saved.metadata
    assert found.metadata["by_seed"] == {"10": 0.5, "9": 0.4} and found.metadata["note"] == "ä"


@pytest.mark.parametrize(("model", "best"), [(LOW_ERROR, 1), (HIGH_SCORE, 2)])
def test_best_model_follows_the_metrics_direction(store, tmp_path, model, best):
    versions = save_models(store, tmp_path / "source", model, [0.5, 0.1, 0.9, 0.3])
    assert store.load_model(model) == versions[best]
    assert store.load_model(model, "latest") == versions[-1]
    for version in versions:
        assert store.load_model(model, version.version) == version


def test_the_latest_model_is_the_last_saved(store, tmp_path):
    for _ in range(6):
        (saved,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
        assert store.load_model(HIGH_SCORE, "latest") == saved


@pytest.mark.parametrize("model", [LOW_ERROR, HIGH_SCORE])
def test_of_equally_good_models_the_newest_is_best(store, tmp_path, model):
    versions = save_models(store, tmp_path / "source", model, [0.5, 0.5])
    assert store.load_model(model) == versions[-1]


@pytest.mark.parametrize("model", [LOW_ERROR, HIGH_SCORE])
def test_a_model_of_real_data_is_better_than_any_other(store, tmp_path, model):
    source = folder_of(tmp_path / "source", **{"model.txt": "x"})
    for data, figure in (("real", 0.5), ("offline sample", 0.0), ("offline sample", 1.0)):
        store.save_model(model, source, {model.metric: figure}, {"data": data})
    assert store.load_model(model).metadata["data"] == "real"


@pytest.mark.parametrize("model", [LOW_ERROR, HIGH_SCORE])
def test_a_model_whose_metric_is_not_finite_is_refused(store, tmp_path, model):
    with pytest.raises(StoreError, match=f"{model.metric}.*nan"):
        save_models(store, tmp_path / "source", model, [float("nan")])


def test_best_passes_over_versions_saved_before_the_metric_changed(store, tmp_path):
    save_models(store, tmp_path / "source", Model("flower_score", "old", "max"), [0.99])
    with pytest.raises(NotFound, match="score"):
        store.load_model(HIGH_SCORE)
    (version,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    assert store.load_model(HIGH_SCORE) == version


def test_a_model_records_what_it_was_made_with(store, tmp_path):
    (version,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    assert version.metrics == {"score": 0.5} and version.metadata["rows"] == 3
    assert version.metadata["libraries"]["pandas"] == pd.__version__
    assert "git_commit" in version.metadata


def test_a_model_without_its_metric_is_refused(store, tmp_path):
    with pytest.raises(StoreError, match=r"flower_score.*'score'.*got loss"):
        store.save_model(HIGH_SCORE, folder_of(tmp_path / "s", a="1"), {"loss": 1.0}, {})


def test_unknown_names_list_those_that_exist(store, tmp_path):
    with pytest.raises(NotFound, match=r"'shards'.*nothing yet"):
        store.open_files("shards")
    save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    with pytest.raises(NotFound, match=r"'flower_error'.*there: flower_score"):
        store.load_model(LOW_ERROR)


def test_unknown_versions_list_the_valid_choices(store, tmp_path):
    (version,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    with pytest.raises(NotFound, match=f"'newest'.*best, latest, {version.version}"):
        store.load_model(HIGH_SCORE, "newest")
    store.save_files("shards", tmp_path / "source", {})
    with pytest.raises(NotFound, match=r"'best'.*Choose one of: latest, 2"):
        store.open_files("shards", "best")


BAD_NAMES = ["", "Iris", "../iris", "iris/1", "1iris", "i ris", "x" * 64, ".", "iris\n"]
DEVICES = ["con", "nul", "prn", "aux", "com1", "com9", "lpt1", "lpt0"]


@pytest.mark.parametrize("name", [*BAD_NAMES, *DEVICES])
def test_names_that_are_not_valid_folder_names_everywhere_are_refused(store, tmp_path, name):
    source = folder_of(tmp_path / "source", a="1")
    model = Model(name, "score", "max")
    for attempt in (
        lambda: store.insert(group(name), frame(flower("a"))),
        lambda: store.read(group(name)),
        lambda: store.save_files(name, source, {}),
        lambda: store.open_files(name),
        lambda: store.save_model(model, source, {"score": 1.0}, {}),
        lambda: store.load_model(model),
    ):
        with pytest.raises(StoreError, match="not a valid name in a store"):
            attempt()


def test_free_bytes_are_those_of_the_disk_or_unknown(store, tmp_path):
    free = store.free_bytes()
    if isinstance(store, FileStore):
        assert not store.root.exists()  # known before the first write as well
        total = shutil.disk_usage(tmp_path).total
        assert 0 < free <= total
    else:
        assert free is None


# ---------------------------------------------------------------------- the format of manifests


def manifests(store, kind):
    """Return the bytes of each version's manifest in a store, by path or name."""
    if isinstance(store, FileStore):
        return {path: path.read_bytes() for path in (store.root / kind).rglob("manifest.json")}
    home = "Models/" if kind == "models" else "Resources/"
    files = store.cluster.files.items()
    return {n: text for n, text in files if n.startswith(home) and n.endswith("manifest.json")}


def rewrite(store, kind, change):
    """Change the manifests of a kind, checksum included, and open the store with an empty cache."""
    for name, text in manifests(store, kind).items():
        manifest = json.loads(text)
        del manifest["manifest_sha256"]
        change(manifest)
        if isinstance(store, FileStore):
            name.write_bytes(manifest_text(manifest))
        else:
            store.cluster.files[name] = manifest_text(manifest)
    if isinstance(store, FileStore):
        return FileStore(store.root)
    opened = HopsworksStore(store._project, store._local.root.with_name("another cache"))
    opened.cluster = store.cluster
    return opened


@pytest.fixture
def filled(store, tmp_path):
    save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    store.save_files("shards", tmp_path / "source", {"clips": 2})
    return store


OPEN = {"models": lambda s: s.load_model(HIGH_SCORE), "files": lambda s: s.open_files("shards")}
KINDS = pytest.mark.parametrize("kind", OPEN)


@KINDS
def test_a_manifest_carries_format_1(filled, kind):
    (text,) = manifests(filled, kind).values()
    assert json.loads(text)["format"] == 1


@KINDS
def test_a_manifest_without_a_format_is_read_as_format_1(filled, kind):
    saved = OPEN[kind](filled)
    old = rewrite(filled, kind, lambda manifest: manifest.pop("format"))
    opened = OPEN[kind](old)
    assert (opened.version, opened.metadata) == (saved.version, saved.metadata)


def become_newer(manifest):
    """Turn a manifest into one of a later format, of which only format and checksum are known."""
    name, version = manifest["name"], manifest["version"]
    manifest.clear()
    manifest.update(format=2, name=name, version=version, chunks=["elsewhere"])


@KINDS
def test_a_manifest_of_a_newer_format_is_refused_with_the_command_that_updates(filled, kind):
    newer = rewrite(filled, kind, become_newer)
    update = r"manifest\.json is of format 2.*newer version.*git pull && make .*Colab.*pip"
    with pytest.raises(NewerFormat, match=update) as refused:
        OPEN[kind](newer)
    assert not isinstance(refused.value, Damaged)  # whose message advises to delete the version


def test_a_version_of_a_newer_format_is_listed_and_kept(filled):
    newer = rewrite(filled, "files", become_newer)
    (version,) = newer.list_files("shards")
    newer.prune_files("shards", keep=1)
    assert newer.list_files("shards") == [version]


def test_a_store_with_versions_of_a_newer_format_is_not_copied(filled, tmp_path):
    newer, target = rewrite(filled, "models", become_newer), FileStore(tmp_path / "target")
    with pytest.raises(NewerFormat):
        copy(newer, target, [], report=lambda line: None)
    assert target.contents().models == {}


@KINDS
@pytest.mark.parametrize("target", STORES)
def test_an_old_manifest_is_copied_as_it_is(filled, kind, target, tmp_path):
    old = rewrite(filled, kind, lambda manifest: manifest.pop("format"))
    there = new_store(target, tmp_path / "there")
    copy(old, there, [], report=lambda line: None)
    assert list(manifests(there, kind).values()) == list(manifests(old, kind).values())
    assert OPEN[kind](there).version == OPEN[kind](old).version
