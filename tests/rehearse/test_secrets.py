"""No secret in the tree, its history, or anything that is published."""

from __future__ import annotations

import pytest

from tools import find_secrets, space

pytestmark = pytest.mark.rehearse


def test_no_secret_in_tree_or_history():
    assert list(find_secrets.in_tree()) == []
    assert list(find_secrets.in_history()) == []


@pytest.mark.parametrize("name", [name for name in space.SPACES if name.endswith("-static")])
def test_no_secret_in_a_static_page(name, iris_history, wine_history, monkeypatch, tmp_path):
    """test_spaces.py searches the other Spaces."""
    folder = iris_history if name.startswith("iris") else wine_history
    monkeypatch.setenv("LABS_STORE", str(folder))
    monkeypatch.setenv("HF_TOKEN", "a value that nobody publishes")
    assert list(find_secrets.in_folder(space.stage(name, tmp_path))) == []
