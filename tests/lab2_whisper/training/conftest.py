"""Stores, runs and trainings that the tests of training share."""

import shutil
from pathlib import Path

import pytest
from helpers.models import STEPS, Weights, last_weights, tiny_run

from lab2_whisper.training.loop import train
from lab2_whisper.training.run import Run
from labstore import open_store


@pytest.fixture
def store(nano_store, tmp_path):
    """A store of its own for one test, with the nano corpus."""
    return open_store(shutil.copytree(nano_store, tmp_path / "store"))


@pytest.fixture
def two_corpora(store, tmp_path):
    """`store` with the same corpus under a second name, other_pl."""
    first, files = store.open_files("nano_pl"), tmp_path / "other"
    files.mkdir()
    shutil.copy(first.path / "dropped.tsv", files)
    store.save_files("other_pl", files, first.metadata)
    return store


@pytest.fixture
def run(tiny_model) -> Run:
    return tiny_run(tiny_model)


@pytest.fixture(scope="session")
def trained(nano_store, tiny_model, tmp_path_factory) -> Path:
    """The folder of a store with an uninterrupted training."""
    folder = tmp_path_factory.mktemp("trained")
    store = open_store(shutil.copytree(nano_store, folder / "store"))
    outcome = train(store, tiny_run(tiny_model), folder=folder / "work")
    assert outcome.finished and outcome.step == STEPS
    return folder / "store"


@pytest.fixture
def trained_store(trained, tmp_path):
    """A copy of its own for one test."""
    return open_store(shutil.copytree(trained, tmp_path / "trained"))


@pytest.fixture(scope="session")
def final_weights(trained) -> Weights:
    """The last weights of the uninterrupted training."""
    return last_weights(open_store(trained), trained.parent)


@pytest.fixture(scope="session")
def stopped_folder(nano_store, tiny_model, tmp_path_factory) -> Path:
    """A folder with `store` and `work`, of a training that stopped after its first step."""
    folder = tmp_path_factory.mktemp("stopped")
    store = open_store(shutil.copytree(nano_store, folder / "store"))
    outcome = train(store, tiny_run(tiny_model), minutes=1e-9, folder=folder / "work")
    assert (outcome.finished, outcome.step) == (False, 1)
    return folder


@pytest.fixture
def stopped(stopped_folder, tmp_path) -> Path:
    """A copy of its own for one test."""
    return shutil.copytree(stopped_folder, tmp_path / "stopped")
