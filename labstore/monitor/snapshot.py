"""A monitor's snapshot: one JSON file that a page can read without any store behind it.

The daily run publishes it; a page reads it from the store, or from a file or https address.
"""

from __future__ import annotations

import hashlib
import json
import os
import tempfile
import urllib.request
from http.client import HTTPException
from pathlib import Path
from typing import Any

from labstore.contract import Damaged, FilesVersion, NotFound, Store, StoreError

FILE = "snapshot.json"
MAX_BYTES = 20_000_000


def publish(store: Store, name: str, content: dict[str, Any]) -> FilesVersion | None:
    """Save content as a new version; None, and nothing written, when it is what is there."""
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    try:
        if store.open_files(name).metadata["digest"] == digest:
            return None
    except (NotFound, Damaged):
        pass  # it is made from the store's rows: a damaged one is simply made again
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
        return store.save_files(name, Path(folder), {"digest": digest})


def current(name: str) -> dict[str, Any]:
    """What a monitor shows: the snapshot at LABS_SNAPSHOT, else the newest in the default store."""
    address = os.environ.get("LABS_SNAPSHOT")
    from labstore import open_store

    return fetch(address) if address else read(open_store(), name)


def read(store: Store, name: str) -> dict[str, Any]:
    """The newest snapshot in a store."""
    return fetch(store.open_files(name).path / FILE)


def fetch(address: str | Path) -> dict[str, Any]:
    """A snapshot from a file or an https address. Raises StoreError saying what is wrong."""
    try:
        if str(address).startswith("https://"):
            with urllib.request.urlopen(str(address), timeout=20) as answer:
                text = answer.read(MAX_BYTES + 1)
        else:
            with Path(address).open("rb") as file:
                text = file.read(MAX_BYTES + 1)
        if len(text) > MAX_BYTES:
            raise StoreError(f"The snapshot at {address} is over {MAX_BYTES // 10**6} MB.")
        content = json.loads(text)
    except (OSError, ValueError, RecursionError, HTTPException) as error:
        raise StoreError(
            f"There is no readable snapshot at {address} ({error}). Run the daily job once, or "
            "give the page another file or https:// address in LABS_SNAPSHOT."
        ) from None
    if not isinstance(content, dict) or "through" not in content:
        raise StoreError(f"{address} is JSON, but not a monitor's snapshot.")
    return content


def upload(store: Store, name: str, repo: str, token: str) -> str:
    """Copy the newest snapshot to a Hub data set; the address at which pages can read it."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo, repo_type="dataset", exist_ok=True)
    api.upload_file(
        path_or_fileobj=store.open_files(name).path / FILE,
        path_in_repo=f"{name}/{FILE}",
        repo_id=repo,
        repo_type="dataset",
    )
    return f"https://huggingface.co/datasets/{repo}/resolve/main/{name}/{FILE}"
