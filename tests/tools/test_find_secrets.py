"""Secrets are found wherever they were written, and nothing harmless is reported."""

from __future__ import annotations

import re

import numpy as np
import pytest
from helpers.git import git

from tools import find_secrets

PLANTED = {  # joined at run time, so that this file contains no secret
    "Hugging Face token": "hf_" + "aB3" * 12,
    "Modal token": "ak-" + "aB3" * 8,
    "Hopsworks key": "aB3d" * 4 + "." + "aB3d" * 16,
    "GitHub token": "ghp_" + "aB3" * 12,
    "AWS key": "AKIA" + "ABCD" * 4,
    "Google key": "AIza" + "aB3-_" * 7,
    "key that starts with sk-": "sk-proj-" + "aB3" * 12,
    "Slack token": "xoxb-" + "123456-abc",
    "JSON web token": ".".join(["eyJ" + "aB3" * 6, "eyJ" + "aB3" * 6, "aB3" * 8]),
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "password in an address": "postgres://me:" + "hunter22@db.example.org",
    "key in a setting": "Api_Key = '" + "aB3d" * 7 + "'",
}


@pytest.mark.parametrize("kind", find_secrets.PATTERNS)
@pytest.mark.parametrize(
    ("name", "encoding"),
    [("app.py", "utf-8"), ("voice.mp3", "utf-8"), ("notes.txt", "utf-16"), ("old.csv", "latin-1")],
)
def test_a_planted_secret_is_found_in_any_text_file(kind, name, encoding, tmp_path):
    (tmp_path / name).write_text(f"x = 1 # é\nkey = '{PLANTED[kind]}'\n", encoding=encoding)
    [line] = find_secrets.in_folder(tmp_path)
    assert line.endswith(f"{name}: {kind}") and PLANTED[kind] not in line


def test_a_secret_among_random_bytes_is_found_and_random_bytes_are_none(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "looks-like-nothing")
    noise = np.random.default_rng(0).bytes(1_000_000)
    (tmp_path / "clip.mp3").write_bytes(noise)
    assert list(find_secrets.in_folder(tmp_path)) == []
    (tmp_path / "clip.mp3").write_bytes(noise + b"\0" + PLANTED["AWS key"].encode() + b"\0\xff")
    [line] = find_secrets.in_folder(tmp_path)
    assert line.endswith("clip.mp3: AWS key")
    (tmp_path / "clip.mp3").write_bytes(b"\xff\xfb\0 looks-like-nothing \xff")
    [line] = find_secrets.in_folder(tmp_path)
    assert line.endswith("clip.mp3: a secret of this environment")


def test_the_value_of_a_secret_in_the_environment_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "looks-like-nothing")
    (tmp_path / "index.html").write_text("<p>looks-like-nothing</p>")
    [line] = find_secrets.in_folder(tmp_path)
    assert line.endswith("index.html: a secret of this environment")


def test_a_secret_that_was_removed_again_is_found_in_the_history(tmp_path):
    git("init", "--quiet", cwd=tmp_path)
    for text in (f"token {PLANTED['GitHub token']}\n", "token from the environment\n"):
        (tmp_path / "notes.txt").write_text(text)
        git("add", ".", cwd=tmp_path)
        git("commit", "--quiet", "-m", "Notes", cwd=tmp_path)
    assert list(find_secrets.in_tree(tmp_path)) == []
    [line] = find_secrets.in_history(tmp_path)
    assert re.fullmatch(r"commit \w{8}: GitHub token", line)


def test_a_secret_in_a_list_in_a_commit_message_is_found(tmp_path):
    git("init", "--quiet", cwd=tmp_path)
    message = f"Notes\n\n- the token {PLANTED['GitHub token']} is out\n"
    git("commit", "--quiet", "--allow-empty", "-m", message, cwd=tmp_path)
    [line] = find_secrets.in_history(tmp_path)
    assert line.endswith("GitHub token")


def test_a_secret_that_a_merge_added_is_found(tmp_path):
    """The file is on neither side, so a plain `git log -p` does not show it."""
    git("init", "--quiet", "--initial-branch=main", cwd=tmp_path)
    git("commit", "--quiet", "--allow-empty", "-m", "Start", cwd=tmp_path)
    git("switch", "--quiet", "-c", "side", cwd=tmp_path)
    git("commit", "--quiet", "--allow-empty", "-m", "Side", cwd=tmp_path)
    git("switch", "--quiet", "main", cwd=tmp_path)
    git("merge", "--quiet", "--no-ff", "--no-commit", "side", cwd=tmp_path)
    (tmp_path / "notes.txt").write_text(PLANTED["AWS key"])
    git("add", ".", cwd=tmp_path)
    git("commit", "--quiet", "-m", "Merge", cwd=tmp_path)
    (tmp_path / "notes.txt").unlink()
    git("commit", "--quiet", "-a", "-m", "Out again", cwd=tmp_path)
    [line] = find_secrets.in_history(tmp_path)
    assert line.endswith("AWS key")


def test_checksums_run_names_and_placeholders_are_not_reported():
    harmless = f"sha256 {'ab12' * 16}; 20261123T182421826303Z-370e1111; HF_TOKEN=hf_... token = 'not-a-token'"
    assert find_secrets.in_text(harmless, []) is None
