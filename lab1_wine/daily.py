"""One synthetic wine a day and its prediction: a function of the date, with no scheduler in it.

`python -m lab1_wine.daily` runs it for today (UTC) on the default store.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime
from typing import Any

from lab1_wine import features, generator, inference
from lab1_wine.schema import (
    FEATURES,
    GENERATOR,
    LEDGER,
    MODEL,
    NUMERIC,
    PREDICTIONS,
    SNAPSHOT,
    SYNTHETIC,
    WINES,
)
from labstore import Store, StoreError, open_store, snapshot
from labstore.ledger import back_fill


def run_daily(store: Store, today: date) -> list[date]:
    """Add wine and prediction of every date up to today that has none; the dates done.

    Running again, or after any failure, completes what is missing and changes nothing else:
    every row's id follows from its date and the model's version.
    """
    taster, drawer = inference.load(store), generator.load(store)

    def run_date(day: date) -> int:
        wine = features.synthetic_wine(drawer, day)
        store.insert(WINES, wine)
        store.insert(PREDICTIONS, inference.predict(taster, wine))
        return len(wine)

    done = back_fill(store, LEDGER, today, taster.record.version, run_date)
    snapshot.publish(store, SNAPSHOT, snapshot_content(store))
    return done


def snapshot_content(store: Store) -> dict[str, Any]:
    """What the monitor shows, as plain JSON values: nothing in it depends on the clock."""
    ledger = store.read(LEDGER)
    done = ledger[ledger["status"] == "done"]
    rows = inference.history(store)
    rows = rows[rows["source"] == SYNTHETIC]
    rows = rows.assign(date=rows["tasted_at"].dt.strftime("%Y-%m-%d"))
    record = store.load_model(MODEL)
    shown = ["date", *FEATURES, "quality", "predicted", "low", "high", "rounded", "model_version"]
    return {
        "lab": "wine",
        "data": record.metadata["data"],
        "through": done["date"].max(),
        "last_run": done["finished_at"].max().isoformat(),
        "dates": done["date"].tolist(),
        "model": {
            "version": record.version,
            "algorithm": record.metadata["algorithm"],
            "mse": record.metrics["mse"],
            "coverage_90": record.metrics["coverage_90"],
        },
        "generator": store.load_model(GENERATOR).metadata["algorithm"],
        "training": {
            name: [record.metadata["training_mean"][name], record.metadata["training_sd"][name]]
            for name in NUMERIC
        },
        "rows": rows[shown].round(5).to_dict("records"),
    }


if __name__ == "__main__":
    try:
        print(
            "done:", ", ".join(map(str, run_daily(open_store(), datetime.now(UTC).date()))) or "-"
        )
    except StoreError as error:
        sys.exit(str(error))
