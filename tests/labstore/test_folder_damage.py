"""What the folder store does with damaged, cut short and foreign files."""

from __future__ import annotations

import json
import shutil
from datetime import UTC, datetime

import pandas as pd
import pytest
from helpers.stores import (
    DAMAGE,
    FLOWERS,
    HIGH_SCORE,
    contents,
    flip,
    flower,
    folder_of,
    frame,
    ids,
    open_version,
)

from labstore import Damaged, NewerFormat, NotFound, TornManifest
from labstore.files import FileStore
from labstore.versions import manifest_text, parse_manifest


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("number", range(3))
def test_damaged_rows_are_an_error_that_names_the_file(root, number, damage):
    file = sorted((root / "groups/flowers_v1").glob("*.parquet"))[number]
    damage(file)
    with pytest.raises(Damaged, match=file.name):
        FileStore(root).read(FLOWERS)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("number", range(2))
@pytest.mark.filterwarnings("ignore::labstore.TornManifest")
def test_a_damaged_manifest_that_a_later_one_names_is_noticed(root, number, damage):
    """By an error, or it is harmless since the content is still valid: no row goes missing."""
    file = sorted((root / "groups/flowers_v1").glob("*.json"))[number]
    damage(file)
    try:
        FileStore(root).insert(FLOWERS, frame(flower("d", 3)))
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c", "d"]
    except Damaged as error:
        assert file.name in str(error)
        with pytest.raises(Damaged, match=file.name):
            FileStore(root).read(FLOWERS)
    else:
        torn = ("truncated", "emptied", "zeroed")  # read from the rows' own file
        harmless = ("one byte short", "last bit flipped", *torn)
        assert damage in [DAMAGE[name] for name in harmless]


def test_a_lost_manifest_is_noticed_in_time_travel_too(tmp_path, monkeypatch):
    """Ten commits and two merges: whichever manifest is lost, no moment shows fewer rows."""
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 4)
    store = FileStore(tmp_path)
    moments, expected = [], []
    for number in range(10):
        store.insert(FLOWERS, frame(flower(f"{number:02}", number)))
        moments.append(datetime.now(UTC))
        expected.append([f"{n:02}" for n in range(number + 1)])
    manifests = sorted((tmp_path / "groups/flowers_v1").glob("*.json"))
    assert len(manifests) == 12
    noticed = 0
    for manifest in manifests[:-1]:  # nothing names the last one yet
        text = manifest.read_bytes()
        manifest.unlink()
        for moment, rows in zip(moments, expected, strict=True):
            try:
                assert ids(FileStore(tmp_path).read(FLOWERS, as_of=moment)) == rows
            except Damaged as error:
                assert manifest.name in str(error)
                noticed += 1
        manifest.write_bytes(text)
    assert noticed > 10


