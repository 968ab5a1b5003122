"""What several tests of the Whisper lab share: a stored corpus and a tiny model."""

from pathlib import Path

import pytest
from helpers.models import tiny_whisper

from lab2_whisper.features.shards import build_corpus
from lab2_whisper.features.sources import nano
from labstore import open_store


@pytest.fixture(scope="session")
def nano_store(tmp_path_factory) -> Path:
    """A store's folder with the nano corpus; tests copy it and leave it as it is."""
    folder = tmp_path_factory.mktemp("nano") / "store"
    build_corpus(open_store(folder), nano(), "nano_pl", processes=1)
    return folder


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """A tiny random Whisper's folder; tests leave it as it is."""
    return tiny_whisper(tmp_path_factory.mktemp("model") / "tiny")
