"""The store between the stages. `open_store(address)` opens one."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from labstore.contract import (
    UTC_TIME,
    Damaged,
    FeatureGroup,
    FilesVersion,
    InvalidRows,
    Model,
    ModelVersion,
    NewerFormat,
    NotFound,
    NotWritable,
    PortableStore,
    Store,
    StoreError,
    TornManifest,
    Unreachable,
)
from labstore.environment import on_colab, secret

__all__ = [
    "UTC_TIME",
    "Damaged",
    "FeatureGroup",
    "FilesVersion",
    "InvalidRows",
    "Model",
    "ModelVersion",
    "NewerFormat",
    "NotFound",
    "NotWritable",
    "PortableStore",
    "Store",
    "StoreError",
    "TornManifest",
    "Unreachable",
    "default_address",
    "open_store",
    "secret",
]

COLAB_DRIVE = Path("/content/drive")
KINDS = "a folder, drive:FOLDER, hopsworks:PROJECT"


def open_store(address: str | Path | None = None) -> PortableStore:
    """Open the store at an address; nothing is created before the first write.

    - `None` or "": the default address, see `default_address`;
    - "some/folder": that folder;
    - "drive:some/folder": that folder of My Drive, which is mounted first on Colab;
    - "hopsworks:PROJECT": that Hopsworks project, with the key in HOPSWORKS_API_KEY.

    Raises StoreError for any other kind of address, and where Drive or Hopsworks cannot be opened.
    """
    from labstore.files import FileStore

    address = str(address or default_address())
    kind, colon, rest = address.partition(":")
    if not colon or "/" in kind or (len(kind) == 1 and kind.isalpha()):  # as in C:\labs
        return FileStore(_expanded(address))
    if kind == "drive":
        return FileStore(_drive_folder(rest), mount=COLAB_DRIVE / "MyDrive")
    if kind == "hopsworks":
        from labstore.hopsworks import connect

        return connect(rest)
    raise StoreError(
        f"{address!r} is not the address of a store. It must be one of: {KINDS}. A folder of that "
        f"name is given as {'./' + address!r}."
    )


def _expanded(folder: str) -> Path:
    """Return a folder with ~ as a home. Raises StoreError for one that no system can hold."""
    try:
        if "\0" in folder:
            raise ValueError("it holds a null character")
        return Path(folder).expanduser()
    except (ValueError, RuntimeError) as error:  # or "~" and no such user
        raise StoreError(
            f"{folder!r} is not a folder: {error}. A store's address is one of: {KINDS}."
        ) from error


def default_address() -> str:
    """Return the environment variable LABS_STORE, or else where the store is by default.

    On Colab that is "drive:labs", since the machine's own disk is deleted with the machine;
    elsewhere `store/` in the nearest folder, from here upwards, that holds pyproject.toml.
    """
    if address := os.environ.get("LABS_STORE"):
        return address
    if on_colab():
        return "drive:labs"
    here = Path.cwd()
    project = next((p for p in [here, *here.parents] if (p / "pyproject.toml").exists()), here)
    return str(project / "store")


def _drive_folder(folder: str) -> Path:
    """Return a folder of My Drive, mounted first on Colab.

    Raises StoreError, which says how to mount it, where it is not mounted.
    """
    if not folder.strip("/") or ".." in Path(folder).parts:
        raise StoreError(f"'drive:{folder}' is not a folder of My Drive. Try 'drive:labs'.")
    my_drive = COLAB_DRIVE / "MyDrive"
    if not my_drive.is_dir():
        try:
            from google.colab import drive
        except ImportError as error:
            raise StoreError(
                f"Google Drive is not mounted: {my_drive} does not exist, and this is not Colab, "
                "where it could be mounted. Open this notebook in Colab, or use a folder: "
                "open_store('store')."
            ) from error
        with contextlib.suppress(Exception):  # reported below, with what to do
            drive.mount(str(COLAB_DRIVE))
    if not my_drive.is_dir():
        raise StoreError(
            f"Google Drive did not appear at {my_drive}. In Colab run "
            f"`from google.colab import drive; drive.mount('{COLAB_DRIVE}')`, allow the access "
            "it asks for, and run this cell again."
        )
    return my_drive / folder.strip("/")
