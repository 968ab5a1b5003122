"""What both stores do with a group's rows: their types, the newest of each key, order, times."""

from __future__ import annotations

import hashlib
import io
import itertools
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labstore.contract import FeatureGroup, InvalidRows, StoreError
from labstore.versions import FORMAT, parse_manifest

INGESTED = "_ingested_at"
FACTS = b"ml_labs_commit"  # the key of a commit's facts in its Parquet file's metadata
MIN_GROUP_ROWS = 8_192
KINDS: list[Callable[[pa.DataType], bool]] = [
    lambda t: pa.types.is_string(t) or pa.types.is_large_string(t) or pa.types.is_string_view(t),
    pa.types.is_integer,
    pa.types.is_floating,
    pa.types.is_boolean,
    lambda t: pa.types.is_timestamp(t) and t.tz is not None,
]
"""Types of one kind hold the same values in different forms, and are cast to each other."""


def arrow_schema(group: FeatureGroup) -> pa.Schema:
    """Return the one schema in which a group's rows are written, and to which they are read."""
    fields = [pa.field(name, arrow_type(dtype)) for name, dtype in group.dtypes.items()]
    return pa.schema([*fields, pa.field(INGESTED, pa.timestamp("us", "UTC"))])


def arrow_type(dtype: Any) -> pa.DataType:
    """Return the Arrow type of a column that is declared with a pandas dtype."""
    empty = pd.Series(dtype=dtype)
    return pa.string() if empty.dtype == object else pa.array(empty).type


