"""Which model is best? The original's and better ones on the same splits, and which columns matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from sklearn.base import clone
from sklearn.compose import make_column_transformer
from sklearn.ensemble import (
    ExtraTreesRegressor,
    GradientBoostingRegressor,
    HistGradientBoostingRegressor,
    RandomForestRegressor,
)
from sklearn.inspection import permutation_importance
from sklearn.linear_model import LinearRegression
from sklearn.model_selection import KFold, train_test_split
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, OneHotEncoder
from sklearn.svm import SVR
from sklearn.tree import DecisionTreeRegressor
from tqdm.auto import tqdm

from lab1_wine.model import TREES, wine_pipeline
from lab1_wine.schema import FEATURES, NUMERIC, QUALITIES, TYPES

ORIGINAL = "random forest of the original"
OURS = "trees and kernel, as registered"
BEST = "trees and kernel, twice the trees"


def candidates(seed: int = 0, trees: int = TREES) -> dict[str, Pipeline]:
    """The original's five families, then better ones. Each takes FEATURES as a frame.

    `trees` is the size of the registered model; the original's forest is six times that.
    """
    return {
        "linear regression": _simple(LinearRegression()),
        "decision tree": _simple(DecisionTreeRegressor(random_state=seed)),
        "support vectors, raw": _simple(SVR()),
        "support vectors, scaled": _simple(MinMaxScaler(), SVR()),
        "gradient boosting": _simple(GradientBoostingRegressor(random_state=seed)),
        ORIGINAL: forest(6 * trees, drop=["total_sulfur_dioxide"], seed=seed),
        "the same with total sulfur dioxide": forest(6 * trees, seed=seed),
        "histogram gradient boosting": _simple(HistGradientBoostingRegressor(random_state=seed)),
        "extra trees": _simple(ExtraTreesRegressor(trees, random_state=seed, n_jobs=1)),
        OURS: wine_pipeline(trees=trees, seed=seed),
        BEST: wine_pipeline(trees=2 * trees, seed=seed),
    }


def forest(trees: int = 1200, drop: Sequence[str] = (), seed: int = 0) -> Pipeline:
    """The original's random forest, the winner of its grid."""
    return _simple(
        RandomForestRegressor(trees, min_samples_split=3, random_state=seed, n_jobs=1), drop=drop
    )


def _simple(*steps, drop: Sequence[str] = ()) -> Pipeline:
    """A pipeline on the plain columns, with the wine's type as 0 or 1."""
    columns = [name for name in NUMERIC if name not in drop]
    encoder = OneHotEncoder(categories=[TYPES], drop="first", sparse_output=False)
    return make_pipeline(
        make_column_transformer((encoder, ["wine_type"]), ("passthrough", columns)), *steps
    )


def scores(quality: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """MSE and MAE of the prediction, MSE once rounded half to even, share within one of the truth."""
    rounded = np.rint(predicted)
    return {
        "mse": float(np.mean((predicted - quality) ** 2)),
        "mse_rounded": float(np.mean((rounded - quality) ** 2)),
        "mae": float(np.mean(np.abs(predicted - quality))),
        "within_one": float(np.mean(np.abs(rounded - quality) <= 1)),
    }


def confusion(quality: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Wines by quality (rows) and rounded prediction (columns), 3 to 9 always shown."""
    rounded = np.clip(np.rint(predicted), QUALITIES[0], QUALITIES[-1]).astype(int)
    counts = pd.crosstab(np.asarray(quality), rounded)
    counts = counts.reindex(index=QUALITIES, columns=QUALITIES, fill_value=0)
    return counts.rename_axis(index="quality", columns="predicted")


def compare(
    wines: pd.DataFrame, models: dict[str, Pipeline], seeds: list[int], n_jobs: int = -1
) -> pd.DataFrame:
    """Every model on the same random 80/20 splits; a row per model and seed.

    What the rows are decides what the scores mean: with duplicates in them, they flatter.
    """
    tasks = [(name, seed) for seed in seeds for name in models]
    work = Parallel(n_jobs=n_jobs, return_as="generator")(
        delayed(_score_split)(wines, models[name], seed) for name, seed in tasks
    )
    found = list(tqdm(work, desc="models x splits", total=len(tasks)))
    return pd.DataFrame(
        [
            {"model": name, "seed": seed, **row}
            for (name, seed), row in zip(tasks, found, strict=True)
        ]
    )


def _score_split(wines: pd.DataFrame, model: Pipeline, seed: int) -> dict[str, float]:
    train, test = train_test_split(wines, test_size=0.2, random_state=seed)
    fitted = clone(model).fit(train[FEATURES], train["quality"])
    return scores(test["quality"].to_numpy(), fitted.predict(test[FEATURES]))


def summary(comparison: pd.DataFrame, against: str = ORIGINAL) -> pd.DataFrame:
    """Mean scores per model, best first, and the paired difference in MSE with its interval."""
    table = comparison.drop(columns="seed").groupby("model").mean()
    mse = comparison.pivot(index="seed", columns="model", values="mse")
    for name in table.index:
        differences = (mse[name] - mse[against]).to_numpy()
        low, high = paired_interval(differences)
        table.loc[name, ["difference", "low", "high"]] = differences.mean(), low, high
    table["ratio"] = table["mse"] / table.loc[against, "mse"]
    return table.sort_values("mse")


def paired_interval(differences: np.ndarray, overlap: float = 0.25) -> tuple[float, float]:
    """A 95 % t interval for a mean over repeated splits, whose training sets overlap.

    Nadeau and Bengio (2003): the variance of the mean is (1/n + test/train) s^2. One split has none.
    """
    n = len(differences)
    if n < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((1 / n + overlap) * differences.var(ddof=1))
    return float(differences.mean() - half), float(differences.mean() + half)


def importance(wines: pd.DataFrame, model: Pipeline, folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Cross-validated permutation importance: how much MSE grows when a column is shuffled.

    Measured on held-out rows of each fold; a row per feature, most important first.
    """
    parts = []
    for train, test in tqdm(
        KFold(folds, shuffle=True, random_state=seed).split(wines), "folds", folds
    ):
        fitted = clone(model).fit(wines.iloc[train][FEATURES], wines.iloc[train]["quality"])
        found = permutation_importance(
            fitted,
            wines.iloc[test][FEATURES],
            wines.iloc[test]["quality"],
            scoring="neg_mean_squared_error",
            n_repeats=3,
            random_state=seed,
        )
        parts.append(found.importances_mean)
    table = pd.DataFrame(
        {"mse_increase": np.mean(parts, axis=0), "sd": np.std(parts, axis=0, ddof=1)}
    )
    return table.set_index(pd.Index(FEATURES, name="feature")).sort_values(
        "mse_increase", ascending=False
    )
