"""From the wines in the store to a registered model, with scores and intervals from held-out wines."""

from __future__ import annotations

import hashlib
import json
import tempfile
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from sklearn.base import clone
from sklearn.model_selection import KFold
from sklearn.pipeline import Pipeline
from tqdm.auto import tqdm

from lab1_wine.comparison import scores
from lab1_wine.model import (
    DEFAULTS,
    TREES,
    TRUSTED,
    Parameters,
    calibrate,
    interval,
    tree_spread,
    wine_pipeline,
)
from lab1_wine.schema import DISTINCT, FEATURES, MEASUREMENTS, MODEL, NUMERIC, REAL, SAMPLE, WINES
from labstore import ModelVersion, NotFound, Store
from labstore.skops_io import save_verified

BANDS = {"3-4": (3, 4), "5": (5, 5), "6": (6, 6), "7": (7, 7), "8-9": (8, 9)}

GRID = {  # what the search tries: trees and kernel separately, then their weights
    "trees": {"max_features": [0.15, 0.3], "min_samples_leaf": [1, 2]},
    "kernel": {"length": [5.0, 8.0, 12.0], "alpha": [0.4, 0.6, 0.9]},
    "tree_weight": [0.3, 0.4, 0.5, 0.6, 0.7],
}


def load_training_rows(store: Store) -> tuple[pd.DataFrame, str]:
    """Return distinct wines to train on, and what they are: "real" or "offline sample".

    Synthetic wines of the daily run never train anything. Duplicates, a fifth of the UCI rows, are
    removed: a test row with a copy among the training rows is recognised instead of predicted.
    Raises NotFound where there are no wines.
    """
    wines = store.read(WINES)
    for source, data in ((REAL, "real"), (SAMPLE, SAMPLE)):
        rows = wines[wines["source"] == source]
        if len(rows):
            if source == SAMPLE:
                print("OFFLINE SAMPLE: these wines are synthetic, so every score below is, too.")
            return rows.drop_duplicates(DISTINCT, ignore_index=True), data
    raise NotFound(
        "There are no wines to train on in this store. Run notebook 1_feature_pipeline first, "
        "or lab1_wine.features.run(store)."
    )


def search(
    wines: pd.DataFrame, grid: dict[str, Any] = GRID, folds: int = 5, seed: int = 0, trees: int = 60
) -> tuple[Parameters, pd.DataFrame]:
    """Return the best parameters of `wine_pipeline` by cross-validation, and a row per trial.

    Trees and kernel are searched separately on the same folds and then mixed, which needs no
    further fits: a few minutes on two cores instead of an hour for all combinations. To save time
    the search uses fewer trees than the final model.
    """
    settings = [("trees", s) for s in _product(grid["trees"])]
    settings += [("kernel", s) for s in _product(grid["kernel"])]
    splits = list(KFold(folds, shuffle=True, random_state=seed).split(wines))
    work = Parallel(n_jobs=-1, return_as="generator")(
        delayed(_held_out_part)(
            wines, part, wine_pipeline(**chosen, trees=trees, seed=seed), splits
        )
        for part, chosen in settings
    )
    found = list(tqdm(work, desc="settings", total=len(settings)))
    quality = wines["quality"].to_numpy()
    trials = pd.DataFrame([{"part": part, **chosen} for part, chosen in settings])
    trials["mse"] = [float(np.mean((predicted - quality) ** 2)) for predicted in found]
    best = trials.groupby("part")["mse"].idxmin()
    trees_alone, kernel_alone = found[best["trees"]], found[best["kernel"]]
    mixes = pd.DataFrame({"part": "mix", "tree_weight": grid["tree_weight"]})
    mixes["mse"] = [
        float(np.mean((w * trees_alone + (1 - w) * kernel_alone - quality) ** 2))
        for w in grid["tree_weight"]
    ]
    trees_setting, kernel_setting = settings[best["trees"]][1], settings[best["kernel"]][1]
    parameters: Parameters = {
        "max_features": trees_setting["max_features"],
        "min_samples_leaf": trees_setting["min_samples_leaf"],
        "length": kernel_setting["length"],
        "alpha": kernel_setting["alpha"],
        "tree_weight": float(mixes.loc[mixes["mse"].idxmin(), "tree_weight"]),
    }
    return parameters, pd.concat([trials, mixes], ignore_index=True)


