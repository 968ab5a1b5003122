"""Iris: how accurate is the registered model, and is a year of daily runs complete?

python benchmarks/iris.py           10 x 5 folds with 5 seeds, nested cross-validation, 365 days
python benchmarks/iris.py --quick   the same code, smaller; keeps no results
"""

from __future__ import annotations

import argparse
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from _report import report
from _year import simulate_year

from lab1_iris import daily, features, training
from lab1_iris.schema import FLOWERS, LEDGER, PREDICTIONS, SYNTHETIC
from labstore import open_store


def main() -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    repeats, days = (1, 20) if quick else (10, 365)
    with tempfile.TemporaryDirectory() as folder:
        figures, table = accuracy(Path(folder), repeats)
        figures |= year(Path(folder), days)
    report("iris", figures, table, keep=not quick)


def accuracy(folder: Path, repeats: int) -> tuple[dict[str, Any], str]:
    """Cross-validate the registered model, with other seeds, and with the choice tested as well."""
    store = open_store(folder)
    features.run(store)
    record, comparison = training.run(store, repeats=repeats)
    flowers = training.load_training_rows(store)
    seeds = [
        training.compare(flowers, repeats, seed=seed).table.loc[comparison.best, "accuracy"]
        for seed in range(1, 5)
    ]
    nested = training.nested_cross_validation(flowers, repeats=1)
    figures = {
        "algorithm": comparison.best,
        **{name: record.metrics[name] for name in ("accuracy", "accuracy_low", "accuracy_high")},
        "log_loss": record.metrics["log_loss"],
        "accuracy_of_other_seeds": [round(float(a), 4) for a in seeds],
        "nested_accuracy": nested["accuracy"],
        "nested_accuracy_low": nested["accuracy_low"],
        "nested_accuracy_high": nested["accuracy_high"],
        "original_accuracy": float(comparison.table.loc[training.ORIGINAL, "accuracy"]),
    }
    spread = f"{np.min(seeds):.4f} to {np.max(seeds):.4f}"
    table = (
        f"{comparison.table.round(4).to_string()}\n\n{comparison.best} with four other seeds: {spread}\n"
        f"the choice made within each of 5 folds: {nested['accuracy']:.4f}\n"
    )
    return figures, table


def year(folder: Path, days: int) -> dict[str, int]:
    """Run the days of a year, many of which fail, and count what is there in the end."""
    failures = simulate_year(daily.run_daily, folder, days=days)
    store = open_store(folder)
    flowers, ledger = store.read(FLOWERS), store.read(LEDGER)
    return {
        "year_rows": int((flowers["source"] == SYNTHETIC).sum()),
        "year_predictions": len(store.read(PREDICTIONS)),
        "year_entries_of_success": int((ledger["status"] == "done").sum()),
        "year_failed_runs": failures,
    }


if __name__ == "__main__":
    main()
