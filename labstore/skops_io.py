"""Scikit-learn pipelines as files that cannot run code when loaded (skops, not pickle)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any
from zipfile import ZIP_DEFLATED, ZipFile

import numpy as np
import skops.io
from skops.io.exceptions import UntrustedTypesFoundException

from labstore.contract import Damaged, StoreError
from labstore.versions import library_versions

FILE = "model.skops"
DECISIVE = ["python", "scikit-learn", "numpy", "skops"]  # libraries whose types a file may hold


def save_pipeline(pipeline: Any, folder: Path) -> Path:
    """Write a fitted pipeline to `folder`/model.skops. Returns the file's path."""
    path = Path(folder) / FILE
    skops.io.dump(pipeline, path, compression=ZIP_DEFLATED, compresslevel=6)
    return path


def save_verified(pipeline: Any, folder: Path, trusted: Sequence[str], examples: Any) -> Path:
    """Write a fitted pipeline, read it back and compare what both predict of the examples.

    Returns the file's path. Raises StoreError for a pipeline that `load_pipeline` does not return
    with the same predictions: it must not be registered, since nobody could use it.
    """
    path, versions = save_pipeline(pipeline, folder), library_versions()
    try:
        again = load_pipeline(folder, trusted, versions)
    except Damaged as error:
        raise StoreError(
            f"The model was not registered: its own file is refused. {error}"
        ) from error
    if not np.allclose(_predict(again, examples), _predict(pipeline, examples)):
        raise StoreError(
            f"The model was not registered: read back from its file, it predicts otherwise. "
            f"{_libraries(versions)} Install those of requirements.txt and train the model again."
        )
    return path


def _predict(pipeline: Any, examples: Any) -> np.ndarray:
    """Return probabilities from a classifier, else predictions."""
    return getattr(pipeline, "predict_proba", pipeline.predict)(examples)


def load_pipeline(
    folder: Path, trusted: Sequence[str] = (), made_with: Mapping[str, str] | None = None
) -> Any:
    """Load a pipeline that `save_pipeline` wrote.

    `trusted` names the types, beyond skops' own list, that the file may hold. `made_with` holds the
    versions of the libraries that were recorded with the model, for the error's text. Raises Damaged
    for a file that does not hold a pipeline, holds any other type (nothing in it has run then), or
    needs a library that is not installed. An error in a type's own code is raised as it is.
    """
    path = Path(folder) / FILE
    versions = _libraries(made_with or {})
    try:
        return skops.io.load(path, trusted=list(trusted))
    except UntrustedTypesFoundException as error:
        types = str(error).partition("\n")[0]  # skops 0.16 adds paragraphs on some of them
        raise Damaged(
            f"{path} holds types that this lab does not trust ({types}). It was not loaded. {versions} "
            "Train the model again with this version of the project and these libraries."
        ) from error
    except Exception as error:
        if _is_missing_library(error) or not _is_readable(path):
            raise Damaged(
                f"{path} is not a readable model ({error}). {versions} Train the model again."
            ) from error
        raise


def _libraries(made_with: Mapping[str, str]) -> str:
    """Return a sentence with the recorded versions of the libraries, and those installed here."""
    recorded, present = (
        ", ".join(f"{name} {found[name]}" for name in DECISIVE if name in found)
        or "unknown versions"
        for found in (made_with, library_versions())
    )
    return f"It was made with {recorded}; here are {present}."


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
