"""The wine pipeline, and the intervals around its predictions. Training fits both, inference uses both.

The pipeline is the mean of two models that err differently: extremely randomised trees (Geurts et
al., 2006) and kernel ridge regression. Both see logarithms of the skewed columns and four derived
columns. The trees also see every sum and difference of two columns, since a tree can only split on
single columns.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, Self, TypedDict

import numpy as np
import pandas as pd
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import ExtraTreesRegressor, VotingRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from lab1_wine.schema import NUMERIC, TYPES

LOGGED = [
    "fixed_acidity",
    "volatile_acidity",
    "residual_sugar",
    "chlorides",
    "free_sulfur_dioxide",
    "total_sulfur_dioxide",
    "sulphates",
    "alcohol",
]
PLAIN = ["citric_acid", "density", "ph"]
UNLOGGED = ["free_sulfur_dioxide", "total_sulfur_dioxide", "residual_sugar", "alcohol"]
COLUMNS = [*(f"log_{name}" for name in LOGGED), *PLAIN, "white", *UNLOGGED]
SUMMED = len(LOGGED) + len(PLAIN)  # the trees see sums and differences of so many first columns

# Derived columns, each a weighted sum of COLUMNS.
DERIVED = {
    "log_free_share": {"log_free_sulfur_dioxide": 1.0, "log_total_sulfur_dioxide": -1.0},
    "bound_sulfur_dioxide": {"total_sulfur_dioxide": 1.0, "free_sulfur_dioxide": -1.0},
    # The share of free sulfur dioxide that protects falls tenfold per unit of pH.
    "log_molecular_sulfur_dioxide": {"log_free_sulfur_dioxide": 1.0, "ph": -np.log(10)},
    # What alcohol (lighter than water) and sugar (heavier) do not explain of the density.
    "density_residual": {"density": 1000.0, "alcohol": 1.25, "residual_sugar": -0.38},
}


class Parameters(TypedDict):
    """The parameters of `wine_pipeline` that `training.search` chooses."""

    max_features: float
    min_samples_leaf: int
    length: float
    alpha: float
    tree_weight: float


DEFAULTS: Parameters = {  # what training.search found on the UCI table
    "max_features": 0.15,
    "min_samples_leaf": 1,
    "length": 8.0,
    "alpha": 0.6,
    "tree_weight": 0.5,
}
TREES = 200
TRUSTED = [  # types in the pipeline's file that skops does not trust by itself
    "lab1_wine.model.Columns",
    "lab1_wine.model.WeightedSums",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
    # in files written before December 2026, some under the name that the library's version gave them
    "numpy.dot",
    "numpy.log",
    "numpy._core._multiarray_umath.log",
    "sklearn.compose._column_transformer._RemainderColsList",
]


class Step(TransformerMixin, BaseEstimator):
    """A step of the pipeline that has nothing to fit."""

    def fit(self, X: Any, y: Any = None) -> Self:
        """Return self."""
        return self

    def __sklearn_is_fitted__(self) -> bool:
        return True


class Columns(Step):
    """A step from a frame of wines to a matrix of the named columns; shape (rows, names).

    "log_NAME" is a column's natural logarithm, "white" is 0 for a red wine and 1 for a white one. The
    names are in every saved model, and so is this class by its own name and module: neither may move.
    """

    def __init__(self, names: list[str]):
        self.names = names

    def transform(self, wines: pd.DataFrame) -> np.ndarray:
        """Return the columns. Raises ValueError for a type of wine that is not one of TYPES."""
        unknown = set(wines["wine_type"]) - set(TYPES)
        if unknown:
            raise ValueError(f"wine_type must be one of {', '.join(TYPES)}, not {unknown}.")
        return np.array([_column(wines, name) for name in self.names]).T


def _column(wines: pd.DataFrame, name: str) -> np.ndarray:
    if name == "white":
        return (wines["wine_type"] == "white").to_numpy(float)
    if name.startswith("log_"):
        return np.log(wines[name.removeprefix("log_")].to_numpy(float))
    return wines[name].to_numpy(float)


class WeightedSums(Step):
    """A step that multiplies by a matrix of shape (columns, sums).

    The weights are in every saved model, and so is this class by its name and module.
    """

    def __init__(self, weights: np.ndarray):
        self.weights = weights

    def transform(self, columns: np.ndarray) -> np.ndarray:
        """Return the sums; shape (rows, sums)."""
        return columns @ self.weights


def wine_pipeline(
    *,
    max_features: float = DEFAULTS["max_features"],
    min_samples_leaf: int = DEFAULTS["min_samples_leaf"],
    length: float = DEFAULTS["length"],
    alpha: float = DEFAULTS["alpha"],
    tree_weight: float = DEFAULTS["tree_weight"],
    trees: int = TREES,
    derived: bool = True,
    seed: int = 0,
) -> Pipeline:
    """Return an unfitted pipeline from FEATURES (a frame) to quality (points).

    `length` is the kernel's length scale in standard deviations, `alpha` the ridge's penalty and
    `tree_weight` the trees' share in the mean. Without `derived` both models see the plain columns
    only, which measures how much the derived ones help.
    """
    forest = ExtraTreesRegressor(
        trees,
        max_features=max_features,
        min_samples_leaf=min_samples_leaf,
        random_state=seed,
        n_jobs=1,
    )
    tree_steps = [WeightedSums(_sums_and_differences())] if derived else []
    ridge = KernelRidge(kernel=Matern(length, nu=0.5), alpha=alpha)
    mean = VotingRegressor(
        [
            ("trees", make_pipeline(*tree_steps, forest)),
            (
                "kernel",
                TransformedTargetRegressor(ridge, transformer=StandardScaler(with_std=False)),
            ),
        ],
        weights=[tree_weight, 1 - tree_weight],
    )
    return Pipeline([("prepare", prepare() if derived else plain()), ("mean", mean)])


def prepare() -> Pipeline:
    """Return a step from FEATURES to COLUMNS and DERIVED, standardised; shape (rows, 20)."""
    weights = np.eye(len(COLUMNS), len(COLUMNS) + len(DERIVED))
    for place, terms in enumerate(DERIVED.values(), start=len(COLUMNS)):
        for name, weight in terms.items():
            weights[COLUMNS.index(name), place] = weight
    return make_pipeline(Columns(COLUMNS), WeightedSums(weights), StandardScaler())


def plain() -> Pipeline:
    """Return a step from FEATURES to the same, standardised, the type as 0 or 1; shape (rows, 12)."""
    return make_pipeline(Columns(["white", *NUMERIC]), StandardScaler())


def _sums_and_differences() -> np.ndarray:
    """Return weights that keep every column and add the first SUMMED columns' sums and differences.

    Shape (columns, columns and pairs).
    """
    one = np.eye(len(COLUMNS) + len(DERIVED))
    pairs = [one[a] + sign * one[b] for a, b in combinations(range(SUMMED), 2) for sign in (-1, 1)]
    return np.column_stack([*one, *pairs])


def tree_spread(pipeline: Pipeline, wines: pd.DataFrame) -> np.ndarray:
    """Return the standard deviation of the trees' answers about each wine; shape (wines,)."""
    trees = pipeline["mean"].named_estimators_["trees"]
    inputs = trees[:-1].transform(pipeline["prepare"].transform(wines)).astype(np.float32)
    answers = [tree.tree_.predict(inputs)[:, 0] for tree in trees[-1].estimators_]
    return np.std(answers, axis=0)


