"""One file of a store is damaged, in any way: harmless, or named; never fewer rows in silence."""

from __future__ import annotations

import os
import shutil
import tempfile
import warnings
from pathlib import Path

import pytest
from helpers.stores import DAMAGE, FLOWERS, HIGH_SCORE, flower, folder_of, frame, ids
from hypothesis import given, settings
from hypothesis import strategies as st

from labstore import Damaged, StoreError, TornManifest
from labstore.disk import MARKER
from labstore.files import FileStore


def as_drive_does(path: Path, name: str = "{0.stem} (1){0.suffix}") -> Path:
    return path.rename(path.with_name(name.format(path)))


@pytest.fixture(scope="module")
def whole(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("whole")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("labstore.files.MERGE_AFTER", 3)
        store = FileStore(folder / "store")
        for day, name in enumerate("abcdefgh"):
            store.insert(FLOWERS, frame(flower(name, day)))
    source = folder_of(folder / "source", **{"model.txt": "weights"})
    for score in (0.5, 0.9):
        store.save_model(HIGH_SCORE, source, {"score": score}, {})
        store.save_files("shards", source, {"score": score})
    return store.root


def all_read(root: Path) -> dict:
    store = FileStore(root)
    return {
        "rows": ids(store.read(FLOWERS)),
        "best": store.load_model(HIGH_SCORE).version,
        "latest": store.load_model(HIGH_SCORE, "latest").version,
        "files": store.open_files("shards").version,
    }


WAYS = {
    **{name: damage for name, damage in DAMAGE.items() if name != "a folder instead"},
    "renamed": as_drive_does,
    "renamed elsewhere": lambda path: as_drive_does(path, "Copy of {0.name}"),
    "copied": lambda path: shutil.copy(path, path.with_name(f"{path.stem} (1){path.suffix}")),
}


@settings(max_examples=150, deadline=None)
@given(number=st.integers(0, 200), way=st.sampled_from(sorted(WAYS)), cut=st.floats(0, 1))
def test_damage_to_any_one_file_is_harmless_or_named(whole, number, way, cut):
    expected = all_read(whole)
    with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as patch:
        patch.setattr("labstore.files.REPORT_SECONDS", 0)
        root = shutil.copytree(whole, Path(folder) / "store")
        files = sorted(p for p in root.rglob("*") if p.is_file())
        file = files[number % len(files)]
        if way == "truncated":
            os.truncate(file, int(cut * file.stat().st_size))
        else:
            WAYS[way](file)
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            try:
                found = all_read(root)
            except StoreError as error:
                assert file.stem in str(error) and file.parent.name in str(error)
                return
        named = [str(w.message) for w in told if issubclass(w.category, TornManifest)]
        if found != expected:
            assert any(file.stem in text or str(file.parent) in text for text in named), found


def newest(root: Path) -> Path:
    return max((root / "groups/flowers_v1").glob("*.json"))


@pytest.mark.parametrize("number", [1, 2, 17])
def test_a_manifest_that_drive_shows_under_a_second_name_counts(root, number):
    as_drive_does(newest(root), f"{{0.stem}} ({number}){{0.suffix}}")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]
    FileStore(root).insert(FLOWERS, frame(flower("d", 3)))
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c", "d"]


def test_a_torn_manifest_beside_its_whole_second_copy_is_harmless(root):
    file = newest(root)
    shutil.copy(file, file.with_name(f"{file.stem} (1).json"))
    os.truncate(file, 20)
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["models", "files"])
def test_a_versions_manifest_under_a_second_name_counts(root, kind):
    (file,) = (root / kind).rglob("manifest.json")
    as_drive_does(file)
    store = FileStore(root)
    assert store.load_model(HIGH_SCORE) if kind == "models" else store.open_files("shards")


def test_a_lost_newest_manifest_beside_whole_rows_is_named_once_it_cannot_be_on_its_way(
    root, monkeypatch
):
    file = newest(root)
    file.unlink()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b"]
    monkeypatch.setattr("labstore.files.REPORT_SECONDS", 0)
    with pytest.warns(TornManifest, match=rf"{file.stem}.parquet has no manifest.*not read"):
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b"]


def test_what_a_killed_writer_left_is_named_until_a_later_commit_shows_that_it_was_none(
    root, monkeypatch
):
    folder = root / "groups/flowers_v1"
    newest(root).unlink()
    monkeypatch.setattr("labstore.files.REPORT_SECONDS", 0)
    with pytest.warns(TornManifest, match="has no manifest"):
        FileStore(root).insert(FLOWERS, frame(flower("d", 3)))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "d"]
    newest(root).unlink()  # and that one is named in its turn
    with pytest.warns(TornManifest, match=max(folder.glob("*.parquet")).name):
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b"]


def test_a_torn_manifest_beside_torn_rows_is_named_and_the_rest_is_read(root):
    file = newest(root)
    os.truncate(file, 20)
    os.truncate(file.with_suffix(".parquet"), 99)
    with pytest.warns(TornManifest, match=rf"{file.name} is cut short, and .*not read"):
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b"]


def test_rows_read_from_a_torn_commit_still_name_the_commits_before_it(root):
    file = newest(root)
    os.truncate(file, 20)
    before = sorted(file.parent.glob("*.json"))[1]
    before.unlink()
    before.with_suffix(".parquet").unlink()
    with pytest.warns(TornManifest), pytest.raises(Damaged, match=before.name):
        FileStore(root).read(FLOWERS)


def test_a_torn_manifest_of_an_older_version_is_read_from_its_rows(old_store):
    from lab1_iris.schema import FLOWERS as IRISES

    file = max((old_store.root / "groups/iris_flowers_v1").glob("*.json"))
    expected = old_store.read(IRISES)
    os.truncate(file, 20)
    with pytest.warns(TornManifest, match=file.name):
        found = FileStore(old_store.root).read(IRISES)
    assert found.equals(expected)


@pytest.mark.parametrize("damage", sorted(DAMAGE))
def test_the_marker_is_never_read(root, damage):
    DAMAGE[damage](root / MARKER)
    FileStore(root).insert(FLOWERS, frame(flower("d", 3)))
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c", "d"]
