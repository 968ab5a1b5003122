"""What both stores do with a group's rows: the newest row of each key, their order, their times."""

from __future__ import annotations

from datetime import UTC, datetime

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc

from labstore.contract import FeatureGroup, StoreError

INGESTED = "_ingested_at"


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
    """Return rows as an Arrow table, ordered by (event time, key)."""
    return pa.Table.from_pandas(rows, preserve_index=False).sort_by(sort_keys(group))


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
