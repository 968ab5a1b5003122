"""The store between the stages: `open_store(address)` is all that a lab needs to know."""

from __future__ import annotations

import contextlib
import importlib.util
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
    NotFound,
    NotWritable,
    Store,
    StoreError,
)

__all__ = [
    "UTC_TIME",
    "Damaged",
    "FeatureGroup",
    "FilesVersion",
    "InvalidRows",
    "Model",
    "ModelVersion",
    "NotFound",
    "NotWritable",
    "Store",
    "StoreError",
    "default_address",
    "open_store",
    "secret",
]

COLAB_DRIVE = Path("/content/drive")


def open_store(address: str | Path | None = None) -> Store:
    """Open the store at an address; nothing is created before the first write.

    - `None` or "": the address in the environment variable LABS_STORE, else on Colab "drive:labs",
      elsewhere the folder `store/` of the project;
    - "some/folder": that folder;
    - "drive:some/folder": that folder of My Drive, mounted first where Colab can;
    - "hopsworks:PROJECT": that project of Hopsworks, with the key in HOPSWORKS_API_KEY.
    """
    from labstore.files import FileStore

    address = str(address or default_address())
    kind, colon, rest = address.partition(":")
    if colon and kind == "drive":
        return FileStore(_drive_folder(rest))
    if colon and kind == "hopsworks":
        from labstore.hopsworks import connect

        return connect(rest)
    return FileStore(Path(address).expanduser())


def default_address() -> str:
    """$LABS_STORE, else `store/` in the nearest folder above that holds pyproject.toml.

    On Colab, where what is on the machine's own disk goes with the machine, "drive:labs".
    """
    if address := os.environ.get("LABS_STORE"):
        return address
    if _on_colab():
        return "drive:labs"
    here = Path.cwd()
    project = next((p for p in [here, *here.parents] if (p / "pyproject.toml").exists()), here)
    return str(project / "store")


def secret(name: str) -> str | None:
    """A secret of the environment, or of Colab's own store, which then joins the environment."""
    if not os.environ.get(name):
        try:
            from google.colab import userdata

            os.environ[name] = userdata.get(name)
        except Exception:  # not Colab, no such secret, or no access to it: all mean "not set"
            return None
    return os.environ[name]


def _on_colab() -> bool:
    """Other packages, such as protobuf's, are called google as well: only google.colab tells."""
    try:
        return importlib.util.find_spec("google.colab") is not None
    except ModuleNotFoundError:  # no google at all
        return False


def _drive_folder(folder: str) -> Path:
    """A folder of My Drive. Raises StoreError that says how to mount where it is not mounted."""
    if not folder.strip("/") or ".." in Path(folder).parts:
        raise StoreError(f"'drive:{folder}' names no folder of My Drive. Try 'drive:labs'.")
    my_drive = COLAB_DRIVE / "MyDrive"
    if not my_drive.is_dir():
        try:
            from google.colab import drive
        except ImportError:
            raise StoreError(
                f"Google Drive is not mounted: {my_drive} does not exist, and this is not Colab, "
                "where it could be mounted. Open this notebook in Colab, or use a folder: "
                "open_store('store')."
            ) from None
        with contextlib.suppress(Exception):  # a refusal is told below, with what to do
            drive.mount(str(COLAB_DRIVE))
    if not my_drive.is_dir():
        raise StoreError(
            f"Google Drive did not appear at {my_drive}. In Colab run "
            f"`from google.colab import drive; drive.mount('{COLAB_DRIVE}')`, allow the access "
            "it asks for, and run this cell again."
        )
    return my_drive / folder.strip("/")
