"""Wine: scores beside the original's, intervals, size, generators, and a year of daily runs.

python benchmarks/wine.py           needs the UCI tables (LABS_DATA or a network)
python benchmarks/wine.py --quick   the same code on the offline sample; keeps no results
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from _report import report
from _year import FIRST, simulate_year
from joblib import Parallel, delayed
from sklearn.model_selection import train_test_split

from lab1_wine import comparison, daily, features, generator, training
from lab1_wine.model import TREES, TRUSTED, tree_spread, wine_pipeline
from lab1_wine.schema import FEATURES, LEDGER, PREDICTIONS, REAL, SAMPLE, SYNTHETIC, WINES
from labstore import Store, open_store
from labstore.ledger import done_dates
from labstore.skops_io import load_pipeline

Fits = dict[str, Callable[..., Any]]
TINY_GRID = {  # for --quick; the full run searches training.GRID
    "trees": {"max_features": [0.15], "min_samples_leaf": [1]},
    "kernel": {"length": [8.0], "alpha": [0.6]},
    "tree_weight": [0.4, 0.6],
}

LOAD_AND_PREDICT = """
import json, os, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
import pandas as pd
from lab1_wine import inference
from labstore import Store, open_store
store = open_store(sys.argv[1])
started = time.perf_counter()
predictor = inference.load(store)
loaded = time.perf_counter() - started
wine = pd.DataFrame([{"wine_type": "red", **predictor.record.metadata["typical"]["red"]}])
predictor.quality(wine)
times = []
for _ in range(200):
    started = time.perf_counter()
    predictor.quality(wine)
    times.append(time.perf_counter() - started)
print(json.dumps({"load_s": loaded, "predict_ms": 1000 * sorted(times)[100]}))
"""


def main() -> None:
    """Measure, print and keep the figures."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    wines = features.offline_sample() if quick else features.load_wines()
    if not quick and (wines["source"] != REAL).any():
        sys.exit(
            "These figures need the measured wines: put them into a folder wine/ and set LABS_DATA to "
            "its parent."
        )
    seeds, trees = ([0, 1], 20) if quick else ([0, 1, 2, 3, 4], TREES)
    distinct = features.deduplicate(wines)
    started, data = time.perf_counter(), SAMPLE if quick else "real"
    figures: dict[str, Any] = {"data": data, "seeds": seeds}
    grid = TINY_GRID if quick else training.GRID

    def show(found: dict, table: str) -> None:
        figures.update(found)
        print(f"[{data}] {table}", flush=True)

    show(*scores(wines, distinct, seeds, trees))
    show(*nested(distinct, seeds, trees, grid, figures["original_mse_by_seed"]))
    show(*generators(distinct, seeds, quick))
    show(*registered(wines, trees, 20 if quick else 365))
    figures["benchmark_seconds"] = round(time.perf_counter() - started)
    report("wine", figures, keep=not quick)


def scores(
    wines: pd.DataFrame, distinct: pd.DataFrame, seeds: list[int], trees: int
) -> tuple[dict[str, Any], str]:
    """Score every model on distinct rows and on the rows as they are."""
    models = comparison.candidates(trees=trees)
    found = comparison.compare(distinct, models, seeds)
    grouped = comparison.summary(found)
    leaky = comparison.summary(comparison.compare(wines, models, seeds))
    # Ours was chosen before, by cross-validation, not by this table.
    ours, original = grouped.loc[comparison.BEST], grouped.loc[comparison.ORIGINAL]
    by_seed = found[found["model"] == comparison.ORIGINAL].sort_values("seed")["mse"]
    figures = {
        "best_model": comparison.BEST,
        "original_mse_by_seed": by_seed.tolist(),
        "grouped_mse": ours["mse"],
        "original_grouped_mse": original["mse"],
        "grouped_mse_ratio": ours["ratio"],
        "grouped_difference": [ours["difference"], ours["low"], ours["high"]],
        "grouped_mse_rounded": ours["mse_rounded"],
        "original_grouped_mse_rounded": original["mse_rounded"],
        "leaky_mse": leaky.loc[comparison.BEST, "mse"],
        "original_leaky_mse": leaky.loc[comparison.ORIGINAL, "mse"],
        "registered_mse_ratio": grouped.loc[comparison.OURS, "ratio"],
        "registered_difference": grouped.loc[
            comparison.OURS, ["difference", "low", "high"]
        ].tolist(),
    }
    tables = {"Distinct rows": grouped, "Rows as they are": leaky}
    return figures, "\n\n".join(f"{name}\n{t.round(4).to_string()}" for name, t in tables.items())


