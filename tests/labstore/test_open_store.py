"""Which store open_store() opens by default, on Colab and elsewhere."""

from __future__ import annotations

import os
import subprocess
import sys
import types
from pathlib import Path

import hopsworks
import pytest
from helpers.hopsworks_double import Cluster
from helpers.pages import ROOT

from labstore import default_address, open_store


def opened_on_colab(tmp_path: Path, **more: str) -> str:
    """The folder of the default store, in a process that has google.colab."""
    code = "import colab_double, labstore; print(labstore.open_store().root)"
    env = {k: v for k, v in os.environ.items() if k != "LABS_STORE"}
    env |= {"PYTHONPATH": str(ROOT / "tests/rehearse"), "REHEARSED_DRIVE": str(tmp_path), **more}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_on_colab_the_default_store_is_on_drive_and_drive_is_mounted(tmp_path):
    assert opened_on_colab(tmp_path) == str(tmp_path / "MyDrive/labs")
    assert (tmp_path / "MyDrive").is_dir()
    assert opened_on_colab(tmp_path, LABS_STORE="/elsewhere") == "/elsewhere"


@pytest.mark.parametrize("google", [None, types.ModuleType("google")])
def test_another_package_named_google_is_not_colab(google, monkeypatch):
    monkeypatch.delenv("LABS_STORE", raising=False)
    monkeypatch.setitem(sys.modules, "google", google)  # none at all, or protobuf's
    if google:
        google.__path__ = []
    assert default_address() == str(ROOT / "store")


def test_the_hopsworks_key_may_be_one_of_colabs_secrets(monkeypatch):
    monkeypatch.setenv("HOPSWORKS_API_KEY", "")
    monkeypatch.delenv("REST_ENDPOINT", raising=False)
    userdata = types.SimpleNamespace(get={"HOPSWORKS_API_KEY": "from colab"}.__getitem__)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(userdata=userdata))
    cluster = Cluster()
    monkeypatch.setattr(hopsworks, "login", cluster.login)
    open_store("hopsworks:labs")
    assert cluster.login.call_args.kwargs["api_key_value"] == "from colab"
