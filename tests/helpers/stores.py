"""What the store's tests share: a group of flowers, two models, and both kinds of store."""

from __future__ import annotations

import importlib
import os
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pytest

from labstore import UTC_TIME, FeatureGroup, Model
from labstore.files import FileStore
from labstore.hopsworks import HopsworksStore

DAY = timedelta(days=1)
START = datetime(2026, 1, 1, tzinfo=UTC)
SPECIES = ["setosa", "virginica"]


def group(name: str = "flowers", **columns: pa.Column) -> FeatureGroup:
    schema = {
        "flower_id": pa.Column(str),
        "measured_at": pa.Column(UTC_TIME),
        "petal_cm": pa.Column(float, pa.Check.in_range(0.1, 12)),
        "petals": pa.Column(int, pa.Check.in_range(1, 9)),
        "species": pa.Column(str, pa.Check.isin(SPECIES)),
    }
    return FeatureGroup(
        name=name,
        version=1,
        primary_key="flower_id",
        event_time="measured_at",
        schema=pa.DataFrameSchema(schema | columns, strict=True),
    )


FLOWERS = group()
SECOND_VERSION = FeatureGroup(**{**vars(group(petals=pa.Column(float))), "version": 2})
LOW_ERROR = Model("flower_error", metric="error", direction="min")
HIGH_SCORE = Model("flower_score", metric="score", direction="max")


def flower(name: str, day: float = 0, petal_cm: float = 1.0, **more) -> dict:
    row = {"flower_id": name, "measured_at": START + day * DAY, "petal_cm": petal_cm}
    return {**row, "petals": 5, "species": "setosa", **more}


def frame(*rows: dict) -> pd.DataFrame:
    return pd.DataFrame(list(rows))


def ids(rows: pd.DataFrame) -> list[str]:
    return rows["flower_id"].tolist()


def folder_of(path: Path, **texts: str) -> Path:
    """Write a folder with a text file per keyword; `a__b` becomes a/b."""
    for name, text in texts.items():
        file = path / name.replace("__", "/")
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return path


def contents(root: Path) -> dict[str, bytes]:
    return {str(p.relative_to(root)): p.read_bytes() for p in root.rglob("*") if p.is_file()}


STORES = ["files", "hopsworks"]  # with HUDI instead of DELTA: test_hopsworks.py


def new_store(kind: str, folder: Path):
    """Return an empty store; Hopsworks is a double in memory, see hopsworks_double.py."""
    if kind == "files":
        return FileStore(folder / "store")
    pytest.importorskip("hopsworks")
    cluster = importlib.import_module("helpers.hopsworks_double").Cluster()
    project = cluster.login(project="labs", engine="python")
    store = HopsworksStore(project, folder / "cache")
    store.cluster = cluster
    return store


def kept(store):
    """Return everything that a store holds, for comparison."""
    return contents(store.root) if isinstance(store, FileStore) else store.cluster.state()


def flip(path: Path, position: int = -1, bits: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= bits
    path.write_bytes(data)


DAMAGE = {
    "deleted": Path.unlink,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "first bit flipped": lambda path: flip(path, 0),
    "middle bit flipped": lambda path: flip(path, path.stat().st_size // 2),
    "last bit flipped": lambda path: flip(path, -1),
    "a folder instead": lambda path: (path.unlink(), path.mkdir()),
}


def open_version(root: Path, kind: str, version: str = "latest"):
    store = FileStore(root)
    if kind == "models":
        return store.load_model(HIGH_SCORE, version)
    return store.open_files("shards", version)


def save_models(store, folder, model, figures):
    source = folder_of(folder, **{"model.txt": "x"})
    return [store.save_model(model, source, {model.metric: f}, {"rows": 3}) for f in figures]
