"""The wine pipeline, and the intervals around its predictions. Training fits both, inference uses both.

The pipeline is the mean of two models that err differently: extremely randomised trees, and kernel
ridge regression. Both see logarithms of the skewed columns and four derived ones; the trees also
see every sum and difference of two columns, since a tree alone can only cut along single columns.
"""

from __future__ import annotations

from itertools import combinations
from typing import Any

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
SUMMED = 11  # the columns whose sums and differences the trees see: all but `white` and UNLOGGED

# Derived columns, each a weighted sum of COLUMNS.
DERIVED = {
    "log_free_share": {"log_free_sulfur_dioxide": 1.0, "log_total_sulfur_dioxide": -1.0},
    "bound_sulfur_dioxide": {"total_sulfur_dioxide": 1.0, "free_sulfur_dioxide": -1.0},
    # The share of free sulfur dioxide that protects falls tenfold per unit of pH.
    "log_molecular_sulfur_dioxide": {"log_free_sulfur_dioxide": 1.0, "ph": -np.log(10)},
    # What alcohol (lighter than water) and sugar (heavier) do not explain of the density.
    "density_residual": {"density": 1000.0, "alcohol": 1.25, "residual_sugar": -0.38},
}
DEFAULTS = {
    "max_features": 0.15,
    "min_samples_leaf": 1,
    "length": 8.0,
    "alpha": 0.6,
    "tree_weight": 0.5,
}
TREES = 200
TRUSTED = [  # what the pipeline holds beyond skops' own list
    "numpy.dot",
    "sklearn.gaussian_process.kernels.Matern",
    "sklearn.tree._tree.Tree",
    "sklearn.utils._bunch.Bunch",
]


def wine_pipeline(
    *,
    max_features: float = 0.15,
    min_samples_leaf: int = 1,
    length: float = 8.0,
    alpha: float = 0.6,
    tree_weight: float = 0.5,
    trees: int = TREES,
    derived: bool = True,
    seed: int = 0,
) -> Pipeline:
    """An unfitted pipeline from FEATURES (a frame) to quality.

    `length` and `alpha` are the kernel's length scale (in standard deviations) and the ridge's
    penalty, `tree_weight` the trees' share in the mean. Without `derived` both models see the plain
    columns only, to measure what the derivation is worth.
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
    """FEATURES -> COLUMNS and DERIVED, standardised; shape (rows, 20)."""
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
    """FEATURES as they are, the type as 0 or 1, standardised; shape (rows, 12)."""
    columns = ColumnTransformer(
        [("type", _type_as_number(), ["wine_type"])], remainder="passthrough"
    )
    return make_pipeline(columns, StandardScaler())


def _type_as_number() -> OneHotEncoder:
    """0 for red, 1 for white."""
    return OneHotEncoder(categories=[TYPES], drop="first", sparse_output=False)


def _sums_and_differences() -> np.ndarray:
    """Weights that keep every column and add each sum and difference of two of the first SUMMED."""
    one = np.eye(len(COLUMNS) + len(DERIVED))
    pairs = [one[a] + sign * one[b] for a, b in combinations(range(SUMMED), 2) for sign in (-1, 1)]
    return np.column_stack([*one, *pairs])


def _weighted_sums(weights: np.ndarray) -> FunctionTransformer:
    """A step that multiplies by a matrix, in a form that can be saved without trusting own code."""
    return FunctionTransformer(np.dot, kw_args={"b": weights})


def tree_spread(pipeline: Pipeline, wines: pd.DataFrame) -> np.ndarray:
    """How much the trees disagree about each wine: the standard deviation of their answers."""
    trees = pipeline["mean"].named_estimators_["trees"]
    inputs = trees[:-1].transform(pipeline["prepare"].transform(wines)).astype(np.float32)
    answers = [tree.tree_.predict(inputs)[:, 0] for tree in trees[-1].estimators_]
    return np.std(answers, axis=0)


def calibrate(
    quality: np.ndarray, predicted: np.ndarray, spread: np.ndarray, level: float = 0.9
) -> dict[str, Any]:
    """Intervals as plain numbers, from predictions of wines that the model had not seen.

    Split conformal prediction in eight cells (four of the prediction, each halved by the trees'
    spread): in each, how far below and above the prediction the truth lies in all but (1 - level) / 2
    of the cases. Vovk (2012), "Conditional validity of inductive conformal predictors".
    """
    edges = np.quantile(predicted, [0.25, 0.5, 0.75])
    band = np.digitize(predicted, edges)
    halves = np.array([np.median(spread[band == i]) for i in range(4)])
    calm = spread > halves[band]
    residual = quality - predicted
    cells = [[residual[(band == i) & (calm == j)] for j in (False, True)] for i in range(4)]
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
    """The low and high end around each prediction."""
    band = np.digitize(predicted, intervals["prediction_edges"])
    half = (spread > np.array(intervals["spread_edges"])[band]).astype(int)
    below, above = np.array(intervals["below"]), np.array(intervals["above"])
    return predicted - below[band, half], predicted + above[band, half]


def _conformal_quantile(scores: np.ndarray, level: float) -> float:
    """The value that a new score exceeds with probability at most (1 - level) / 2."""
    n = len(scores)
    rank = min(n - 1, int(np.ceil((n + 1) * (1 + level) / 2)) - 1)
    return float(np.sort(scores)[rank])