@pytest.mark.parametrize("kind", ["groups", "models", "files"])
def test_each_bit_flipped_in_a_manifest_is_noticed_or_harmless(root, kind):
    """A manifest with one wrong bit is never read as other content or as a newer format."""
    file = max(path for path in (root / kind).rglob("*.json"))
    whole = file.read_bytes()
    manifest = parse_manifest(file, whole)
    for position in range(8 * len(whole)):
        wrong = bytearray(whole)
        wrong[position // 8] ^= 1 << position % 8
        assert parse_manifest(file, bytes(wrong)) in (None, manifest), position


def test_bits_flipped_in_the_newest_manifest_of_rows_are_noticed(root):
    """By an error, or they are harmless: rows do not go missing silently."""
    file = max((root / "groups/flowers_v1").glob("*.json"))
    whole = file.read_bytes()
    for position in [*range(0, len(whole), 9), *range(-3, 0)]:
        flip(file, position, 1 << position % 8)
        try:
            assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"], position
        except Damaged as error:
            assert file.name in str(error)
        file.write_bytes(whole)


@pytest.mark.parametrize("kind", ["models", "files"])
@pytest.mark.parametrize("name", ["model.txt", "more.txt"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_of_a_version_is_an_error_that_names_it(root, kind, name, damage):
    file = next((root / kind).rglob(name))
    damage(file)
    with pytest.raises(Damaged, match=name):
        open_version(root, kind)


@pytest.mark.parametrize("kind", ["models", "files"])
def test_bits_flipped_in_a_versions_manifest_are_noticed(root, kind):
    file = next((root / kind).rglob("manifest.json"))
    version, whole = file.parent.name, file.read_bytes()
    for position in [*range(0, len(whole), 9), *range(-3, 0)]:
        flip(file, position, 1 << position % 8)
        try:
            assert open_version(root, kind).version == version, position
        except Damaged as error:
            assert str(file) in str(error)
        file.write_bytes(whole)


# ------------------------------------------------------------------ uncommitted is ignored


def test_rows_without_a_manifest_are_ignored(root):
    folder = root / "groups/flowers_v1"
    shutil.copy(next(folder.glob("*.parquet")), folder / "20990101T000000000000Z-00000000.parquet")
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["groups", "models", "files"])
def test_a_manifest_cut_short_anywhere_is_not_read(root, kind):
    file = max(path for path in (root / kind).rglob("*.json"))
    whole = file.read_bytes()
    for length in range(len(whole) - 2):  # always without the closing brace
        assert parse_manifest(file, whole[:length]) is None, length


def test_a_group_manifest_cut_short_anywhere_is_reported_and_its_rows_are_read(root):
    """From the Parquet file, which carries the commit's facts; and rows can be added."""
    file = max((root / "groups/flowers_v1").glob("*.json"))
    whole = file.read_bytes()
    for length in [*range(0, len(whole) - 2, 9), len(whole) - 3]:
        file.write_bytes(whole[:length])
        with pytest.warns(TornManifest, match=rf"{file.name} is cut short; its rows were read"):
            assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"], length
    with pytest.warns(TornManifest, match=file.name):
        FileStore(root).insert(FLOWERS, frame(flower("d", 3)))
    with pytest.warns(TornManifest, match=file.name):
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("kind", ["models", "files"])
def test_a_versions_manifest_cut_short_anywhere_is_reported_and_not_opened(
    root, tmp_path, kind, monkeypatch
):
    first = open_version(root, kind)
    store = FileStore(root)
    if kind == "models":
        second = store.save_model(HIGH_SCORE, tmp_path / "source", {"score": 0.9}, {"a": {"b": {}}})
    else:
        second = store.save_files("shards", tmp_path / "source", {"a": {"b": {}}})
    file = second.path / "manifest.json"
    whole = file.read_bytes()
    for length in [*range(0, len(whole) - 2, 9), len(whole) - 3]:
        file.write_bytes(whole[:length])
        with pytest.warns(TornManifest, match=rf"{file} is cut short.*not opened"):
            assert open_version(root, kind) == first, length
    file.unlink()
    assert open_version(root, kind) == first  # it may still be on its way
    monkeypatch.setattr("labstore.files.REPORT_SECONDS", 0)
    with pytest.warns(TornManifest, match=rf"{second.version} has no manifest.json.*not opened"):
        assert open_version(root, kind) == first


def test_a_model_without_any_manifest_is_not_found(root):
    next((root / "models").rglob("manifest.json")).unlink()
    with pytest.raises(NotFound, match="flower_score"):
        FileStore(root).load_model(HIGH_SCORE)


def test_foreign_files_and_drives_copies_in_the_folders_are_ignored(root):
    for folder in [root / "groups/flowers_v1", root / "models/flower_score", root / "files/shards"]:
        for path in list(folder.iterdir()):
            for name in (f"{path.stem} (1){path.suffix}", f"Copy of {path.name}", f"._{path.name}"):
                (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / name)
            if path.is_file():
                flip(folder / f"{path.stem} (1){path.suffix}")
        for name in ("desktop.ini", ".tmp", "x.tmp", ".DS_Store", "notes-to-keep.json"):
            (folder / name).write_text("{}")
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]
    assert open_version(root, "models").metrics == {"score": 0.5}
    assert open_version(root, "files").metadata == {}


def test_a_store_that_moved_is_the_same_store(root, tmp_path):
    before = FileStore(root).read(FLOWERS)
    moved = root.rename(tmp_path / "moved")
    pd.testing.assert_frame_equal(FileStore(moved).read(FLOWERS), before)
    assert open_version(moved, "models").path.is_relative_to(moved)


def test_a_manifest_that_points_outside_its_folder_is_refused(root):
    file = next((root / "files").rglob("manifest.json"))
    manifest = json.loads(file.read_bytes())
    del manifest["manifest_sha256"]
    manifest["files"]["../../../secret"] = {"bytes": 0, "sha256": ""}
    file.write_bytes(manifest_text(manifest))
    with pytest.raises(Damaged, match="outside its folder"):
        open_version(root, "files")


def test_pruning_removes_what_a_killed_writer_left_but_nothing_newer(tmp_path):
    """What is newer than all that can be seen may be on its way to Drive."""
    store = FileStore(tmp_path / "store")
    first = store.save_files(
        "checkpoint", folder_of(tmp_path / "source", **{"weights.bin": str(1)}), {}
    )
    dead = store.root / "files" / "checkpoint" / "20200101T000000000000Z-00000000"
    shutil.copytree(first.path, dead)
    (dead / "manifest.json").unlink()
    newer = store.root / "files" / "checkpoint" / "29990101T000000000000Z-00000000"
    shutil.copytree(dead, newer)
    store.prune_files("checkpoint", keep=1)
    assert not dead.exists() and newer.exists()
    assert store.list_files("checkpoint") == [first.version]


def test_a_damaged_version_is_listed_so_that_it_can_be_named(tmp_path):
    store = FileStore(tmp_path / "store")
    version = store.save_files(
        "checkpoint", folder_of(tmp_path / "source", **{"weights.bin": str(1)}), {}
    )
    manifest = store.root / "files" / "checkpoint" / version.version / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9] + b"00000000\n")
    store = FileStore(tmp_path / "store")
    assert store.list_files("checkpoint") == [version.version]
    with pytest.raises(Damaged):
        store.open_files("checkpoint", version.version)


