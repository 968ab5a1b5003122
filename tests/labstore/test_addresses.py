"""Addresses that `open_store` understands."""

from __future__ import annotations

import sys
import types
from pathlib import Path

import pytest
from helpers.stores import (
    FLOWERS,
    flower,
    frame,
    ids,
)

import labstore
from labstore import (
    StoreError,
    default_address,
    open_store,
)


def test_an_address_is_a_folder_and_opening_it_creates_nothing(tmp_path):
    store = open_store(tmp_path / "new/store")
    assert store.read(FLOWERS).empty and not (tmp_path / "new").exists()
    store.insert(FLOWERS, frame(flower("a")))
    assert ids(open_store(str(tmp_path / "new/store")).read(FLOWERS)) == ["a"]


def test_a_tilde_is_the_home_folder(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/labs").root == tmp_path / "labs"


@pytest.mark.parametrize("nothing", [None, ""])
def test_the_default_address_is_the_environments_or_the_projects_store(
    tmp_path, monkeypatch, nothing
):
    inside = tmp_path / "notebooks/lab1"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.delenv("LABS_STORE", raising=False)
    assert default_address() == str(inside / "store")
    (tmp_path / "pyproject.toml").write_text("")
    assert open_store(nothing).root == tmp_path / "store"
    monkeypatch.setenv("LABS_STORE", str(tmp_path / "elsewhere"))
    assert open_store(nothing).root == tmp_path / "elsewhere"


@pytest.fixture
def colab_drive(tmp_path, monkeypatch):
    monkeypatch.setattr(labstore, "COLAB_DRIVE", tmp_path / "drive")
    return tmp_path / "drive"


def be_in_colab(monkeypatch, mount):
    """A double of google.colab, which exists on Colab only."""
    google, colab = types.ModuleType("google"), types.ModuleType("google.colab")
    google.colab = colab
    colab.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", colab)


def test_drive_outside_colab_names_the_alternatives(colab_drive):
    with pytest.raises(StoreError, match=r"not mounted.*not Colab.*open_store\('store'\)"):
        open_store("drive:labs")


def test_drive_is_mounted_on_colab(colab_drive, monkeypatch):
    mounted = []

    def mount(folder):
        mounted.append(folder)
        (Path(folder) / "MyDrive").mkdir(parents=True)

    be_in_colab(monkeypatch, mount)
    store = open_store("drive:labs/iris")
    store.insert(FLOWERS, frame(flower("a")))
    assert (colab_drive / "MyDrive/labs/iris/groups/flowers_v1").is_dir()
    assert ids(open_store("drive:/labs/iris/").read(FLOWERS)) == ["a"]
    assert mounted == [str(colab_drive)]


def refuse_mount(_):
    raise ValueError("mount failed")


@pytest.mark.parametrize("mount", [lambda _: None, refuse_mount], ids=["nothing came", "refused"])
def test_drive_that_does_not_mount_names_the_command_that_mounts_it(
    colab_drive, monkeypatch, mount
):
    be_in_colab(monkeypatch, mount)
    with pytest.raises(StoreError, match=r"did not appear.*drive\.mount\(.*run this cell again"):
        open_store("drive:labs")


@pytest.mark.parametrize("address", ["drive:", "drive:/", "drive:..", "drive:labs/../../x"])
def test_drive_addresses_stay_inside_my_drive(colab_drive, address):
    (colab_drive / "MyDrive").mkdir(parents=True)
    with pytest.raises(StoreError, match="is not a folder of My Drive"):
        open_store(address)


OTHER_KINDS = [
    *("s3://bucket/labs", "gs://bucket", "https://x.org/labs", "hdfs://h/labs", "file:///tmp/x"),
    *("Drive:labs", "DRIVE:", "drive :labs", " drive:labs", "hopsworks :x", "HopsWorks:labs", ":"),
    *("1:x", "ünï:x", "a b:c"),
]


@pytest.mark.parametrize("address", OTHER_KINDS)
def test_an_address_of_another_kind_is_refused_with_the_kinds_there_are(
    tmp_path, monkeypatch, address
):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(StoreError, match=r"one of: a folder, drive:FOLDER, hopsworks:PROJECT"):
        open_store(address)
    monkeypatch.setenv("LABS_STORE", address)
    with pytest.raises(StoreError, match="one of: a folder"):
        open_store()
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("kind", ["", "s", "S3", "drive", "DRIVE", "hdfs", "C"])
@pytest.mark.parametrize("rest", ["//x", "x", "", "\\labs"])
def test_only_one_letter_before_a_colon_is_a_folder_of_windows(tmp_path, monkeypatch, kind, rest):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "drive/MyDrive").mkdir(parents=True)
    monkeypatch.setattr(labstore, "COLAB_DRIVE", tmp_path / "drive")
    address = f"{kind}:{rest}"
    if len(kind) == 1:
        assert str(open_store(address).root) == str(Path(address))
    elif (kind, rest) == ("drive", "x") or (kind, rest) == ("drive", "//x"):
        assert open_store(address).root == tmp_path / "drive/MyDrive/x"
    elif (kind, rest) == ("drive", "\\labs"):
        open_store(address)
    else:
        with pytest.raises(StoreError):
            open_store(address)


@pytest.mark.parametrize("folder", ["./a:b", "/data/x:y", "x/s3:y"])
def test_a_colon_inside_a_path_is_part_of_a_folders_name(folder):
    assert open_store(folder).root == Path(folder)


@pytest.mark.parametrize("folder", ["a\0b", "~nobody_of_this_name/labs"])
def test_a_folder_that_cannot_be_is_refused(folder):
    with pytest.raises(StoreError, match=r"is not a folder.*one of: a folder"):
        open_store(folder)