def valid_rows(group: FeatureGroup, rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows as the group declares them, whichever pandas types hold their values.

    A categorical or Arrow-backed text, a nullable integer without nulls or a float32 for a float64
    is cast. Raises InvalidRows, which names the column, for all that breaks the group's schema.
    """
    rows = rows.copy()
    for name, dtype in group.dtypes.items():
        if list(rows.columns).count(name) == 1:
            rows[name] = _in_declared_form(rows[name], dtype)
    rows = group.validate(rows)
    for name, dtype in group.dtypes.items():
        try:
            pa.array(rows[name], type=arrow_type(dtype))
        except (pa.ArrowException, TypeError, ValueError) as error:
            raise InvalidRows(
                f"Nothing was written to {group.label}: {name} holds values that cannot be kept as "
                f"{arrow_type(dtype)} ({error})."
            ) from error
    return rows


def _in_declared_form(column: pd.Series, dtype: Any) -> pd.Series:
    """Return a column cast to its declared dtype, as it is where its values are of another kind.

    Microseconds are kept of a time, as elsewhere in a store; no other value changes.
    """
    declared, wanted = pd.Series(dtype=dtype).dtype, arrow_type(dtype)
    if column.dtype == declared:
        return column
    try:
        values = pa.array(column)
        if isinstance(values, pa.ChunkedArray):
            values = values.combine_chunks()
        if pa.types.is_dictionary(values.type):
            values = values.dictionary_decode()
        if not any(kind(values.type) and kind(wanted) for kind in KINDS):
            return column
        values = values.cast(options=pc.CastOptions(wanted, allow_time_truncate=True))
        return pd.Series(values.to_pandas().astype(declared).array, index=column.index)
    except (pa.ArrowException, TypeError, ValueError, OverflowError):
        return column  # validation names it


def as_declared(table: pa.Table, schema: pa.Schema) -> pa.Table:
    """Return a stored table with the schema's columns and types, which earlier versions varied."""
    return table.select(schema.names).replace_schema_metadata(None).cast(schema)


def newest_rows(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the row of each key that was ingested last."""
    return rows.sort_values(INGESTED, kind="stable").drop_duplicates(key, keep="last")


def drop_superseded(rows: pd.DataFrame, inserted: pd.DataFrame, key: str) -> pd.DataFrame:
    """Return the rows whose key was not inserted again later.

    `inserted` holds the key and the ingest time of every insert that may be later.
    """
    latest = inserted.groupby(key)[INGESTED].max()
    return rows[~(rows[key].map(latest) > rows[INGESTED])]


def sort_keys(group: FeatureGroup) -> list[tuple[str, str]]:
    """Return the group's order, (event time, key), as Arrow's sort functions take it.

    Sorting in Arrow is ten times faster than in pandas.
    """
    return [(group.event_time, "ascending"), (group.primary_key, "ascending")]


def in_order(group: FeatureGroup, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the group's columns with their dtypes, ordered by (event time, key)."""
    keys = pa.Table.from_pandas(rows[[group.event_time, group.primary_key]])
    rows = rows.take(pc.sort_indices(keys, sort_keys=sort_keys(group)).to_numpy())
    return rows[group.columns].astype(group.dtypes).reset_index(drop=True)


def to_arrow(group: FeatureGroup, rows: pd.DataFrame) -> pa.Table:
    """Return rows as an Arrow table of the group's schema, ordered by (event time, key)."""
    table = pa.Table.from_pandas(rows, schema=arrow_schema(group), preserve_index=False)
    return table.sort_by(sort_keys(group))


def to_parquet(group: FeatureGroup, rows: pd.DataFrame, facts: bytes) -> memoryview:
    """Return rows as a Parquet file that carries the facts of its commit.

    A row group holds whole days, so that a day is read without the others: at least
    MIN_GROUP_ROWS where there are as many, since each row group costs time as well.
    """
    table = to_arrow(group, rows).replace_schema_metadata({FACTS: facts})
    days = pc.floor_temporal(table[group.event_time], unit="day").to_numpy()
    cuts = [0]
    for start in [*(np.flatnonzero(days[1:] != days[:-1]) + 1), len(table)]:
        if start - cuts[-1] >= MIN_GROUP_ROWS or start == len(table):
            cuts.append(int(start))
    sink = io.BytesIO()
    with pq.ParquetWriter(
        sink, table.schema, compression="zstd", write_page_checksum=True
    ) as writer:
        for start, end in itertools.pairwise(cuts):
            writer.write_table(table.slice(start, end - start), row_group_size=65_536)
    return sink.getbuffer()


def facts_in(group: FeatureGroup, path: Path, data: bytes) -> dict[str, Any] | None:
    """Return a commit's manifest, made again from its Parquet file; None for one not whole.

    A file that an earlier version wrote carries no facts; its own rows give them, but for the
    names of the commits before it.
    """
    try:
        table = pq.read_table(io.BytesIO(data), page_checksum_verification=True)
        facts = parse_manifest(path, (table.schema.metadata or {}).get(FACTS, b""))
        if facts is None:
            times = pc.min_max(table[group.event_time]).as_py()
            facts = {
                "format": FORMAT,
                "name": path.stem,
                "group": group.label,
                "schema": group.fingerprint,
                "rows": len(table),
                "from": times["min"].isoformat(),
                "to": times["max"].isoformat(),
                "parents": [],
                "replaces": [],
            }
    except (pa.ArrowException, OSError, KeyError, AttributeError):
        return None
    return facts | {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}


def window_filter(
    group: FeatureGroup, since: datetime | None, until: datetime | None
) -> pc.Expression | None:
    """Return since <= event time < until as a filter for Parquet files; None without bounds."""
    bounds = []
    if since is not None:
        bounds.append(pc.field(group.event_time) >= pa.scalar(since))
    if until is not None:
        bounds.append(pc.field(group.event_time) < pa.scalar(until))
    if len(bounds) == 2:
        return bounds[0] & bounds[1]
    return bounds[0] if bounds else None


def aware(time: datetime | None, name: str) -> datetime | None:
    """Return a time in UTC, and None as None.

    Raises StoreError, which names the argument, for a time without a zone.
    """
    if time is not None and getattr(time, "tzinfo", None) is None:
        raise StoreError(f"{name} must carry a time zone, e.g. datetime(2026, 1, 31, tzinfo=UTC).")
    return None if time is None else time.astimezone(UTC)
