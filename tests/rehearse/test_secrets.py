"""No secret in the tree, its history, or anything that is staged for others to see."""

from __future__ import annotations

import sys

import pytest
from clean_room import ROOT

sys.path.insert(0, str(ROOT / "tools"))
import find_secrets
import space

pytestmark = pytest.mark.rehearse


def test_no_secret_in_tree_or_history():
    assert list(find_secrets.in_tree()) == []
    assert list(find_secrets.in_history()) == []


@pytest.mark.parametrize("name", space.SPACES)
def test_no_secret_in_a_staged_space(name, iris_history, wine_history, monkeypatch, tmp_path):
    stores = {"iris": iris_history, "wine": wine_history}
    if (lab := name.split("-")[0]) not in stores:
        pytest.skip("its folder is looked at where it is rehearsed")
    monkeypatch.setenv("LABS_STORE", str(stores[lab]))
    monkeypatch.setenv("HF_TOKEN", "a value that nobody publishes")
    assert list(find_secrets.in_folder(space.stage(name, tmp_path))) == []
