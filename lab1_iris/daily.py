"""One synthetic flower a day and its prediction: a function of the date, with no scheduler in it.

`python -m lab1_iris.daily` runs it for today (UTC) on the default store; with `--page FOLDER` it also
writes the monitor as one static page.
"""

from __future__ import annotations

from datetime import date
from pathlib import Path
from typing import Any

from lab1_iris import features, inference
from lab1_iris.schema import (
    FEATURES,
    FLOWERS,
    LEDGER,
    PREDICTIONS,
    SNAPSHOT,
    SPECIES,
    SYNTHETIC,
)
from labstore import ModelVersion, Store
from labstore.ledger import backfill, command, done_dates
from labstore.monitor import snapshot


def run_daily(store: Store, today: date) -> list[date]:
    """Add a flower and its prediction for every date up to today that has none.

    Returns the dates done. Running it again, or after any failure, completes what is missing and
    changes nothing else, since every row's id follows from its date and the model's version.
    """
    classifier = inference.load(store)

    def run_date(day: date) -> int:
        flower = features.synthetic_flower(day)
        store.insert(FLOWERS, flower)
        store.insert(PREDICTIONS, inference.predict(classifier, flower))
        return len(flower)

    done = backfill(store, LEDGER, today, classifier.record.version, run_date)
    snapshot.publish(store, SNAPSHOT, snapshot_content(store, classifier.record))
    return done


def snapshot_content(store: Store, record: ModelVersion) -> dict[str, Any]:
    """Return what the monitor shows, as plain JSON values.

    Its only times are those of the ledger, so an unchanged history gives an unchanged snapshot.
    """
    done = done_dates(store, LEDGER)
    rows = inference.history(store)
    rows = rows[rows["source"] == SYNTHETIC]
    rows = rows.assign(date=rows["measured_at"].dt.strftime("%Y-%m-%d"))
    rows = rows.merge(done[["date", "model_version"]])  # one per date: the ledger's model
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


def write_page(store: Store, folder: Path) -> Path:
    """Write the monitor as one static page into a folder. Returns the folder."""
    from lab1_iris import monitor_page  # imports matplotlib, which the daily run does not need

    return monitor_page.write_static(snapshot.read(store, SNAPSHOT), folder)


if __name__ == "__main__":
    command(run_daily, write_page)