def _product(choices: dict[str, list]) -> list[dict[str, Any]]:
    return [dict(zip(choices, values, strict=True)) for values in product(*choices.values())]


def _held_out_part(wines: pd.DataFrame, part: str, pipeline: Pipeline, splits: list) -> np.ndarray:
    """Return out-of-fold predictions of one half of the pipeline, `part` "trees" or "kernel"."""
    alone = Pipeline(
        [("prepare", pipeline["prepare"]), (part, dict(pipeline["mean"].estimators)[part])]
    )
    predicted = np.empty(len(wines))
    for train, test in splits:
        fitted = clone(alone).fit(wines.iloc[train][FEATURES], wines.iloc[train]["quality"])
        predicted[test] = fitted.predict(wines.iloc[test][FEATURES])
    return predicted


def held_out(
    wines: pd.DataFrame,
    parameters: Parameters,
    folds: int = 5,
    seed: int = 0,
    trees: int = TREES,
) -> pd.DataFrame:
    """Predict each wine with a model fitted without its fold.

    Returns quality, predicted, spread (of the trees) and fold, a row per wine.
    """
    pipeline = wine_pipeline(**parameters, trees=trees, seed=seed)
    splits = KFold(folds, shuffle=True, random_state=seed + 1).split(wines)
    work = Parallel(n_jobs=-1, return_as="generator")(
        delayed(_predict_fold)(clone(pipeline), wines.iloc[train], wines.iloc[test])
        for train, test in splits
    )
    parts = [part.assign(fold=i) for i, part in enumerate(tqdm(work, desc="folds", total=folds))]
    return pd.concat(parts).sort_index()


def _predict_fold(pipeline: Pipeline, train: pd.DataFrame, rows: pd.DataFrame) -> pd.DataFrame:
    pipeline.fit(train[FEATURES], train["quality"])
    predicted, spread = pipeline.predict(rows[FEATURES]), tree_spread(pipeline, rows[FEATURES])
    return pd.DataFrame(
        {"quality": rows["quality"], "predicted": predicted, "spread": spread}, index=rows.index
    )


def coverage(found: pd.DataFrame, level: float = 0.9) -> dict[str, Any]:
    """Measure the intervals of each fold as calibrated on the other folds.

    Returns what `summarise_intervals` does.
    """
    parts = []
    for fold in sorted(found["fold"].unique()):
        others, own = found[found["fold"] != fold], found[found["fold"] == fold]
        parts.append(within(own, calibrate_on(others, level)))
    return summarise_intervals(pd.concat(parts))


def calibrate_on(rows: pd.DataFrame, level: float = 0.9) -> dict[str, Any]:
    """Calibrate intervals on a frame with quality, predicted and spread. See `calibrate`."""
    quality, predicted, spread = (
        rows[name].to_numpy() for name in ("quality", "predicted", "spread")
    )
    return calibrate(quality, predicted, spread, level)


def within(rows: pd.DataFrame, intervals: dict[str, Any]) -> pd.DataFrame:
    """Add to rows of quality, predicted and spread their interval's width and whether it covers."""
    low, high = interval(intervals, rows["predicted"].to_numpy(), rows["spread"].to_numpy())
    covered = (rows["quality"] >= low) & (rows["quality"] <= high)
    return rows.assign(width=high - low, covered=covered)


def summarise_intervals(rows: pd.DataFrame) -> dict[str, Any]:
    """Summarise the result of `within`: coverage and widths, of all wines and by band of quality."""
    bands = {}
    for name, (low, high) in BANDS.items():
        band = rows[rows["quality"].between(low, high)]
        width = round(float(band["width"].mean()), 3) if len(band) else None
        share = round(float(band["covered"].mean()), 3) if len(band) else None
        bands[name] = {"wines": len(band), "coverage": share, "width": width}
    narrow, wide = np.quantile(rows["width"], [0.1, 0.9])
    return {
        "coverage_90": float(rows["covered"].mean()),
        "mean_width": float(rows["width"].mean()),
        "narrow_width": float(narrow),
        "wide_width": float(wide),
        "bands": bands,
    }


