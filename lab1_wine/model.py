"""The wine pipeline, and the intervals around its predictions. Training fits both, inference uses both.

The pipeline is the mean of two models that err differently: extremely randomised trees (Geurts et
al., 2006) and kernel ridge regression. Both see logarithms of the skewed columns and four derived
columns. The trees also see every sum and difference of two columns, since a tree can only split on
single columns.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any, TypedDict

import numpy as np
import pandas as pd
from sklearn.compose import ColumnTransformer, TransformedTargetRegressor
from sklearn.ensemble import ExtraTreesRegressor, VotingRegressor
from sklearn.gaussian_process.kernels import Matern
from sklearn.kernel_ridge import KernelRidge
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import FunctionTransformer, OneHotEncoder, StandardScaler

from lab1_wine.schema import TYPES

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
    "numpy.dot",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
]


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
    tree_steps = [_weighted_sums(_sums_and_differences())] if derived else []
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
    columns = ColumnTransformer(
        [
            ("log", FunctionTransformer(np.log), LOGGED),
            ("plain", "passthrough", PLAIN),
            ("type", _type_as_number(), ["wine_type"]),
            ("unlogged", "passthrough", UNLOGGED),
        ]
    )
    weights = np.eye(len(COLUMNS), len(COLUMNS) + len(DERIVED))
    for place, terms in enumerate(DERIVED.values(), start=len(COLUMNS)):
        for name, weight in terms.items():
            weights[COLUMNS.index(name), place] = weight
    return make_pipeline(columns, _weighted_sums(weights), StandardScaler())


def plain() -> Pipeline:
    """Return a step from FEATURES to the same, standardised, the type as 0 or 1; shape (rows, 12)."""
    columns = ColumnTransformer(
        [("type", _type_as_number(), ["wine_type"])], remainder="passthrough"
    )
    return make_pipeline(columns, StandardScaler())


def _type_as_number() -> OneHotEncoder:
    """Return a step that turns red into 0 and white into 1."""
    return OneHotEncoder(categories=[TYPES], drop="first", sparse_output=False)


def _sums_and_differences() -> np.ndarray:
    """Return weights that keep every column and add the first SUMMED columns' sums and differences.

    Shape (columns, columns and pairs).
    """
    one = np.eye(len(COLUMNS) + len(DERIVED))
    pairs = [one[a] + sign * one[b] for a, b in combinations(range(SUMMED), 2) for sign in (-1, 1)]
    return np.column_stack([*one, *pairs])


def _weighted_sums(weights: np.ndarray) -> FunctionTransformer:
    """Return a step that multiplies by a matrix.

    It uses numpy.dot, so that loading it needs no trust in code of the project's own.
    """
    return FunctionTransformer(np.dot, kw_args={"b": weights})


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
