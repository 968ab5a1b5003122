"""Scikit-learn pipelines as files that cannot run code when loaded (skops, not pickle)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from labstore.contract import Damaged

FILE = "model.skops"


def save_pipeline(pipeline: Any, folder: Path) -> Path:
    """Write a fitted pipeline to `folder`/model.skops. Returns the file's path."""
    path = Path(folder) / FILE
    skops.io.dump(pipeline, path, compression=ZIP_DEFLATED, compresslevel=6)
    return path


def load_pipeline(folder: Path, trusted: Sequence[str] = ()) -> Any:
    """Load a pipeline that `save_pipeline` wrote.

    `trusted` names the types, beyond skops' own list, that the file may hold. Raises Damaged for a
    file that does not hold a pipeline, holds any other type (nothing in it has run then), or needs
    a library that is not installed. An error in a type's own code is raised as it is.
    """
    path = Path(folder) / FILE
    try:
        return skops.io.load(path, trusted=list(trusted))
    except UntrustedTypesFoundException as error:
        raise Damaged(
            f"{path} holds types that this lab does not trust ({error}). It was not loaded. "
            "Train the model again with this version of the project."
        ) from error
    except Exception as error:
        if _is_missing_library(error) or not _is_readable(path):
            raise Damaged(
                f"{path} is not a readable model ({error}). Train the model again."
            ) from error
        raise


def _is_missing_library(error: Exception) -> bool:
    """Return whether a module, or a name in a module, was not found: versions differ."""
    missing_name = isinstance(error, AttributeError) and isinstance(error.obj, ModuleType)
    return missing_name or isinstance(error, ImportError)


def _is_readable(path: Path) -> bool:
    """Return whether a file is intact and describes an object, building nothing from it."""
    try:
        with ZipFile(path) as archive:
            intact = archive.testzip() is None
        skops.io.get_untrusted_types(file=path)
    except Exception:  # zipfile, zlib, json and skops fail in many ways on a damaged file
        return False
    return intact
