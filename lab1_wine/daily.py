"""One synthetic wine a day and its prediction: a function of the date, with no scheduler in it.

`python -m lab1_wine.daily` runs it for today (UTC) on the default store; with `--page FOLDER` it also
writes the monitor as one static page.
"""

from __future__ import annotations

from datetime import UTC, date, datetime, time, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from lab1_wine import features, generator, inference
from lab1_wine.schema import (
    FEATURES,
    GENERATOR,
    LEDGER,
    NUMERIC,
    PREDICTIONS,
    SAMPLE,
    SNAPSHOT,
    SYNTHETIC,
    WINES,
)
from labstore import ModelVersion, Store
from labstore.ledger import backfill, command, done_dates
from labstore.monitor import snapshot


def run_daily(store: Store, today: date) -> list[date]:
    """Add a wine and its prediction for every date up to today that has none.

    Returns the dates done. Running it again, or after any failure, completes what is missing and
    changes nothing else, since every row's id follows from its date and the model's version.
    """
    predictor, sampler = inference.load(store), generator.load(store)

    def run_date(day: date) -> int:
        wine = _stored_wine(store, day)
        if wine.empty:
            wine = features.synthetic_wine(sampler, day)
            store.insert(WINES, wine)
        store.insert(PREDICTIONS, inference.predict(predictor, wine))
        return len(wine)

    done = backfill(store, LEDGER, today, predictor.record.version, run_date)
    snapshot.publish(store, SNAPSHOT, snapshot_content(store, predictor.record))
    return done


def _stored_wine(store: Store, day: date) -> pd.DataFrame:
    """Return the day's wine where an earlier run stored it and then failed, else no rows.

    Such a wine is kept even if another generator is registered now.
    """
    start = datetime.combine(day, time(), UTC)
    wines = store.read(WINES, since=start, until=start + timedelta(days=1))
    return wines[wines["wine_id"] == features.wine_id(day)]


def snapshot_content(store: Store, record: ModelVersion) -> dict[str, Any]:
    """Return what the monitor shows, as plain JSON values.

    Its only times are those of the ledger, so an unchanged history gives an unchanged snapshot.
    """
    done = done_dates(store, LEDGER)
    rows = inference.history(store)
    rows = rows[rows["source"] == SYNTHETIC]
    rows = rows.assign(date=rows["tasted_at"].dt.strftime("%Y-%m-%d"))
    rows = rows.merge(done[["date", "model_version"]])  # one per date: the ledger's model
    drawn_by = store.load_model(GENERATOR)
    data = {record.metadata["data"], drawn_by.metadata["data"]}
    shown = ["date", *FEATURES, "quality", "predicted", "low", "high", "rounded", "model_version"]
    return {
        "lab": "wine",
        "data": "real" if data == {"real"} else SAMPLE,
        "through": done["date"].max(),
        "last_run": done["finished_at"].max().isoformat(),
        "dates": done["date"].tolist(),
        "model": {
            "version": record.version,
            "algorithm": record.metadata["algorithm"],
            "mse": record.metrics["mse"],
            "coverage_90": record.metrics["coverage_90"],
        },
        "generator": drawn_by.metadata["algorithm"],
        "training": {
            name: [record.metadata["training_mean"][name], record.metadata["training_sd"][name]]
            for name in NUMERIC
        },
        "rows": rows[shown].round(5).to_dict("records"),
    }


def write_page(store: Store, folder: Path) -> Path:
    """Write the monitor as one static page into a folder. Returns the folder."""
    from lab1_wine import monitor_page  # imports matplotlib, which the daily run does not need

    return monitor_page.write_static(snapshot.read(store, SNAPSHOT), folder)


if __name__ == "__main__":
    command(run_daily, write_page)
