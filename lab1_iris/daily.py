"""One synthetic flower a day and its prediction: a function of the date, with no scheduler in it.

`python -m lab1_iris.daily` runs it for today (UTC) on the default store.
"""

from __future__ import annotations

import contextlib
import sys
import time as clock
from datetime import UTC, date, datetime, time, timedelta

import pandas as pd

from lab1_iris import features, inference
from lab1_iris.schema import FEATURES, FLOWERS, LEDGER, PREDICTIONS, SNAPSHOT, SPECIES, SYNTHETIC
from labstore import UTC_TIME, Store, StoreError, open_store, snapshot


def run_daily(store: Store, today: date) -> list[date]:
    """Add flower and prediction of every date up to today that has none; the dates done.

    Running again, or after any failure, completes what is missing and changes nothing else:
    every row's id follows from its date. A date counts as done once the ledger says so, which is
    the last thing written for it.
    """
    classifier = inference.load(store)
    missing = missing_dates(store, today)
    if missing:  # remembered before any work, so that a killed run leaves a trace to return to
        _enter(store, missing, "pending", classifier)
    for day in missing:
        _run_date(store, day, classifier)
    snapshot.publish(store, SNAPSHOT, snapshot_content(store))
    return missing


def missing_dates(store: Store, today: date) -> list[date]:
    """Dates up to today, from the ledger's first, that are not done; oldest first."""
    ledger = store.read(LEDGER)
    first = min([date.fromisoformat(d) for d in ledger["date"]] + [today])
    done = set(ledger.loc[ledger["status"] == "done", "date"])
    days = [first + timedelta(days=n) for n in range((today - first).days + 1)]
    return [day for day in days if day.isoformat() not in done]


def snapshot_content(store: Store) -> dict:
    """What the monitor shows, as plain JSON values: no figure in it depends on the clock."""
    ledger = store.read(LEDGER)
    done = ledger[ledger["status"] == "done"]
    rows = inference.history(store)
    rows = rows[rows["source"] == SYNTHETIC]
    rows = rows.assign(date=rows["measured_at"].dt.strftime("%Y-%m-%d"))
    record = store.load_model(inference.MODEL)
    probabilities = [f"p_{s}" for s in SPECIES]
    shown = ["date", *FEATURES, "species", "predicted", *probabilities, "model_version"]
    return {
        "lab": "iris",
        "data": record.metadata["data"],
        "through": done["date"].max(),
        "last_run": done["finished_at"].max().isoformat(),
        "dates": done["date"].tolist(),
        "model": {
            "version": record.version,
            "algorithm": record.metadata["algorithm"],
            **{
                name: record.metrics[name] for name in ("accuracy", "accuracy_low", "accuracy_high")
            },
        },
        "rows": rows[shown].round(4).to_dict("records"),
    }


def _run_date(store: Store, day: date, classifier: inference.Classifier) -> None:
    started = clock.perf_counter()
    try:
        flower = features.synthetic_flower(day)
        store.insert(FLOWERS, flower)
        store.insert(PREDICTIONS, inference.predict(classifier, flower))
    except Exception:
        with contextlib.suppress(StoreError):  # the first error is the one to report
            _enter(store, [day], "failed", classifier)
        raise
    _enter(store, [day], "done", classifier, rows=1, seconds=clock.perf_counter() - started)


def _enter(
    store: Store,
    days: list[date],
    status: str,
    classifier: inference.Classifier,
    *,
    rows: int = 0,
    seconds: float = 0.0,
) -> None:
    """Write the ledger: one row per date, the newest status wins."""
    entries = pd.DataFrame({"date": [day.isoformat() for day in days]})
    entries["day"] = pd.Series([datetime.combine(d, time(), UTC) for d in days], dtype=UTC_TIME)
    entries["status"] = status
    entries["rows"] = rows
    entries["model_version"] = classifier.record.version
    entries["seconds"] = seconds
    entries["finished_at"] = pd.Series([datetime.now(UTC)] * len(days), dtype=UTC_TIME)
    store.insert(LEDGER, entries)


if __name__ == "__main__":
    try:
        print(
            "done:", ", ".join(map(str, run_daily(open_store(), datetime.now(UTC).date()))) or "-"
        )
    except StoreError as error:
        sys.exit(str(error))
