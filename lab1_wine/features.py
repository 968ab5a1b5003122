"""Wines, measured and synthetic, as rows for the store."""

from __future__ import annotations

import hashlib
import io
import os
import tempfile
import uuid
from datetime import UTC, date, datetime, time
from importlib import resources
from pathlib import Path
from typing import Protocol

import pandas as pd
import pooch
import requests

from lab1_wine.schema import DISTINCT, REAL, SAMPLE, SYNTHETIC, TYPES, WINES
from labstore import UTC_TIME, Damaged, Store

UCI = "https://archive.ics.uci.edu/ml/machine-learning-databases/wine-quality/"
FILES = {  # name, md5: P. Cortez et al., UCI Machine Learning Repository (2009), CC BY 4.0
    "red": ("winequality-red.csv", "2daeecee174368f8a33b82c8cccae3a5"),
    "white": ("winequality-white.csv", "5d9ff0f7f716dace19e3ab4578775fd7"),
}
PUBLISHED = datetime(2009, 10, 7, tzinfo=UTC)  # the day UCI's repository received the tables


class Generator(Protocol):
    """What draws a synthetic wine: any generator of generator.py."""

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """Return n wines with FEATURES and quality. The same seed gives the same wines."""


def load_wines() -> pd.DataFrame:
    """Return the 6,497 wines of the UCI repository, or without a network the offline sample.

    The files are taken from the folder `wine` of LABS_DATA, else from the cache, else downloaded.
    The sample's rows have "offline sample" as their source, and everything made from them says so.
    Raises Damaged for a file that is not UCI's, OSError where this machine can keep no file at all.
    """
    try:
        return pd.concat([_table(wine_type) for wine_type in TYPES], ignore_index=True)
    except requests.RequestException as error:
        print(
            f"The UCI tables could not be fetched ({type(error).__name__}). Using the OFFLINE SAMPLE "
            "instead: synthetic wines, whose scores say nothing about real ones. For the real ones "
            f"put {' and '.join(name for name, _ in FILES.values())} into a folder wine/ and set "
            "LABS_DATA to its parent."
        )
        return offline_sample()


def deduplicate(wines: pd.DataFrame) -> pd.DataFrame:
    """Return one row per distinct wine: 5,320 of the 6,497.

    Wines with equal measurements always have equal quality.
    """
    return wines.drop_duplicates(DISTINCT, ignore_index=True)


def offline_sample() -> pd.DataFrame:
    """Return the 1,000 synthetic wines of offline_sample.csv, drawn by make_offline_sample.py."""
    source = resources.files("lab1_wine").joinpath("offline_sample.csv")
    table = pd.read_csv(io.BytesIO(source.read_bytes()))
    table["wine_id"] = [_id(f"offline-sample/{number}") for number in range(len(table))]
    return _as_rows(table, SAMPLE)


def synthetic_wine(generator: Generator, day: date) -> pd.DataFrame:
    """Return a day's wine, one row. The same date and generator always give the same wine.

    Its id is made from the date alone, so a date has one wine whatever the generator.
    """
    wine = generator.sample(1, seed=day.toordinal())
    wine["wine_id"] = wine_id(day)
    wine["tasted_at"] = pd.Series([datetime.combine(day, time(), UTC)], dtype=UTC_TIME)
    return _as_rows(wine, SYNTHETIC)


def wine_id(day: date) -> str:
    """Return the id of a day's synthetic wine."""
    return _id(f"wine-daily/{day.isoformat()}")


def run(store: Store) -> pd.DataFrame:
    """Run the feature pipeline: put the measured wines into the store. Returns all stored wines.

    Running it again changes nothing.
    """
    stored = store.read(WINES)
    if (stored["source"] == REAL).any():
        return stored
    wines = load_wines()
    store.insert(WINES, wines[~wines["wine_id"].isin(stored["wine_id"])])
    return store.read(WINES)


def _table(wine_type: str) -> pd.DataFrame:
    content = _content(wine_type)
    table = pd.read_csv(io.BytesIO(content), sep=";")
    table.columns = [name.lower().replace(" ", "_") for name in table.columns]
    checksum = hashlib.sha256(content).hexdigest()
    table["wine_id"] = [_id(f"{checksum}/{line}") for line in range(1, len(table) + 1)]
    table["wine_type"] = wine_type
    return _as_rows(table, REAL)


def _content(wine_type: str) -> bytes:
    """Return a verified table: from LABS_DATA, from the cache, or downloaded from UCI.

    A cache that cannot be used does no harm. Raises RequestException where UCI cannot be reached,
    Damaged for a file that is not UCI's.
    """
    name, md5 = FILES[wine_type]
    if folder := os.environ.get("LABS_DATA"):
        path = Path(folder).expanduser() / "wine" / name
        if path.exists():
            content = path.read_bytes()
            if hashlib.md5(content, usedforsecurity=False).hexdigest() != md5:
                raise Damaged(f"{path} is not the UCI file (md5 differs). Remove it or replace it.")
            return content
    try:
        return _download(name, md5, pooch.os_cache("ml-labs"))
    except requests.RequestException:
        raise
    except OSError as error:
        print(f"{name} is not kept for the next time: the cache cannot be used ({error}).")
        with tempfile.TemporaryDirectory() as elsewhere:
            return _download(name, md5, Path(elsewhere))


def _download(name: str, md5: str, folder: Path) -> bytes:
    """Return a table of UCI's, downloaded into a folder unless it is there already."""
    download = pooch.HTTPDownloader(timeout=30, progressbar=False)
    try:
        path = pooch.retrieve(UCI + name, f"md5:{md5}", name, folder, downloader=download)
    except ValueError as error:
        raise Damaged(f"{UCI + name} is not the expected file: {error}") from error
    return Path(path).read_bytes()


def _as_rows(table: pd.DataFrame, source: str) -> pd.DataFrame:
    table = table.assign(source=source)
    if "tasted_at" not in table:
        table["tasted_at"] = pd.Series([PUBLISHED] * len(table), dtype=UTC_TIME)
    return table[WINES.columns]


def _id(text: str) -> str:
    return str(uuid.uuid5(uuid.NAMESPACE_URL, text))
