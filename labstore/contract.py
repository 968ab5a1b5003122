"""What every store promises, what the labs pass to it, and the errors it raises.

A lab declares its tables and its model once, in its `schema.py`, as `FeatureGroup` and `Model`.
A store keeps their rows, files and versions. There are two stores: a folder (`files.py`) and a
project in Hopsworks (`hopsworks.py`).
"""

from __future__ import annotations

import hashlib
import json
import re
from contextlib import AbstractContextManager
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Literal, Protocol

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

UTC_TIME = pd.DatetimeTZDtype("us", "UTC")
"""The one dtype of times in a store: aware, UTC, microseconds."""

Kind = Literal["files", "models"]
"""What a stored version is a version of."""

MAX_EXPLAINED_CASES = 5


class StoreError(Exception):
    """A problem with the store that a person has to fix; the message says what it is and how."""


class NotFound(StoreError):
    """The model, files or version asked for do not exist; the message lists those that do."""


class Damaged(StoreError):
    """Something committed is missing or has changed; the message names the file."""


class NewerFormat(StoreError):
    """Something was written by a newer version of the project; the message says how to update."""


class NotWritable(StoreError):
    """The store's folder cannot be written to."""


class Unreachable(StoreError):
    """The store's disk or Drive does not answer; the message says how to mount it again."""


class TornManifest(UserWarning):
    """A commit's manifest was cut short or lost; the message names it, and what was read."""


class InvalidRows(StoreError, ValueError):
    """Rows that break their group's schema; nothing was written."""


