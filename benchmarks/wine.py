"""Wine: honest scores beside the original's, intervals, size, generators, and a year of daily runs.

python benchmarks/wine.py           needs the UCI tables (LABS_DATA or a network)
python benchmarks/wine.py --quick   the same code on the offline sample; keeps no results
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
from _report import report
from _year import simulate_year
from joblib import Parallel, delayed
from sklearn.model_selection import train_test_split

from lab1_wine import comparison, daily, features, generator, training
from lab1_wine.model import TREES, calibrate, tree_spread, wine_pipeline
from lab1_wine.schema import FEATURES, LEDGER, MODEL, PREDICTIONS, REAL, SYNTHETIC, WINES
from labstore import open_store

SMALL_GRID = {  # the full grid's corners: what a fold's training rows choose from anew
    "trees": {"max_features": [0.15], "min_samples_leaf": [1, 2]},
    "kernel": {"length": [8.0], "alpha": [0.4, 0.6, 0.9]},
    "tree_weight": [0.4, 0.5, 0.6],
}

LOAD_AND_PREDICT = """
import json, os, sys, time
os.environ["OMP_NUM_THREADS"] = "1"
import pandas as pd
from lab1_wine import inference
from labstore import open_store
store = open_store(sys.argv[1])
started = time.perf_counter()
taster = inference.load(store)
loaded = time.perf_counter() - started
wine = pd.DataFrame([{"wine_type": "red", **taster.record.metadata["typical"]["red"]}])
taster.quality(wine)
times = []
for _ in range(200):
    started = time.perf_counter()
    taster.quality(wine)
    times.append(time.perf_counter() - started)
