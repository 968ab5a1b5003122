"""Stores that several of the tests here need."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import pytest
from helpers.stores import FLOWERS, HIGH_SCORE, STORES, flower, folder_of, frame, new_store

from labstore.files import FileStore

OLD_STORE = Path(__file__).parents[1] / "fixtures/store_2026_11.zip"


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    """Each implementation of the contract, empty."""
    return new_store(request.param, tmp_path)


@pytest.fixture
def root(tmp_path):
    """A store's folder with a group of three commits, a model and a folder of files."""
    root = tmp_path / "store"
    store = FileStore(root)
    for day, name in enumerate("abc"):
        store.insert(FLOWERS, frame(flower(name, day)))
    source = folder_of(tmp_path / "source", **{"model.txt": "weights", "deep__more.txt": "more"})
    store.save_model(HIGH_SCORE, source, {"score": 0.5}, {"rows": 3})
    store.save_files("shards", source, {})
    return root


@pytest.fixture(scope="session")
def unpacked_old_store(tmp_path_factory) -> Path:
    """The folder of a store that an earlier version wrote, before manifests had a format."""
    folder = tmp_path_factory.mktemp("old")
    with zipfile.ZipFile(OLD_STORE) as archive:
        archive.extractall(folder)
    return folder / "store"


@pytest.fixture
def old_store(unpacked_old_store, tmp_path) -> FileStore:
    """That store, in a folder of its own for one test."""
    return FileStore(shutil.copytree(unpacked_old_store, tmp_path / "old store"))
