"""A monitor's snapshot: one JSON file that a page can read without any store behind it.

The daily run publishes it; a page reads it from the store, or from a file or https address. Others
may be able to write to that address, so a snapshot is checked before anything is made of it: what
every snapshot holds when it is fetched, what a lab's holds when its page asks for the `table`.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import reprlib
import tempfile
import urllib.request
from dataclasses import dataclass
from datetime import date
from http.client import HTTPException
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
from pandera.errors import SchemaErrors

from labstore import open_store
from labstore.contract import Damaged, FilesVersion, NotFound, Store, StoreError

FILE = "snapshot.json"
MAX_BYTES = 20_000_000


def _is_date(text: Any) -> bool:
    try:
        return date.fromisoformat(text).isoformat() == text
    except (TypeError, ValueError):
        return False


DATE = pa.Check(_is_date, element_wise=True, error="a date such as 2026-01-31")
# What every snapshot holds: single values, by their path, and a table with a row per day.
FACTS = {
    "lab": pa.Column(str),
    "data": pa.Column(str),
    "through": pa.Column(str, DATE),
    "last_run": pa.Column(str),
    "model.version": pa.Column(str),
    "model.algorithm": pa.Column(str),
}
ROWS = {"date": pa.Column(str, DATE), "model_version": pa.Column(str)}


@dataclass(frozen=True)
class SnapshotSchema:
    """What the snapshots of one lab hold, besides FACTS and ROWS. They may hold more."""

    facts: dict[str, pa.Column]  # single values by their path, e.g. "model.accuracy"
    rows: dict[str, pa.Column]  # one row per day


EVERY_LAB = SnapshotSchema(facts={}, rows={})


def table(content: dict[str, Any], schema: SnapshotSchema = EVERY_LAB) -> pd.DataFrame:
    """Return a snapshot's rows, ordered by date, after checking the whole snapshot.

    Raises StoreError, which names the first value that is wrong.
    """
    _refuse_not_finite(content)
    nested = {name: value for name, value in content.items() if name not in ("rows", "dates")}
    _validate("", [nested], FACTS | schema.facts)
    dates = [{"date": day} for day in _list(content, "dates", str)]
    _validate("dates: ", dates, {"date": pa.Column(str, DATE)})
    rows = _validate("rows: ", _list(content, "rows", dict), ROWS | schema.rows)
    return rows.sort_values("date", ignore_index=True)


def _refuse_not_finite(content: dict[str, Any]) -> None:
    """Raise StoreError for NaN or an infinite number anywhere in a snapshot; pages show neither."""
    waiting: list[tuple[str, Any]] = list(content.items())
    while waiting:
        place, value = waiting.pop()
        if isinstance(value, float) and not math.isfinite(value):
            raise _refused(f"{place} is {value}, where it must be a finite number")
        if isinstance(value, dict):
            waiting += [(f"{place}.{name}", inner) for name, inner in value.items()]
        elif isinstance(value, list):
            waiting += [(f"{place}[{number}]", inner) for number, inner in enumerate(value)]


def _list(content: dict[str, Any], name: str, kind: type) -> list[Any]:
    """Return one of a snapshot's two lists. Raises StoreError where it is not one, or empty."""
    values = content.get(name)
    if isinstance(values, list) and values and all(isinstance(value, kind) for value in values):
        return values
    raise _refused(f"{name} is {reprlib.repr(values)}")


def _validate(
    place: str, records: list[dict[str, Any]], columns: dict[str, pa.Column]
) -> pd.DataFrame:
    """Return the named columns of the records. Raises StoreError for the first wrong value."""
    try:
        frame = pd.json_normalize(records, max_level=1)
    except OverflowError as error:  # pandas 2.3.3 refuses whole numbers that no float can hold
        raise _refused(f"{place}{error}") from error
    try:
        schema = pa.DataFrameSchema(columns, strict="filter")
        return schema.validate(frame, lazy=True)[list(columns)]
    except SchemaErrors as errors:
        case = errors.failure_cases.iloc[0]
        if case["check"] == "column_in_dataframe":
            raise _refused(f"{place}{case['failure_case']} is missing") from errors
        name, check, value = case["column"], str(case["check"]), case["failure_case"]
        if check.startswith("dtype(") and len(frame) == 1:  # pandera may name the type instead
            value = frame[name].tolist()[0]
        raise _refused(f"{place}{name} {_wrong(check, value)}") from errors


