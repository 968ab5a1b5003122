"""What the folder store removes, checks and repeats: nothing that it should leave alone."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import time
from datetime import UTC, datetime
from pathlib import Path

import pandas as pd
import pyarrow.parquet as pq
import pytest
from helpers.stores import (
    DAY,
    FLOWERS,
    HIGH_SCORE,
    START,
    contents,
    flip,
    flower,
    folder_of,
    frame,
    ids,
)

from labstore import Damaged, NotWritable, StoreError
from labstore import versions as labstore_versions
from labstore.files import FileStore


@pytest.fixture
def generations(tmp_path):
    """A store with four versions of one name, and the ids of them."""
    store = FileStore(tmp_path / "store")
    source = folder_of(tmp_path / "source", **{"weights.bin": "w" * 1000, "deep__more.bin": "m"})
    return store, [store.save_files("checkpoint", source, {}).version for _ in range(4)]


def test_pruning_leaves_a_backup_of_hard_links_whole(generations, tmp_path):
    store, _ = generations
    subprocess.run(["cp", "-al", store.root, tmp_path / "backup"], check=True)
    before = contents(tmp_path / "backup")
    store.prune_files("checkpoint", 1)
    store.remove("files", "checkpoint", store.list_files("checkpoint")[0])
    assert contents(tmp_path / "backup") == before


@pytest.mark.parametrize("what", ["version", "file", "manifest", "folder"])
def test_pruning_follows_no_link(generations, tmp_path, what):
    store, versions = generations
    version = store.root / "files/checkpoint" / versions[0]
    inside = {"file": "weights.bin", "manifest": "manifest.json", "folder": "deep"}
    linked = version / inside[what] if what in inside else version
    linked.rename(tmp_path / "moved")
    linked.symlink_to(tmp_path / "moved")
    shutil.copytree(tmp_path / "source", tmp_path / "kept")
    before = (
        (tmp_path / "moved").read_bytes()
        if not (tmp_path / "moved").is_dir()
        else contents(tmp_path / "moved")
    )
    store.prune_files("checkpoint", 1)
    moved = tmp_path / "moved"
    assert (contents(moved) if moved.is_dir() else moved.read_bytes()) == before
    assert not version.is_symlink() and not version.exists()


def test_pruning_removes_nothing_where_it_sees_nothing_to_keep(generations):
    store, versions = generations
    for version in versions:
        (store.root / "files/checkpoint" / version / "manifest.json").unlink()
    before = contents(store.root)
    store.prune_files("checkpoint", 1)
    assert contents(store.root) == before


@pytest.mark.parametrize("keep", [0, -1])
def test_pruning_to_nothing_is_refused(generations, keep):
    store, versions = generations
    with pytest.raises(StoreError, match="must be 1 or more"):
        store.prune_files("checkpoint", keep)
    assert store.list_files("checkpoint") == versions


@pytest.fixture
def tiny_disk(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=512k", "tmpfs", str(disk)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system takes the superuser")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_save_that_fails_on_a_full_disk_leaves_nothing_behind(tiny_disk, tmp_path):
    """So a version that fitted before still fits after any number of failed ones."""
    store = FileStore(tiny_disk / "store")
    small = folder_of(tmp_path / "small", **{"a.bin": "x" * 100_000})
    large = folder_of(tmp_path / "large", **{"a.bin": "x" * 100_000, "b.bin": "x" * 600_000})
    store.insert(FLOWERS, frame(flower("a")))
    before, free = contents(tiny_disk), store.free_bytes()
    for _ in range(3):
        with pytest.raises(NotWritable, match="No space left"):
            store.save_files("shards", large, {})
        with pytest.raises(NotWritable, match="No space left"):
            store.save_model(HIGH_SCORE, large, {"score": 1.0}, {})
        names = frame(*(flower(f"{os.urandom(400).hex()}{n}") for n in range(2000)))
        with pytest.raises(NotWritable, match="No space left"):
            store.insert(FLOWERS, names)
        assert contents(tiny_disk) == before
        assert abs(store.free_bytes() - free) <= 8 * os.sysconf("SC_PAGE_SIZE")
    store.save_files("shards", small, {})
    assert ids(store.read(FLOWERS)) == ["a"]


def test_folders_are_synced_before_and_after_a_commit(tmp_path, monkeypatch):
    synced = []
    fsync = os.fsync

    def record(handle):
        synced.append(os.readlink(f"/proc/self/fd/{handle}"))
        fsync(handle)

    if not Path("/proc/self/fd").exists():
        pytest.skip("needs /proc to name what is synced")
    monkeypatch.setattr(os, "fsync", record)
    FileStore(tmp_path / "new/store").insert(FLOWERS, frame(flower("a")))
    folder = str(tmp_path / "new/store/groups/flowers_v1")
    last = [Path(p).suffix or p for p in synced[-4:]]
    assert last == [".parquet", folder, ".json", folder]
    assert {str(tmp_path), str(tmp_path / "new"), str(tmp_path / "new/store")} <= set(synced)


def test_a_folder_that_cannot_be_synced_is_written_to_all_the_same(tmp_path, monkeypatch):
    fsync = os.fsync

    def refuse_folders(handle):
        if os.path.isdir(f"/proc/self/fd/{handle}"):
            raise OSError(22, "Invalid argument")
        fsync(handle)

    monkeypatch.setattr(os, "fsync", refuse_folders)
    FileStore(tmp_path).insert(FLOWERS, frame(flower("a")))
    assert ids(FileStore(tmp_path).read(FLOWERS)) == ["a"]


# ------------------------------------------------------------------------------------ merges


def test_a_merge_names_what_it_replaces_itself_and_no_more(tmp_path, monkeypatch):
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 4)
    store, moments = FileStore(tmp_path), []
    for day in range(40):
        store.insert(FLOWERS, frame(flower(f"{day:02}", day), flower("x", day)))
        moments.append(datetime.now(UTC))
    found = [json.loads(p.read_bytes()) for p in (tmp_path / "groups/flowers_v1").glob("*.json")]
    assert max(len(m["replaces"]) for m in found) == 4 and len(found) > 50
    again = FileStore(tmp_path)
    assert len(again._live(FLOWERS)) <= 4
    for day, moment in enumerate(moments):
        expected = sorted([*(f"{n:02}" for n in range(day + 1)), "x"])
        assert sorted(ids(again.read(FLOWERS, as_of=moment))) == expected
    assert len(again.read(FLOWERS)) == 41


# --------------------------------------------------------------------------- checked once


@pytest.fixture
def settled(root, monkeypatch):
    """A store whose files are old enough for a changed one to be told by its time."""
    for path in root.rglob("*"):
        os.utime(path, (time.time() - 100,) * 2)
    monkeypatch.setattr(labstore_versions, "SETTLED_SECONDS", -1)
    monkeypatch.setattr(labstore_versions, "_verified", {})
    return root


@pytest.fixture
def digests(monkeypatch):
    """The names of files that are checked, in order."""
    seen, digest = [], labstore_versions.hashlib.file_digest

    def record(file, kind):
        seen.append(Path(file.name).name)
        return digest(file, kind)

    monkeypatch.setattr(labstore_versions.hashlib, "file_digest", record)
    return seen


def read_all(root):
    store = FileStore(root)
    assert ids(store.read(FLOWERS)) == ["a", "b", "c"]
    store.load_model(HIGH_SCORE)
    store.open_files("shards")


def test_a_file_is_checked_once_in_a_process(settled, digests):
    read_all(settled)
    assert len(digests) == len(set(digests)) + 2 == 7  # model.txt and more.txt are there twice
    read_all(settled)
    assert len(digests) == 7


@pytest.mark.parametrize("name", ["*.parquet", "model.txt"])
@pytest.mark.parametrize("keeps_time", [True, False])
@pytest.mark.parametrize("change", ["flip", "append", "truncate"])
def test_a_file_damaged_after_it_was_checked_is_noticed(settled, name, keeps_time, change):
    read_all(settled)
    file = next(settled.rglob(name))
    facts = file.stat()
    if change == "flip":
        flip(file, 40 if facts.st_size > 40 else 0)
    else:
        os.truncate(file, facts.st_size + (1 if change == "append" else -1))
    if keeps_time:
        os.utime(file, ns=(facts.st_atime_ns, facts.st_mtime_ns))
    with pytest.raises(Damaged, match=file.name):
        read_all(settled)
    with pytest.raises(Damaged, match=file.name):
        FileStore(settled).verify()


def test_a_file_that_was_just_written_is_checked_again(root, digests):
    """Its time may not show a change within the same tick of the file system's clock."""
    read_all(root)
    first = len(digests)
    read_all(root)
    assert len(digests) == 2 * first


