"""The run ledger of a daily job: which dates are done, and the backfill of those that are not.

A job is a function of a date. Each date ends up done once, however often the job is called, on
whatever days it is not called, and wherever it fails.
"""

from __future__ import annotations

import argparse
import contextlib
import sys
import time as clock
from collections.abc import Callable
from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path

import pandas as pd
import pandera.pandas as pa

from labstore import open_store
from labstore.contract import UTC_TIME, FeatureGroup, Store, StoreError


def ledger_group(name: str) -> FeatureGroup:
    """Return the feature group of a ledger.

    It has a row per date and status, so that no later entry can undo a "done".
    """
    return FeatureGroup(
        name=name,
        version=1,
        primary_key="entry",
        event_time="day",
        schema=pa.DataFrameSchema(
            {
                "entry": pa.Column(str),
                "date": pa.Column(str, pa.Check.str_matches(r"^\d{4}-\d{2}-\d{2}$")),
                "day": pa.Column(UTC_TIME),
                "status": pa.Column(str, pa.Check.isin(["pending", "failed", "done"])),
                "rows": pa.Column("int64", pa.Check.in_range(0, 1_000_000)),
                "model_version": pa.Column(str),
                "seconds": pa.Column(float, pa.Check.in_range(0.0, 1e6)),
                "finished_at": pa.Column(UTC_TIME),
            },
            strict=True,
        ),
    )


def backfill(
    store: Store,
    ledger: FeatureGroup,
    today: date,
    model_version: str,
    run_date: Callable[[date], int],
) -> list[date]:
    """Run every date up to today that is not done, oldest first. Returns the dates done now.

    `run_date` writes a date's rows, always the same for the same date, and returns how many. The
    ledger's "done" is written after them, so the rows of a done date are complete. A date that
    fails is entered as "failed", stops the run, and its error is raised.
    """
    missing = missed_dates(store, ledger, today)
    if missing:  # entered before any work, so that a later run finds the dates of a killed one
        _enter(store, ledger, missing, "pending", model_version)
    for day in missing:
        started = clock.perf_counter()
        try:
            rows = run_date(day)
        except Exception:
            with contextlib.suppress(StoreError):  # the first error is the one to report
                _enter(store, ledger, [day], "failed", model_version)
            raise
        seconds = clock.perf_counter() - started
        _enter(store, ledger, [day], "done", model_version, rows=rows, seconds=seconds)
    return missing


def command(
    run_daily: Callable[[Store, date], list[date]], write_page: Callable[[Store, Path], Path]
) -> None:
    """Run a daily job's command line: today (UTC) on the default store, and with --page its page.

    An error of the store is printed in one sentence, with exit status 1.
    """
    parser = argparse.ArgumentParser(description="Do today and every day that was missed.")
    parser.add_argument(
        "--page", type=Path, metavar="FOLDER", help="write the monitor's page there"
    )
    folder = parser.parse_args().page
    try:
        store = open_store()
        done = run_daily(store, datetime.now(UTC).date())
        print("done:", ", ".join(map(str, done)) or "nothing, every date was done before")
        if folder:
            print(f"page: {write_page(store, folder) / 'index.html'}")
    except StoreError as error:
        sys.exit(str(error))


def missed_dates(store: Store, ledger: FeatureGroup, today: date) -> list[date]:
    """Return the dates from the ledger's first to today that are not done, oldest first."""
    first = min([date.fromisoformat(d) for d in store.read(ledger)["date"]] + [today])
    done = set(done_dates(store, ledger)["date"])
    days = [first + timedelta(days=n) for n in range((today - first).days + 1)]
    return [day for day in days if day.isoformat() not in done]


def done_dates(store: Store, ledger: FeatureGroup) -> pd.DataFrame:
    """Return the ledger's "done" entries: one per date that is done, oldest first."""
    entries = store.read(ledger)
    return entries[entries["status"] == "done"].reset_index(drop=True)


def _enter(
    store: Store,
    ledger: FeatureGroup,
    days: list[date],
    status: str,
    model_version: str,
    *,
    rows: int = 0,
    seconds: float = 0.0,
) -> None:
    entries = pd.DataFrame({"date": [day.isoformat() for day in days]})
    entries["entry"] = [f"{day.isoformat()} {status}" for day in days]
    entries["day"] = pd.Series([datetime.combine(d, time(), UTC) for d in days], dtype=UTC_TIME)
    entries["status"], entries["rows"] = status, rows
    entries["model_version"], entries["seconds"] = model_version, seconds
    entries["finished_at"] = pd.Series([datetime.now(UTC)] * len(days), dtype=UTC_TIME)
    store.insert(ledger, entries)
