"""Which model is best? The original's and better ones on the same splits, and which columns matter."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
from joblib import Parallel, delayed
from scipy import stats
from sklearn.base import BaseEstimator, clone
from sklearn.compose import make_column_transformer
from sklearn.dummy import DummyRegressor
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
    """Return the original's five families of models, then better ones. Each takes FEATURES as a frame.

    `trees` is the number of trees in the registered model; the original's forest has six times that.
    """
    return {
        "always the mean": _simple(DummyRegressor()),
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
    """Return the original's random forest, the best of its grid search, without the columns in `drop`."""
    return _simple(
        RandomForestRegressor(trees, min_samples_split=3, random_state=seed, n_jobs=1), drop=drop
    )


def _simple(*steps: BaseEstimator, drop: Sequence[str] = ()) -> Pipeline:
    """Return a pipeline on the plain columns, with the wine's type as 0 or 1."""
    columns = [name for name in NUMERIC if name not in drop]
    encoder = OneHotEncoder(categories=[TYPES], drop="first", sparse_output=False)
    return make_pipeline(
        make_column_transformer((encoder, ["wine_type"]), ("passthrough", columns)), *steps
    )


def scores(quality: np.ndarray, predicted: np.ndarray) -> dict[str, float]:
    """Return a prediction's errors against the quality, in points; both of shape (wines,).

    MSE and MAE of the prediction, MSE after rounding half to even, and the share of rounded
    predictions within one point.
    """
    rounded = np.rint(predicted)
    return {
        "mse": float(np.mean((predicted - quality) ** 2)),
        "mse_rounded": float(np.mean((rounded - quality) ** 2)),
        "mae": float(np.mean(np.abs(predicted - quality))),
        "within_one": float(np.mean(np.abs(rounded - quality) <= 1)),
    }


def confusion(quality: np.ndarray, predicted: np.ndarray) -> pd.DataFrame:
    """Count wines by quality (rows) and rounded prediction (columns), always 3 to 9."""
    rounded = np.clip(np.rint(predicted), QUALITIES[0], QUALITIES[-1]).astype(int)
    counts = pd.crosstab(np.asarray(quality), rounded)
    counts = counts.reindex(index=QUALITIES, columns=QUALITIES, fill_value=0)
    return counts.rename_axis(index="quality", columns="predicted")


def compare(
    wines: pd.DataFrame, models: dict[str, Pipeline], seeds: list[int], n_jobs: int = -1
) -> pd.DataFrame:
    """Score every model on the same random 80/20 splits. Returns a row per model and seed.

    The scores are too good where the rows hold duplicates.
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
    """Return mean scores per model, best first, with 95 % intervals.

    The intervals are those of the MSE (mse_low, mse_high) and of its paired difference to the model
    `against` (difference, low, high).
    """
    table = comparison.drop(columns="seed").groupby("model").mean()
    mse = comparison.pivot(index="seed", columns="model", values="mse")
    for name in table.index:
        table.loc[name, ["mse_low", "mse_high"]] = paired_interval(mse[name].to_numpy())
        differences = (mse[name] - mse[against]).to_numpy()
        low, high = paired_interval(differences)
        table.loc[name, ["difference", "low", "high"]] = differences.mean(), low, high
    table["ratio"] = table["mse"] / table.loc[against, "mse"]
    return table.sort_values("mse")


def paired_interval(differences: np.ndarray, overlap: float = 0.25) -> tuple[float, float]:
    """Return a 95 % t interval for a mean over repeated splits, whose training sets overlap.

    `overlap` is test size / training size: the variance of the mean is (1/n + overlap) s^2. One
    split gives NaN. Source: Nadeau and Bengio (2003), "Inference for the Generalization Error".
    """
    n = len(differences)
    if n < 2:
        return float("nan"), float("nan")
    half = stats.t.ppf(0.975, n - 1) * np.sqrt((1 / n + overlap) * differences.var(ddof=1))
    return float(differences.mean() - half), float(differences.mean() + half)


def importance(wines: pd.DataFrame, model: Pipeline, folds: int = 5, seed: int = 0) -> pd.DataFrame:
    """Measure how much the MSE grows when a column is shuffled: permutation importance.

    Each fold measures it on its held-out rows. Returns a row per feature, the largest first.
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