def nested(
    distinct: pd.DataFrame,
    seeds: list[int],
    trees: int,
    grid: dict[str, Any],
    original: list[float],
) -> tuple[dict[str, Any], str]:
    """Search parameters and calibrate intervals within each split's training rows alone.

    `original` is the MSE of the original's forest on the same splits.
    """
    rows = []
    for seed in seeds:
        train, test = train_test_split(distinct, test_size=0.2, random_state=seed)
        train = train.reset_index(drop=True)
        parameters, _ = training.search(train, grid, folds=3, seed=seed, trees=min(trees, 60))
        found = training.held_out(train, parameters, seed=seed, trees=trees)
        numbers = training.calibrate_on(found)
        pipeline = wine_pipeline(**parameters, trees=trees, seed=seed).fit(
            train[FEATURES], train["quality"]
        )
        predicted = pd.DataFrame(
            {
                "quality": test["quality"],
                "predicted": pipeline.predict(test[FEATURES]),
                "spread": tree_spread(pipeline, test[FEATURES]),
            }
        )
        rows.append(training.within(predicted, numbers).assign(seed=seed))
    held_out = pd.concat(rows)
    errors = (held_out["predicted"] - held_out["quality"]) ** 2
    summary = training.summarise_intervals(held_out)
    by_seed = errors.groupby(held_out["seed"]).mean().to_numpy()
    differences = by_seed - np.array(original)
    figures = {
        "nested_mse_by_seed": by_seed.tolist(),
        "nested_mse": float(by_seed.mean()),
        "nested_mse_ratio": float(by_seed.mean() / np.mean(original)),
        "nested_difference": [differences.mean(), *comparison.paired_interval(differences)],
        "coverage_90": summary["coverage_90"],
        "coverage_90_by_seed": held_out.groupby("seed")["covered"].mean().tolist(),
        "interval_width": summary["mean_width"],
        "interval_width_narrow_wide": [summary["narrow_width"], summary["wide_width"]],
        "coverage_by_quality": {
            k: [b["coverage"], b["width"]] for k, b in summary["bands"].items()
        },
    }
    table = f"Search and intervals within each split's training rows\n{pd.Series(figures).to_string()}\n"
    return figures, table


def generators(distinct: pd.DataFrame, seeds: list[int], quick: bool) -> tuple[dict[str, Any], str]:
    """Evaluate the copula and CTGAN at six epochs on all seeds, CTGAN at more epochs on one.

    Two fits run at a time, so the seconds are those of one core of a busy machine.
    """
    epochs: int = 1 if quick else 6
    more_epochs: list[int] = [] if quick else [300, 60]  # the slowest first
    fits: Fits = {"Gaussian copula": generator.Copula.fit, **generator.ctgan_fits([epochs])}
    tasks: list[tuple[Fits, list[int]]] = [
        *((dict(generator.ctgan_fits([n])), seeds[:1]) for n in more_epochs),
        *((fits, [seed]) for seed in seeds),
    ]
    found = Parallel(n_jobs=2)(delayed(generator.compare)(distinct, *task) for task in tasks)
    rows = pd.concat(found)
    table = rows.drop(columns="seed").groupby("generator").mean()
    table.insert(0, "seeds", rows.groupby("generator")["seed"].nunique())
    copula = table.loc["Gaussian copula"]
    names = ["column_shapes", "pair_trends", "held_out_shapes", "held_out_correlations"]
    figures: dict[str, Any] = {
        name: float(copula[name]) for name in [*names, "synthetic_mse", "near_copies"]
    }
    figures["ctgan"] = {n: row.round(4).to_dict() for n, row in table.iterrows() if "CTGAN" in n}
    return figures, f"Generators\n{table.round(4).to_string()}\n"


def registered(wines: pd.DataFrame, trees: int, days: int) -> tuple[dict[str, Any], str]:
    """Simulate a year of daily runs, then measure the registered model on the store that is left.

    The year tests the ledger, so a model of 20 trees is enough for it.
    """
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        store.insert(WINES, wines)
        rows, data = training.load_training_rows(store)
        fits = {"Gaussian copula": generator.Copula.fit}
        generator.register(store, rows, data, fits, generator.compare(rows, fits, [0]))
        training.register(store, rows, data, trees=20)
        figures: dict[str, Any] = {
            "year_failed_runs": simulate_year(daily.run_daily, Path(folder), days=days)
        }
        figures |= {
            "year_rows": int((store.read(WINES)["source"] == SYNTHETIC).sum()),
            "year_predictions": len(store.read(PREDICTIONS)),
            "year_entries_of_success": len(done_dates(store, LEDGER)),
        }
        version, _ = training.register(store, rows, data, trees=trees)
        figures |= _size_and_speed(version.path, Path(folder))
        _check_saved(version.path, rows, trees)
        figures |= speedup(store, FIRST + timedelta(days=days), rows)
    return figures, f"Registered model and daily run\n{pd.Series(figures).to_string()}\n"


def _size_and_speed(path: Path, store: Path) -> dict[str, float]:
    """Return MB on disk, seconds to load and ms per row, in a new process with one thread."""
    size = sum(file.stat().st_size for file in path.rglob("*") if file.is_file())
    environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    command = [sys.executable, "-c", LOAD_AND_PREDICT, str(store)]
    run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    return {"model_mb": size / 1e6, **json.loads(run.stdout)}


def _check_saved(path: Path, rows: pd.DataFrame, trees: int) -> None:
    """Check that the saved model uses one job and predicts the same after loading."""
    loaded = load_pipeline(path, TRUSTED)
    assert loaded["mean"].named_estimators_["trees"][-1].n_jobs == 1
    fitted = wine_pipeline(trees=trees).fit(rows[FEATURES], rows["quality"])
    assert np.allclose(loaded.predict(rows[FEATURES]), fitted.predict(rows[FEATURES]))


def speedup(store: Store, first: date, rows: pd.DataFrame) -> dict[str, float]:
    """Time a day's run on the year-old store, and the original's: fit CTGAN for six epochs, draw one."""
    times = []
    for number in range(5):
        started = time.perf_counter()
        daily.run_daily(store, first + timedelta(days=number))
        times.append(time.perf_counter() - started)
    import ctgan  # noqa: F401  so that the import is not measured

    started = time.perf_counter()
    generator.Ctgan.fit(rows, epochs=6).sample(1, seed=0)
    original = time.perf_counter() - started
    ours = float(np.median(times))
    return {"daily_s": ours, "original_daily_s": original, "daily_speedup": original / ours}


if __name__ == "__main__":
    main()