@dataclass(frozen=True)
class FeatureGroup:
    """A versioned table: one row per primary key, each with the time its event happened.

    `schema` is strict: it names every column with its type and its allowed range.
    """

    name: str
    version: int
    primary_key: str
    event_time: str
    schema: pa.DataFrameSchema

    @property
    def label(self) -> str:
        """The name and version as people read them, e.g. "wines v1"."""
        return f"{self.name} v{self.version}"

    @property
    def columns(self) -> list[str]:
        """The names of the schema's columns, in its order."""
        return list(self.schema.columns)

    @property
    def fingerprint(self) -> str:
        """A short hash of the columns, types, key and event time, which stored rows must share."""
        types = {name: str(column.dtype) for name, column in self.schema.columns.items()}
        text = json.dumps([types, self.primary_key, self.event_time])
        return hashlib.sha256(text.encode()).hexdigest()[:16]

    @property
    def dtypes(self) -> dict[str, Any]:
        """The dtype of each column."""
        return {name: column.dtype.type for name, column in self.schema.columns.items()}

    def empty(self) -> pd.DataFrame:
        """Return a frame of no rows with the group's columns and dtypes."""
        return pd.DataFrame({name: pd.Series(dtype=dtype) for name, dtype in self.dtypes.items()})

    def validate(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return the rows in the group's column order, times in UTC microseconds.

        Raises InvalidRows, which names the column, the value and what is allowed.
        """
        rows = rows.copy()
        double = rows.columns[rows.columns.duplicated()]
        if len(double):
            raise InvalidRows(
                f"Nothing was written to {self.label}: column {double[0]!r} occurs twice."
            )
        if isinstance(getattr(rows.get(self.event_time), "dtype", None), pd.DatetimeTZDtype):
            rows[self.event_time] = rows[self.event_time].dt.tz_convert("UTC").astype(UTC_TIME)
        try:
            self.schema.validate(rows, lazy=True)
        except SchemaErrors as errors:
            raise InvalidRows(self._explain(errors)) from errors
        repeated = rows[self.primary_key][rows[self.primary_key].duplicated()]
        if len(repeated):
            raise InvalidRows(
                f"Nothing was written to {self.label}: {self.primary_key} {repeated.iloc[0]!r} "
                "occurs twice in the same rows. Keep one row per key."
            )
        return rows[self.columns].reset_index(drop=True)

    def _explain(self, errors: SchemaErrors) -> str:
        cases = errors.failure_cases.to_dict("records")
        mistyped = {c["column"] for c in cases if str(c["check"]).startswith("dtype(")}
        sentences = [
            self._sentence(case)
            for case in cases  # a column of the wrong type fails its other checks for that reason
            if case["column"] not in mistyped or str(case["check"]).startswith("dtype(")
        ]
        shown, rest = sentences[:MAX_EXPLAINED_CASES], sentences[MAX_EXPLAINED_CASES:]
        more = [f"and {len(rest)} more"] if rest else []
        return f"Nothing was written to {self.label}: " + "; ".join(shown + more) + "."

    def _sentence(self, case: dict[str, Any]) -> str:
        column, check, value = case["column"], str(case["check"]), case["failure_case"]
        if check == "column_in_dataframe":
            return f"column {value!r} is missing (columns: {', '.join(self.columns)})"
        if check == "column_in_schema":
            return f"column {value!r} is unknown (columns: {', '.join(self.columns)})"
        if check == "not_nullable":
            return (
                f"{column} has no value in row {case['index']}: it must be {self.allowed(column)}"
            )
        if check.startswith("dtype("):
            wanted = f"{self.schema.columns[column].dtype}, {self.allowed(column)}"
            return f"{column} is {value}, where it must be of type {wanted}"
        return f"{column} = {value!r} in row {case['index']} is not {self.allowed(column)}"

    def allowed(self, column: str) -> str:
        """Return a column's valid values in words: 'from 0.1 to 12' or 'one of setosa, ...'."""
        words: list[str] = []
        for check in self.schema.columns[column].checks:
            facts = check.statistics or {}
            if "allowed_values" in facts:
                words.append("one of " + ", ".join(map(str, facts["allowed_values"])))
            elif "min_value" in facts and "max_value" in facts:
                words.append(f"from {facts['min_value']} to {facts['max_value']}")
            else:
                words.append(str(check.error or check.name))
        return " and ".join(words) or "valid"


@dataclass(frozen=True)
class Model:
    """A model's name, and the metric that decides which of its versions is best."""

    name: str
    metric: str
    direction: Literal["min", "max"]


@dataclass(frozen=True)
class FilesVersion:
    """A stored, immutable folder. `path` has been verified against its checksums."""

    name: str
    version: str
    path: Path
    created_at: datetime
    metadata: dict[str, Any]


@dataclass(frozen=True)
class ModelVersion(FilesVersion):
    """A registered model: its files, its metrics, and the data and libraries it was made with."""

    metrics: dict[str, float]


@dataclass(frozen=True)
class Contents:
    """What a store holds: labels of groups ("wines v1"), and each name's versions, oldest first."""

    groups: list[str]
    files: dict[str, list[str]]
    models: dict[str, list[str]]


class Store(Protocol):
    """Features, files and models. Times are UTC and aware; the end of a range is exclusive."""

    def insert(self, group: FeatureGroup, rows: pd.DataFrame) -> None:
        """Append rows. A key that exists already is replaced: the newest insert wins.

        Raises InvalidRows, and writes nothing, where rows break the group's schema.
        """

    def read(
        self,
        group: FeatureGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Return one row per key with since <= event time < until, ordered by (event time, key).

        `as_of` is time travel: the rows as they were stored at that moment. Raises Damaged naming
        the file where committed rows are missing or changed.
        """

    def save_files(self, name: str, folder: Path, metadata: dict[str, Any]) -> FilesVersion:
        """Keep a copy of a folder as a new version."""

    def open_files(self, name: str, version: str = "latest") -> FilesVersion:
        """Return a version of a folder, "latest" or by its id, with every file verified.

        Raises NotFound, which lists the versions there are, or Damaged, which names the file.
        """

    def list_files(self, name: str) -> list[str]:
        """Return the ids of a folder's versions, oldest first, including damaged ones.

        The list is empty where there is no such name.
        """

    def prune_files(self, name: str, keep: int) -> None:
        """Remove all but the newest `keep` (1 or more) versions, and what killed writers left.

        Only for a name with one writer whose versions replace each other, as checkpoints do.
        """

    def save_model(
        self, model: Model, folder: Path, metrics: dict[str, float], metadata: dict[str, Any]
    ) -> ModelVersion:
        """Register a folder as a new version; library versions and git commit are added.

        Raises StoreError where the model's own metric is absent or not finite.
        """

    def load_model(self, model: Model, version: str = "best") -> ModelVersion:
        """Return a registered version, every file verified: "best" by its metric, "latest", or an id.

        A version whose metadata has "data": "real" is better than any other. Raises NotFound or
        Damaged as `open_files` does.
        """

    def verify(self, prefix: str = "") -> int:
        """Check every committed file of names that begin with `prefix`; return how many are whole.

        Reading checks a file once in a process; this checks it anew. Raises Damaged naming a file.
        """

    def free_bytes(self) -> int | None:
        """Return how many bytes can still be written, None where that is not known."""


class PortableStore(Store, Protocol):
    """A store whose versions can be copied to another with their ids: see `copying.py`."""

    def contents(self) -> Contents:
        """Return the names and versions of everything that is kept here."""

    def lend(self, kind: Kind, name: str, version: str) -> AbstractContextManager[Path]:
        """Return a context with the folder of a version and its manifest, every file verified."""

    def adopt(self, kind: Kind, folder: Path) -> bool:
        """Keep another store's version, lent as a folder, under its own id.

        Returns False where that version is here already.
        """


def check_name(name: str) -> str:
    """Return a name. Raises StoreError for one that is not a valid folder name everywhere."""
    if not is_name(name):
        raise StoreError(
            f"{name!r} is not a valid name in a store: use lower-case letters, digits and _ "
            "(up to 63), a letter first, e.g. 'iris_flowers', and none of Windows' names of devices "
            "(con, nul, prn, aux, com1, lpt1 ...)."
        )
    return name


def is_name(name: str) -> bool:
    """Return whether a group, a model or files may have this name."""
    device = re.fullmatch(r"con|nul|prn|aux|(com|lpt)[0-9]", name)
    return device is None and re.fullmatch(r"[a-z][a-z0-9_]{0,62}", name) is not None