# ---------------------------------------------------------------------- the format of manifests


def rewrite_newest(root, change):
    """Change the newest manifest of rows, its checksum included."""
    file = max((root / "groups/flowers_v1").glob("*.json"))
    manifest = json.loads(file.read_bytes())
    del manifest["manifest_sha256"]
    change(manifest)
    file.write_bytes(manifest_text(manifest))
    return file


def test_every_manifest_of_rows_carries_format_1_merged_ones_too(tmp_path, monkeypatch):
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 2)
    for day, name in enumerate("abcd"):
        FileStore(tmp_path).insert(FLOWERS, frame(flower(name, day)))
    found = [json.loads(p.read_bytes()) for p in (tmp_path / "groups/flowers_v1").glob("*.json")]
    assert any(manifest["replaces"] for manifest in found)
    assert {manifest["format"] for manifest in found} == {1}


def test_rows_whose_manifest_has_no_format_are_read_and_added_to(root):
    rewrite_newest(root, lambda manifest: manifest.pop("format"))
    FileStore(root).insert(FLOWERS, frame(flower("d", 3)))
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("later", [2, 17, "2.0"])
def test_rows_of_a_newer_format_are_refused_by_reading_and_inserting(root, later):
    """Whatever else a later format changes: only its format and its checksum are read."""

    def become_newer(manifest):
        manifest.clear()
        manifest["format"] = later

    file = rewrite_newest(root, become_newer)
    before = contents(root)
    update = rf"{file.name} is of format {later!r}.*newer version.*git pull && make .*Colab.*pip"
    for attempt in (
        lambda: FileStore(root).read(FLOWERS),
        lambda: FileStore(root).insert(FLOWERS, frame(flower("d", 3))),
    ):
        with pytest.raises(NewerFormat, match=update):
            attempt()
    assert contents(root) == before
