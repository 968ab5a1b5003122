"""A store that is out of reach is not empty, not damaged, and never made anew beside the old one."""

from __future__ import annotations

import errno
import os
import shutil
from pathlib import Path

import pytest
from helpers.stores import FLOWERS, HIGH_SCORE, contents, flower, folder_of, frame, ids

import labstore
from labstore import Damaged, NotWritable, Unreachable, open_store
from labstore.disk import MARKER
from labstore.files import FileStore
from labstore.versions import UNREACHABLE


def uses(store, source):
    return {
        "read": lambda: store.read(FLOWERS),
        "open": lambda: store.open_files("shards"),
        "list": lambda: store.list_files("shards"),
        "load": lambda: store.load_model(HIGH_SCORE),
        "contents": store.contents,
        "verify": store.verify,
        "prune": lambda: store.prune_files("shards", 1),
        "insert": lambda: store.insert(FLOWERS, frame(flower("z", 9))),
        "save": lambda: store.save_files("shards", source, {}),
        "register": lambda: store.save_model(HIGH_SCORE, source, {"score": 1.0}, {}),
    }


USES = [
    *("read", "open", "list", "load", "contents"),
    *("verify", "prune", "insert", "save", "register"),
]


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("seen", ["marker", "content"])
def test_a_store_that_was_there_and_is_gone_is_unreachable(root, tmp_path, use, seen):
    if seen == "content":
        (root / MARKER).unlink()
    store = FileStore(root)
    assert len(store.read(FLOWERS)) == 3
    root.rename(tmp_path / "elsewhere")
    with pytest.raises(Unreachable, match=r"remount.*open_store") as refused:
        uses(store, tmp_path / "source")[use]()
    assert "delete" not in str(refused.value) and not root.exists()
    (tmp_path / "elsewhere").rename(root)
    assert len(store.read(FLOWERS)) == 3


@pytest.mark.parametrize("use", USES)
@pytest.mark.parametrize("used", [True, False], ids=["used before", "not used yet"])
def test_a_drive_that_is_unmounted_is_unreachable_and_nothing_is_written(
    tmp_path, monkeypatch, use, used
):
    drive = tmp_path / "drive/MyDrive"
    drive.mkdir(parents=True)
    monkeypatch.setattr(labstore, "COLAB_DRIVE", tmp_path / "drive")
    store = open_store("drive:labs")
    source = folder_of(tmp_path / "source", a="1")
    if used:
        store.insert(FLOWERS, frame(flower("a")))
    drive.rename(tmp_path / "unmounted")
    with pytest.raises(Unreachable, match=r"MyDrive is not there.*drive\.mount"):
        uses(store, source)[use]()
    assert not drive.exists()
    (tmp_path / "unmounted").rename(drive)
    assert ids(store.read(FLOWERS)) == (["a"] if used else [])


def test_a_drive_that_is_unmounted_between_two_files_of_a_version_gets_no_third(
    tmp_path, monkeypatch
):
    drive = tmp_path / "drive/MyDrive"
    drive.mkdir(parents=True)
    store = FileStore(drive / "labs", mount=drive)
    source = folder_of(tmp_path / "source", a="1", b="2")
    copy = FileStore._copy

    def unmount_after(self, file, target):
        done = copy(self, file, target)
        drive.rename(tmp_path / "unmounted")
        return done

    monkeypatch.setattr(FileStore, "_copy", unmount_after)
    with pytest.raises(Unreachable):
        store.save_files("shards", source, {})
    assert not drive.exists()


def failing(monkeypatch, code, what):
    """Let each call of a kind below a store fail with an error of the system."""
    error = OSError(code, os.strerror(code))

    def fail(*_, **__):
        raise error

    for owner, name in what:
        monkeypatch.setattr(owner, name, fail)


READING = {
    "listing": [(Path, "iterdir")],
    "stat": [(Path, "stat")],
    "reading": [(Path, "read_bytes"), (Path, "open")],
}


@pytest.mark.parametrize("code", sorted(UNREACHABLE), ids=errno.errorcode.get)
@pytest.mark.parametrize("what", READING)
@pytest.mark.parametrize("use", ["read", "open", "load"])
def test_a_disk_that_does_not_answer_is_unreachable_never_damaged(
    root, monkeypatch, code, what, use
):
    with monkeypatch.context() as patch:
        failing(patch, code, READING[what])
        with pytest.raises(Unreachable) as refused:
            uses(FileStore(root), root)[use]()
    assert "delete" not in str(refused.value) and "remount" in str(refused.value)


def test_the_errors_of_a_lost_mount_are_among_them():
    for name in ("ENOTCONN", "EIO", "ESTALE", "ETIMEDOUT", "EHOSTDOWN"):
        assert getattr(errno, name) in UNREACHABLE


@pytest.mark.parametrize("use", ["insert", "save", "register"])
def test_a_disk_that_does_not_answer_while_written_is_unreachable(root, tmp_path, monkeypatch, use):
    before = contents(root)
    with monkeypatch.context() as patch:
        failing(patch, errno.EIO, [(os, "fsync")])
        with pytest.raises(Unreachable):
            uses(FileStore(root), tmp_path / "source")[use]()
    assert contents(root) == before


@pytest.mark.parametrize("use", ["insert", "save", "register"])
def test_a_used_up_quota_is_to_be_freed_not_left_for_another_folder(
    root, tmp_path, monkeypatch, use
):
    failing(monkeypatch, errno.EDQUOT, [(os, "fsync")])
    with pytest.raises(NotWritable, match=r"quota.*empty its trash") as refused:
        uses(FileStore(root), tmp_path / "source")[use]()
    assert "FOLDER" not in str(refused.value)


def test_the_marker_is_written_first_and_added_to_an_older_store(old_store, tmp_path):
    assert not (old_store.root / MARKER).exists()
    new = FileStore(tmp_path / "new")
    for store in (old_store, new):
        store.insert(FLOWERS, frame(flower("a")))
        assert (store.root / MARKER).exists()


def test_rows_that_vanish_with_the_store_while_read_are_not_damaged(root, monkeypatch):
    store = FileStore(root)
    live = store._live

    def unmount(*arguments):
        found = live(*arguments)
        shutil.rmtree(root)
        return found

    monkeypatch.setattr(store, "_live", unmount)
    with pytest.raises(Unreachable) as refused:
        store.read(FLOWERS)
    assert not isinstance(refused.value, Damaged)