def test_verify_checks_every_file_anew(settled, digests):
    store = FileStore(settled)
    read_all(settled)
    del digests[:]
    assert store.verify() == len(digests) == 7
    assert store.verify("flowers") == 3 and store.verify("shards") == 2
    assert store.verify("none") == 0


@pytest.mark.parametrize("pattern", ["groups/*/*.parquet", "groups/*/*.json", "m*/*/*/model.txt"])
def test_verify_names_what_is_damaged_though_it_was_read_before(settled, pattern, monkeypatch):
    store = FileStore(settled)
    read_all(settled)
    file = min(settled.glob(pattern))
    flip(file, 30 if file.suffix != ".txt" else 0)
    # As if neither size nor times had changed.
    with pytest.raises(Damaged, match=file.name):
        store.verify()


def test_verify_finds_a_lost_commit_and_replaced_ones_too(tmp_path, monkeypatch):
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 3)
    store = FileStore(tmp_path)
    for day in range(8):
        store.insert(FLOWERS, frame(flower(str(day), day)))
    first = min((tmp_path / "groups/flowers_v1").glob("*.parquet"))
    assert store.verify() == len(list(tmp_path.rglob("*.parquet")))
    whole = first.read_bytes()
    flip(first, 30)
    assert len(store.read(FLOWERS)) == 8  # it was replaced
    with pytest.raises(Damaged, match=first.name):
        store.verify()
    first.write_bytes(whole)
    first.unlink()
    first.with_suffix(".json").unlink()
    with pytest.raises(Damaged, match=first.stem):
        store.verify()


# ----------------------------------------------------------------------------- row groups


def test_row_groups_hold_whole_days(tmp_path, monkeypatch):
    monkeypatch.setattr("labstore.rows.MIN_GROUP_ROWS", 5)
    rows = frame(*(flower(f"{day}-{n}", day + n / 10) for day in range(9) for n in range(day % 4)))
    store = FileStore(tmp_path)
    store.insert(FLOWERS, rows.sample(frac=1, random_state=0))
    (path,) = tmp_path.rglob("*.parquet")
    file, days = pq.ParquetFile(path), []
    for number in range(file.num_row_groups):
        times = file.read_row_group(number, columns=["measured_at"]).to_pandas()["measured_at"]
        days.append(set(times.dt.date))
    assert len(days) == 2 and sum(map(len, days)) == len(set.union(*days))
    for day in range(9):
        found = store.read(FLOWERS, since=START + day * DAY, until=START + (day + 1) * DAY)
        assert len(found) == day % 4
    assert len(store.read(FLOWERS)) == len(rows)
    assert isinstance(found, pd.DataFrame)
