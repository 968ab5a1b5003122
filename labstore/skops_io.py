"""Scikit-learn pipelines as files that cannot run code when loaded (skops, not pickle)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from zipfile import ZIP_DEFLATED

import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from labstore.contract import Damaged

FILE = "model.skops"


def save_pipeline(pipeline, folder: Path) -> Path:
    """Write a fitted pipeline to `folder`/model.skops."""
    path = Path(folder) / FILE
    skops.io.dump(pipeline, path, compression=ZIP_DEFLATED, compresslevel=6)
    return path


def load_pipeline(folder: Path, trusted: Sequence[str] = ()):
    """Read a pipeline back. `trusted` names the types, beyond skops' own list, that it may hold.

    Raises Damaged for a file that is no pipeline or holds any other type: nothing of it has run.
    """
    path = Path(folder) / FILE
    try:
        return skops.io.load(path, trusted=list(trusted))
    except UntrustedTypesFoundException as error:
        raise Damaged(
            f"{path} holds types that this lab does not trust ({error}). It was not loaded. "
            "Train the model again with this version of the project."
        ) from None
    except Exception as error:  # a damaged file can fail in zip, zlib, json or numpy
        raise Damaged(f"{path} is not a readable model ({error}). Train the model again.") from None
