"""Flowers, real and synthetic, as rows for the store."""

from __future__ import annotations

import hashlib
import uuid
from datetime import UTC, date, datetime, time
from importlib import resources

import numpy as np
import pandas as pd

from lab1_iris.schema import FEATURES, FLOWERS, REAL, SPECIES, SYNTHETIC
from labstore import UTC_TIME, Store

GENERATOR = "iris-uniform-1"
PUBLISHED = datetime(1988, 7, 1, tzinfo=UTC)  # the day UCI's repository received Fisher's table

# The original lab's generator: uniform per class, cm, in the order of FEATURES.
SYNTHETIC_RANGES = {
    "setosa": [(4.5, 6.0), (2.3, 4.5), (1.2, 2.0), (0.3, 0.7)],
    "versicolor": [(4.5, 7.5), (2.1, 3.5), (3.1, 5.5), (1.0, 1.8)],
    "virginica": [(5.5, 8.0), (2.2, 3.8), (4.5, 7.0), (1.4, 2.5)],
}


def real_flowers() -> pd.DataFrame:
    """Return the 150 flowers of Anderson and Fisher (1936), as scikit-learn ships them.

    A row's id is made from the file's checksum and the line's number, so the two flowers with equal
    measurements stay two rows.
    """
    source = resources.files("sklearn.datasets.data").joinpath("iris.csv").read_bytes()
    checksum = hashlib.sha256(source).hexdigest()
    lines = source.decode().splitlines()[1:]
    rows = [line.split(",") for line in lines]
    table = pd.DataFrame([row[:4] for row in rows], columns=FEATURES).astype(float)
    table["species"] = [SPECIES[int(row[4])] for row in rows]
    table["flower_id"] = [_id(f"{checksum}/{number}") for number in range(1, len(rows) + 1)]
    table["measured_at"] = pd.Series([PUBLISHED] * len(rows), dtype=UTC_TIME)
    table["source"] = REAL
    return table[FLOWERS.columns]


def synthetic_flower(day: date) -> pd.DataFrame:
    """Return a day's flower, one row. The same date always gives the same flower.

    The species is drawn first, all three equally likely, then the measurements, rounded to 0.1 cm
    like the real ones.
    """
    random = np.random.default_rng(day.toordinal())
    species = SPECIES[random.integers(len(SPECIES))]
    low, high = np.array(SYNTHETIC_RANGES[species]).T
    row = dict(zip(FEATURES, random.uniform(low, high).round(1).tolist(), strict=True))
    row |= {"flower_id": flower_id(day), "source": SYNTHETIC, "species": species}
    row["measured_at"] = datetime.combine(day, time(), UTC)
    return pd.DataFrame([row]).astype({"measured_at": UTC_TIME})[FLOWERS.columns]


def flower_id(day: date) -> str:
    """Return the id of a day's synthetic flower."""
    return _id(f"{GENERATOR}/{day.isoformat()}")


def run(store: Store) -> pd.DataFrame:
    """Run the feature pipeline: put the real flowers into the store. Returns all stored flowers.

    Running it again changes nothing.
    """
    flowers = real_flowers()
    stored = store.read(FLOWERS)
    new = flowers[~flowers["flower_id"].isin(stored["flower_id"])]
    store.insert(FLOWERS, new)
    return store.read(FLOWERS)


def _id(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))