print(json.dumps({"load_s": loaded, "predict_ms": 1000 * sorted(times)[100]}))
"""


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true")
    quick = parser.parse_args().quick
    wines = features.offline_sample() if quick else features.load_wines()
    if not quick and (wines["source"] != REAL).any():
        sys.exit("These figures need the measured wines: give their folder in LABS_DATA.")
    seeds, trees = ([0, 1], 20) if quick else ([0, 1, 2, 3, 4], TREES)
    distinct = features.deduplicate(wines)
    figures, tables = {"seeds": seeds}, []
    for part in (
        lambda: scores(wines, distinct, seeds, trees),
        lambda: nested(distinct, seeds, trees),
        lambda: generators(distinct, seeds, quick),
        lambda: registered(wines, trees, 20 if quick else 365),
    ):
        found, table = part()
        figures |= found
        tables.append(table)
        print(table, flush=True)
    report("wine", figures, keep=not quick)


def scores(wines, distinct, seeds, trees) -> tuple[dict, str]:
    """Every model on both protocols."""
    models = comparison.candidates(trees=trees)
    grouped = comparison.summary(comparison.compare(distinct, models, seeds))
    leaky = comparison.summary(comparison.compare(wines, models, seeds))
    ours, original = grouped.iloc[0], grouped.loc[comparison.ORIGINAL]
    figures = {
        "best_model": grouped.index[0],
        "grouped_mse": ours["mse"],
        "original_grouped_mse": original["mse"],
        "grouped_mse_ratio": ours["ratio"],
        "grouped_difference": [ours["difference"], ours["low"], ours["high"]],
        "grouped_mse_rounded": ours["mse_rounded"],
        "original_grouped_mse_rounded": original["mse_rounded"],
        "leaky_mse": leaky.loc[comparison.OURS, "mse"],
        "original_leaky_mse": leaky.loc[comparison.ORIGINAL, "mse"],
        "registered_mse_ratio": grouped.loc[comparison.OURS, "ratio"],
        "registered_difference": grouped.loc[
            comparison.OURS, ["difference", "low", "high"]
        ].tolist(),
    }
    tables = {"Distinct rows": grouped, "Rows as they are": leaky}
    return figures, "\n\n".join(f"{name}\n{t.round(4).to_string()}" for name, t in tables.items())


def nested(distinct, seeds, trees) -> tuple[dict, str]:
    """Parameters searched and intervals calibrated within each split's training rows alone."""
    rows = []
    for seed in seeds:
        train, test = train_test_split(distinct, test_size=0.2, random_state=seed)
        train = train.reset_index(drop=True)
        parameters, _ = training.search(train, SMALL_GRID, folds=3, seed=seed, trees=min(trees, 60))
        found = training.held_out(train, parameters, seed=seed, trees=trees)
        numbers = calibrate(*(found[c].to_numpy() for c in ("quality", "predicted", "spread")))
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
    figures = {
        "nested_mse_by_seed": errors.groupby(held_out["seed"]).mean().tolist(),
        "nested_mse": float(errors.mean()),
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


def generators(distinct, seeds, quick) -> tuple[dict, str]:
    """The copula on all seeds, CTGAN at six epochs on all and at many on one, with seconds."""
    epochs, long = (1, []) if quick else (6, [60, 300])
    fits = {"Gaussian copula": generator.Copula.fit} | generator.ctgan_fits([epochs])
    found = Parallel(n_jobs=2)(delayed(generator.compare)(distinct, fits, [seed]) for seed in seeds)
    found += Parallel(n_jobs=2)(
        delayed(generator.compare)(distinct, generator.ctgan_fits([n]), seeds[:1]) for n in long
    )
    table = pd.concat(found).drop(columns="seed").groupby("generator").mean()
    copula = table.loc["Gaussian copula"]
    names = ["column_shapes", "pair_trends", "held_out_shapes", "held_out_correlations"]
    figures = {name: float(copula[name]) for name in [*names, "synthetic_mse", "near_copies"]}
    figures["ctgan"] = {n: row.round(4).to_dict() for n, row in table.iterrows() if "CTGAN" in n}
    return figures, f"Generators\n{table.round(4).to_string()}\n"


def registered(wines, trees, days) -> tuple[dict, str]:
    """The registered model's size and speed, the daily run against the original's way, and a year."""
    with tempfile.TemporaryDirectory() as folder:
        store = open_store(folder)
        store.insert(WINES, wines)
        rows, data = training.load_training_rows(store)
        training.register(store, rows, data, trees=trees)
        fits = {"Gaussian copula": generator.Copula.fit}
        generator.register(store, rows, "benchmark", fits, generator.compare(rows, fits, [0]))
        path = store.load_model(MODEL).path / "model.skops"
        command = [sys.executable, "-c", LOAD_AND_PREDICT, folder]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
        run = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
        figures = {"model_mb": path.stat().st_size / 1e6, **json.loads(run.stdout)}
        figures |= speedup(Path(folder), rows)
        figures["year_failed_runs"] = simulate_year(daily.run_daily, Path(folder), days=days)
        done = store.read(LEDGER)["status"] == "done"
        figures |= {
            "year_rows": int((store.read(WINES)["source"] == SYNTHETIC).sum()),
            "year_predictions": len(store.read(PREDICTIONS)),
            "year_entries_of_success": int(done.sum()),
        }
    return figures, f"Registered model and daily run\n{pd.Series(figures).to_string()}\n"


def speedup(folder: Path, rows: pd.DataFrame) -> dict[str, float]:
    """A day's run here, and the original's day: fit CTGAN for six epochs and sample a row."""
    with tempfile.TemporaryDirectory() as copy:
        store = open_store(shutil.copytree(folder, Path(copy) / "store"))
        daily.run_daily(store, date(2025, 1, 1))
        times = []
        for day in range(2, 7):
            started = time.perf_counter()
            daily.run_daily(store, date(2025, 1, day))
            times.append(time.perf_counter() - started)
    started = time.perf_counter()
    generator.Ctgan.fit(rows, epochs=6).sample(1, seed=0)
    original = time.perf_counter() - started
    ours = float(np.median(times))
    return {"daily_s": ours, "original_daily_s": original, "daily_speedup": original / ours}


if __name__ == "__main__":
    main()