def _wrong(check: str, value: Any) -> str:
    """Return what is wrong with a value in words, from the name of the check that refused it."""
    if check == "not_nullable":
        return "has no value"
    shown = reprlib.repr(value.item() if hasattr(value, "item") else value)
    kinds = {"int": "a whole number", "float": "a number", "str": "text", "datetime": "a time"}
    wanted = next((words for kind, words in kinds.items() if kind in check), check)
    return f"is {shown}, where it must be {wanted}"


def _refused(what: str) -> StoreError:
    return StoreError(
        f"This is not a snapshot that the page can show: {what}. Run the daily job again, "
        "or check the address in LABS_SNAPSHOT."
    )


def publish(store: Store, name: str, content: dict[str, Any]) -> FilesVersion | None:
    """Save content as a new version. Return None, and write nothing, where it has not changed.

    Raises StoreError for content that no page would show, because a number in it is not finite.
    """
    _refuse_not_finite(content)
    digest = hashlib.sha256(json.dumps(content, sort_keys=True).encode()).hexdigest()
    try:
        if store.open_files(name).metadata["digest"] == digest:
            return None
    except (NotFound, Damaged):
        pass  # a snapshot is made from the store's rows, so a damaged one is simply made again
    with tempfile.TemporaryDirectory() as folder:
        (Path(folder) / FILE).write_text(json.dumps(content, indent=1), encoding="utf-8")
        return store.save_files(name, Path(folder), {"digest": digest})


def current(name: str) -> dict[str, Any]:
    """Return the snapshot at the address in LABS_SNAPSHOT, else the default store's newest."""
    address = os.environ.get("LABS_SNAPSHOT")
    return fetch(address) if address else read(open_store(), name)


def read(store: Store, name: str) -> dict[str, Any]:
    """Return the newest snapshot in a store. Raises StoreError where there is none or it is broken."""
    return fetch(store.open_files(name).path / FILE)


def fetch(address: str | Path) -> dict[str, Any]:
    """Return the snapshot in a file or at an https address. Raises StoreError naming what is wrong."""
    try:
        if str(address).startswith("https://"):
            with urllib.request.urlopen(str(address), timeout=20) as answer:
                text = answer.read(MAX_BYTES + 1)
        else:
            with Path(address).expanduser().open("rb") as file:
                text = file.read(MAX_BYTES + 1)
        content = json.loads(text) if len(text) <= MAX_BYTES else None
    except (OSError, ValueError, RecursionError, HTTPException) as error:
        raise StoreError(
            f"There is no readable snapshot at {address} ({error}). Run the daily job once, or "
            "give the page another file or https:// address in LABS_SNAPSHOT."
        ) from error
    if len(text) > MAX_BYTES:
        raise StoreError(f"The snapshot at {address} is over {MAX_BYTES // 10**6} MB.")
    if not isinstance(content, dict):
        raise StoreError(f"{address} is JSON, but not a monitor's snapshot.")
    table(content)
    return content


def upload(store: Store, name: str, repo: str, token: str) -> str:
    """Copy the newest snapshot to a Hub data set. Return the address at which pages can read it."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo, repo_type="dataset", exist_ok=True)
    api.upload_file(
        path_or_fileobj=store.open_files(name).path / FILE,
        path_in_repo=f"{name}/{FILE}",
        repo_id=repo,
        repo_type="dataset",
    )
    return f"https://huggingface.co/datasets/{repo}/resolve/main/{name}/{FILE}"
