"""What the folder store does where it cannot write."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import tempfile
from contextlib import contextmanager
from pathlib import Path

import pytest
from helpers.stores import (
    FLOWERS,
    HIGH_SCORE,
    contents,
    flower,
    folder_of,
    frame,
    ids,
    open_version,
)

from labstore import (
    NotWritable,
    StoreError,
)
from labstore.files import FileStore


def writes(root: Path, source: Path):
    store = FileStore(root)
    return [
        lambda: store.insert(FLOWERS, frame(flower("z", 9))),
        lambda: store.save_files("shards", source, {}),
        lambda: store.save_model(HIGH_SCORE, source, {"score": 1.0}, {}),
    ]


def test_a_store_below_a_regular_file_is_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    source = folder_of(tmp_path / "source", a="1")
    for root in (tmp_path / "file", tmp_path / "file/store"):
        assert FileStore(root).read(FLOWERS).empty
        for attempt in writes(root, source):
            with pytest.raises(NotWritable, match=r"Cannot write .*file.*open_store.*LABS_STORE"):
                attempt()


@contextmanager
def without_privileges():
    """Run as another user for a while, since the superuser may write everywhere."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def locked(root):
    """A copy of the store in a folder that everybody may read and nobody may write."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = Path(folder) / "store"
        shutil.copytree(root, copy)
        folders = [p for p in [copy, *copy.rglob("*")] if p.is_dir()]
        for path in folders:
            path.chmod(0o555)
        yield copy
        for path in folders:
            path.chmod(0o755)


def test_a_read_only_store_is_read_but_not_written(locked):
    source = folder_of(locked.parent / "source", a="1")
    before = contents(locked)
    with without_privileges():
        assert ids(FileStore(locked).read(FLOWERS)) == ["a", "b", "c"]
        for attempt in writes(locked, source):
            with pytest.raises(NotWritable, match=r"Permission denied.*Choose a folder"):
                attempt()
    assert contents(locked) == before


def test_a_store_that_may_not_be_listed_is_an_error_not_an_empty_store(locked):
    for folder in ("groups/flowers_v1", "models/flower_score", "files/shards"):
        (locked / folder).chmod(0o000)
    with without_privileges():
        for attempt in (
            lambda: FileStore(locked).read(FLOWERS),
            lambda: open_version(locked, "models"),
            lambda: open_version(locked, "files"),
        ):
            with pytest.raises(StoreError, match="ermission"):
                attempt()


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 256 KiB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system takes the superuser")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_loses_nothing(tiny_disk, tmp_path):
    """With 0 to 6 pages left free, so that each file of an insert fails once."""
    store = FileStore(tiny_disk / "store")
    store.insert(FLOWERS, frame(flower("a")))
    source = folder_of(tmp_path / "source", **{"large.txt": "x" * 30_000})
    saved, refused = {"a"}, 0
    for pages in range(7):
        ballast = fill(tiny_disk, pages)
        for name, attempt in zip(f"{pages}xx", writes_of(store, pages, source), strict=True):
            try:
                attempt()
                saved |= {f"f{name}"} if name.isdigit() else set()
            except NotWritable as error:
                refused += 1
                assert "No space left" in str(error) and "Free some space" in str(error)
        assert set(ids(FileStore(store.root).read(FLOWERS))) == saved
        ballast.unlink()
    assert refused >= 7
    store.insert(FLOWERS, frame(flower("z")))
    assert set(ids(FileStore(store.root).read(FLOWERS))) == saved | {"z"}


def writes_of(store, pages, source):
    return [
        lambda: store.insert(FLOWERS, frame(flower(f"f{pages}"))),
        lambda: store.save_files("shards", source, {}),
        lambda: store.save_model(HIGH_SCORE, source, {"score": 1.0}, {}),
    ]


def fill(disk: Path, pages: int) -> Path:
    """Write a file that leaves only some pages of the disk free."""
    ballast, page = disk / "ballast", os.sysconf("SC_PAGE_SIZE")
    facts = os.statvfs(disk)
    size = facts.f_bavail * facts.f_bsize - pages * page
    ballast.write_bytes(bytes(max(0, size)))
    return ballast


def test_a_disk_that_fills_up_at_the_last_moment_is_named(root, tmp_path, monkeypatch):
    """The space runs out only when written pages are flushed."""

    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    for attempt in writes(root, tmp_path / "source"):
        with pytest.raises(NotWritable, match=r"No space left.*Free some space"):
            attempt()
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]