def register(
    store: Store,
    wines: pd.DataFrame,
    data: str,
    parameters: Parameters = DEFAULTS,
    *,
    table: pd.DataFrame | None = None,
    trees: int = TREES,
    seed: int = 0,
) -> tuple[ModelVersion, pd.DataFrame]:
    """Score by five folds, calibrate the intervals on them, fit on all wines, store.

    `table`, made by `comparison.summary`, goes into the model card. Returns the version and the
    held-out predictions.
    """
    found = held_out(wines, parameters, seed=seed, trees=trees)
    intervals = calibrate_on(found)
    covered = coverage(found)
    bands = covered.pop("bands")
    metrics = scores(found["quality"].to_numpy(), found["predicted"].to_numpy()) | covered
    pipeline = wine_pipeline(**parameters, trees=trees, seed=seed)
    pipeline.fit(wines[FEATURES], wines["quality"])
    metadata = _metadata(wines, data, parameters, trees, seed) | {"bands": bands}
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        save_verified(pipeline, folder, TRUSTED, wines[FEATURES].head(500))
        (folder / "intervals.json").write_text(json.dumps(intervals, indent=1))
        schema = {
            m.name: {"unit": m.unit, "allowed": m.allowed, "seen": m.seen} for m in MEASUREMENTS
        }
        (folder / "schema.json").write_text(json.dumps(schema, indent=1))
        (folder / "MODEL_CARD.md").write_text(_card(metadata, metrics, table))
        return store.save_model(MODEL, folder, metrics, metadata), found


def _metadata(
    wines: pd.DataFrame, data: str, parameters: Parameters, trees: int, seed: int
) -> dict[str, Any]:
    """Return what the model was made from, and what pages show about it."""
    return {
        "algorithm": f"mean of {trees} extremely randomised trees and Matern kernel ridge regression",
        "parameters": parameters,
        "features": FEATURES,
        "data": data,
        "validation": f"5 folds of {len(wines):,} distinct wines, seed {seed}",
        "typical": {
            t: rows[NUMERIC].median().round(5).to_dict() for t, rows in wines.groupby("wine_type")
        },
        "training_mean": wines[NUMERIC].mean().to_dict(),
        "training_sd": wines[NUMERIC].std().to_dict(),
        "snapshot": {
            "group": WINES.label,
            "rows": len(wines),
            "sha256": hashlib.sha256(wines.to_csv(index=False).encode()).hexdigest(),
        },
    }


def _card(metadata: dict[str, Any], metrics: dict[str, float], table: pd.DataFrame | None) -> str:
    """Return the model card in Markdown."""
    real = metadata["data"] == "real"
    source = (
        "; P. Cortez et al. (2009), CC BY 4.0" if real else ", drawn by the lab's own generator"
    )
    offline = "" if real else "\n**Trained on the OFFLINE SAMPLE of synthetic wines.**\n"
    bands = "\n".join(
        f"| {name} | {b['wines']} | {_share(b['coverage'])} | {b['width'] or '-'} |"
        for name, b in metadata["bands"].items()
    )
    compared = "" if table is None else f"\n## Compared\n\n```\n{table.round(3).to_string()}\n```\n"
    return f"""# How good is the wine?
{offline}
Predicts the quality that tasters gave a Portuguese Vinho Verde (3 to 9) from eleven laboratory
values and its colour: {metadata["algorithm"]}.

- **Data:** {metadata["snapshot"]["rows"]:,} distinct wines ({metadata["data"]}){source}.
- **Scores** ({metadata["validation"]}; the parameters were chosen on these wines too, while
  benchmarks/wine.py chooses them again within each split): MSE {metrics["mse"]:.3f},
  rounded {metrics["mse_rounded"]:.3f}, MAE {metrics["mae"]:.3f}, within one {metrics["within_one"]:.1%}.
- **Intervals:** nine in ten, measured {metrics["coverage_90"]:.1%}; mean width {metrics["mean_width"]:.2f}.
- **Limits:** few wines were given 3, 4, 8 or 9, and the model pulls those towards the middle: their
  intervals miss them far more often than one time in ten (below). One region, one tasting panel.

| quality given | wines | covered | mean width |
|---|---|---|---|
{bands}
{compared}"""


def _share(value: float | None) -> str:
    return "-" if value is None else f"{value:.0%}"
