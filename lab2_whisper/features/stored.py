"""Open the corpora that shards.py has stored, for reports, training and evaluation.

open_corpus(store, "nano_pl", "train")       -> memory-mapped rows, schema.COLUMNS
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import datasets
import numpy as np

from lab2_whisper.schema import SPLITS, LabError
from labstore import Store


def open_corpus(
    store: Store,
    name: str,
    split: str | None = None,
    version: str = "latest",
    cache_dir: str | Path | None = None,
) -> datasets.Dataset:
    """Open a stored corpus, or one split of it, as memory-mapped rows with schema.COLUMNS.

    `cache_dir` is a local folder to which the shards are copied once, since a mounted Drive is too
    slow to train from. Raises LabError where `name` is not a corpus or the copy fails.
    """
    if split not in (None, *SPLITS):
        raise LabError(f"split must be one of {', '.join(SPLITS)}, not {split!r}.")
    corpus = store.open_files(name, version)
    if "shards" not in corpus.metadata:
        raise LabError(f"{name!r} is not a corpus but other files. build_corpus makes corpora.")
    shards: list[tuple[str, str]] = corpus.metadata["shards"]
    files = [_shard_file(store, shard, made, cache_dir) for shard, made in shards]
    whole = datasets.concatenate_datasets([datasets.Dataset.from_file(str(f)) for f in files])
    return whole if split is None else whole.select(_rows_of(whole, split))


def mix(weighted: list[tuple[datasets.Dataset, float]], seed: int = 0) -> datasets.Dataset:
    """Interleave (corpus, weight) pairs: each row comes from a corpus drawn in proportion to weight.

    The result is long enough to hold every clip at least once; clips of small corpora repeat. Only
    row numbers are made, no clip is copied. Raises LabError for a weight of 0 or less.
    """
    weights = np.array([weight for _, weight in weighted], dtype=float)
    if not len(weights) or (weights <= 0).any():
        raise LabError("mix() needs at least one (corpus, weight) pair, with weights above 0.")
    return datasets.interleave_datasets(
        [corpus for corpus, _ in weighted],
        probabilities=(weights / weights.sum()).tolist(),
        seed=seed,
        stopping_strategy="all_exhausted",
    )


def _shard_file(store: Store, name: str, version: str, cache_dir: str | Path | None) -> Path:
    if cache_dir is None:
        return store.open_files(name, version).path / "clips.arrow"
    target = Path(cache_dir).expanduser() / f"{name}-{version}.arrow"
    if not target.exists():
        target.parent.mkdir(parents=True, exist_ok=True)
        unfinished = target.with_suffix(f".{os.getpid()}")
        _copy(store.open_files(name, version).path / "clips.arrow", unfinished)
        unfinished.replace(target)
    return target


def _copy(source: Path, target: Path) -> None:
    try:
        shutil.copyfile(source, target)
    except OSError as error:
        target.unlink(missing_ok=True)  # a partial file would only fill the disk further
        raise LabError(
            f"{source.parent.name} could not be copied to {target.parent} "
            f"({error.strerror or error}). Free some space or give another `cache_dir`."
        ) from error


def _rows_of(corpus: datasets.Dataset, split: str) -> np.ndarray:
    return np.flatnonzero(corpus.data.column("split").to_numpy() == split)