def calibrate(
    quality: np.ndarray, predicted: np.ndarray, spread: np.ndarray, level: float = 0.9
) -> dict[str, Any]:
    """Return intervals as plain numbers, from predictions of wines that the model had not seen.

    The arguments have shape (wines,). This is conformal prediction in eight cells: four of the
    prediction, each halved by the trees' spread. Each cell holds how far below and above the
    prediction the quality lies in all but (1 - level) / 2 of the cases. Source: Vovk (2012),
    "Conditional validity of inductive conformal predictors". Here the residuals are pooled over
    folds, so the theorem does not apply; benchmarks/wine.py measures the coverage. Raises ValueError
    where a cell has too few wines for the level.
    """
    edges = np.quantile(predicted, [0.25, 0.5, 0.75])
    band = np.digitize(predicted, edges)
    halves = np.array([np.median(spread[band == i]) for i in range(4)])
    wide = spread > halves[band]
    residual = quality - predicted
    cells = [[residual[(band == i) & (wide == j)] for j in (False, True)] for i in range(4)]
    return {
        "level": level,
        "prediction_edges": edges.tolist(),
        "spread_edges": halves.tolist(),
        "below": [[_conformal_quantile(-r, level) for r in row] for row in cells],
        "above": [[_conformal_quantile(r, level) for r in row] for row in cells],
    }


def interval(
    intervals: dict[str, Any], predicted: np.ndarray, spread: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Return the low and high ends around each prediction, each of shape (wines,)."""
    band = np.digitize(predicted, intervals["prediction_edges"])
    half = (spread > np.array(intervals["spread_edges"])[band]).astype(int)
    below, above = np.array(intervals["below"]), np.array(intervals["above"])
    return predicted - below[band, half], predicted + above[band, half]


def _conformal_quantile(scores: np.ndarray, level: float) -> float:
    """Return the value that a new score exceeds with probability at most (1 - level) / 2."""
    n = len(scores)
    if n < 2 / (1 - level) - 1:
        raise ValueError(f"{n} wines in a cell are too few for {level:.0%} intervals.")
    rank = min(n - 1, int(np.ceil((n + 1) * (1 + level) / 2)) - 1)
    return float(np.sort(scores)[rank])
