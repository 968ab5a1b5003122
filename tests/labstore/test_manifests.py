"""Manifests that are malformed, or lie where they do not belong: named, never read."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from helpers.stores import (
    FLOWERS,
    HIGH_SCORE,
    LOW_ERROR,
    flower,
    folder_of,
    frame,
    group,
    ids,
    open_version,
)
from hypothesis import given, settings
from hypothesis import strategies as st

from labstore import Damaged, NewerFormat, NotFound, StoreError
from labstore.files import FileStore
from labstore.versions import manifest_text, parse_manifest

WEEDS = group("weeds")
ID = "20260101T000000000000Z-00000000"
HUGE = 10**400
NUMBERS = st.integers() | st.floats() | st.sampled_from([HUGE, -HUGE, float("nan"), True])
TEXTS = st.text() | st.sampled_from([ID, "", "..", "/etc/passwd", "a\0b", "\ud800", "2026-01-01"])
JSON = st.recursive(
    st.none() | st.booleans() | NUMBERS | TEXTS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(TEXTS, inner, max_size=3),
    max_leaves=6,
)


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    store = FileStore(folder / "store")
    source = folder_of(folder / "source", **{"model.txt": "weights"})
    store.insert(FLOWERS, frame(flower("a")))
    store.insert(FLOWERS, frame(flower("b", 1)))
    store.save_model(HIGH_SCORE, source, {"score": 0.5}, {"rows": 3})
    store.save_files("shards", source, {})
    return store.root


def manifests(root: Path) -> list[Path]:
    return sorted(p for p in root.rglob("*.json") if len(p.relative_to(root).parts) > 2)


def all_uses(root: Path):
    """Everything that reads manifests, one after the other."""
    store = FileStore(root)
    return [
        lambda: store.read(FLOWERS),
        lambda: store.read(FLOWERS, as_of=pytest.importorskip("pandas").Timestamp.now("UTC")),
        lambda: store.insert(FLOWERS, frame(flower("c", 2))),
        lambda: store.load_model(HIGH_SCORE),
        lambda: store.load_model(HIGH_SCORE, "latest"),
        lambda: store.open_files("shards"),
        lambda: store.list_files("shards"),
        store.contents,
        lambda: store.save_files("shards", root.parent / "source", {}),
        lambda: store.prune_files("shards", 1),
    ]


def only_named_errors(root: Path, file: Path) -> None:
    for use in all_uses(root):
        try:
            use()
        except NotFound:
            pass
        except (Damaged, NewerFormat) as error:
            assert str(file.parent) in str(error)
        except StoreError as error:
            assert "other columns" in str(error)


def copied(whole: Path, folder: str) -> Path:
    shutil.copytree(whole.parent / "source", Path(folder) / "source")
    return shutil.copytree(whole, Path(folder) / "store")


@settings(max_examples=60, deadline=None)
@given(number=st.integers(0, 3), content=JSON, signed=st.booleans())
def test_any_json_in_a_manifests_place_is_read_or_reported_by_name(whole, number, content, signed):
    with tempfile.TemporaryDirectory() as folder, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        root = copied(whole, folder)
        file = manifests(root)[number]
        if signed and isinstance(content, dict):
            file.write_bytes(manifest_text(content))
        else:
            file.write_text(json.dumps(content) + "\n")
        only_named_errors(root, file)


EDITS = st.lists(st.tuples(st.integers(0, 30), st.booleans(), JSON), min_size=1, max_size=3)


@settings(max_examples=120, deadline=None)
@given(number=st.integers(0, 3), edits=EDITS)
def test_any_edit_of_a_manifest_signed_again_is_read_or_reported_by_name(whole, number, edits):
    with tempfile.TemporaryDirectory() as folder:
        root = copied(whole, folder)
        file = manifests(root)[number]
        manifest = json.loads(file.read_bytes())
        del manifest["manifest_sha256"]
        for position, removed, value in edits:
            key = list(manifest)[position % len(manifest)] if manifest else "name"
            if removed:
                manifest.pop(key, None)
            elif isinstance(manifest.get(key), dict) and position % 2:
                manifest[key] = dict.fromkeys(manifest[key], value)
            else:
                manifest[key] = value
        file.write_bytes(manifest_text(manifest))
        only_named_errors(root, file)


NESTED = [b"[" * 200_000, b'{"a":' * 200_000, b"9" * 10_000, b'{"rows": ' + b"9" * 10_000 + b"}"]


@pytest.mark.parametrize("text", NESTED, ids=["lists", "objects", "number", "rows"])
@pytest.mark.parametrize("number", range(4))
def test_a_manifest_nested_deeply_or_of_huge_numbers_is_reported(whole, tmp_path, text, number):
    root = copied(whole, str(tmp_path))
    file = manifests(root)[number]
    file.write_bytes(text + b"\n")
    assert parse_manifest(file, text) is None
    only_named_errors(root, file)


@pytest.mark.parametrize(
    "name", ["20261399T000000000000Z-00000000", "99991231T235959999999Z-00000000"]
)
def test_a_commit_named_by_a_time_that_cannot_be_is_no_commit(whole, tmp_path, name):
    root = copied(whole, str(tmp_path))
    for file in manifests(root)[:1]:
        shutil.copy(file, file.with_name(f"{name}.json"))
    (root / "files/shards" / name).mkdir()
    FileStore(root).insert(FLOWERS, frame(flower("c", 2)))
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]
    assert FileStore(root).open_files("shards").version != name


def test_a_commit_copied_in_from_another_group_is_reported_and_not_read(root):
    store = FileStore(root)
    store.insert(WEEDS, frame(flower("w")))
    for file in (root / "groups/weeds_v1").iterdir():
        shutil.copy(file, root / "groups/flowers_v1" / file.name)
    with pytest.raises(Damaged, match=r"\.json belongs to weeds v1.*Nothing of it was read"):
        FileStore(root).read(FLOWERS)
    assert ids(FileStore(root).read(WEEDS)) == ["w"]


def test_a_commit_under_another_name_is_reported_and_not_read(root):
    folder = root / "groups/flowers_v1"
    newest = max(folder.glob("*.json"))
    for file in (newest, newest.with_suffix(".parquet")):
        shutil.copy(file, folder / f"20990101T000000000000Z-00000000{file.suffix}")
    with pytest.raises(Damaged, match=r"20990101.*belongs to flowers v1"):
        FileStore(root).read(FLOWERS)


@pytest.mark.parametrize("choice", ["latest", "best", "id"])
def test_a_version_copied_under_another_models_name_is_reported(root, choice):
    version = open_version(root, "models")
    shutil.copytree(root / "models/flower_score", root / "models/flower_error")
    with pytest.raises(Damaged, match=r"manifest\.json belongs to flower_score"):
        FileStore(root).load_model(LOW_ERROR, version.version if choice == "id" else choice)


def test_a_version_under_another_id_is_reported(root):
    version = open_version(root, "files")
    shutil.copytree(version.path, version.path.with_name("20990101T000000000000Z-00000000"))
    with pytest.raises(Damaged, match=r"20990101.*belongs to shards"):
        FileStore(root).open_files("shards")
    assert FileStore(root).open_files("shards", version.version) == version


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)
