"""Generators of synthetic wines: fitted once on measured ones, registered, sampled daily.

`Copula` and `Ctgan` have the same three methods: `fit` (a class method), `sample` and `save`.
They save plain numbers, so the daily run needs neither torch nor pickle.
"""

from __future__ import annotations

import functools
import importlib.util
import json
import tempfile
import time
from collections.abc import Callable
from itertools import combinations
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd
from scipy.spatial import KDTree
from scipy.stats import norm, rankdata
from sklearn.ensemble import RandomForestRegressor
from sklearn.preprocessing import StandardScaler

from lab1_wine.schema import DISTINCT, GENERATOR, MEASUREMENTS, NUMERIC
from labstore import Damaged, ModelVersion, Store, StoreError

if TYPE_CHECKING:  # an extra that few install
    from ctgan import CTGAN

FILE = "generator.json"
COLUMNS = [*NUMERIC, "quality"]
GRID = np.linspace(0, 1, 201)
GATE = {  # the limits that a generator must meet to be registered
    "column_shapes": (0.95, "min"),
    "pair_trends": (0.95, "min"),
    "near_copies": (0.01, "max"),
}


class Copula:
    """A Gaussian copula for each type of wine.

    It holds every column's quantiles and the correlation of the columns' normal scores; quality is
    one of the columns. A sample draws correlated normals and turns each into its column's quantile,
    so columns keep their shapes and pairs their correlations, but no row is a measured one. Source:
    Nelsen (2006), "An Introduction to Copulas".
    """

    def __init__(self, parts: list[dict[str, Any]]):
        self.parts = parts

    @classmethod
    def fit(cls, wines: pd.DataFrame, seed: int = 0) -> Copula:
        """Fit to rows with FEATURES and quality. Nothing is random: `seed` is there for `compare`."""
        return cls([_part(t, rows, len(wines)) for t, rows in wines.groupby("wine_type")])

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """Return n wines with FEATURES and quality, rounded as a laboratory rounds them.

        The same seed gives the same wines.
        """
        random = np.random.default_rng(seed)
        shares = np.array([part["share"] for part in self.parts])
        chosen = random.choice(len(self.parts), n, p=shares / shares.sum())
        wines = [_draw(part, int((chosen == i).sum()), random) for i, part in enumerate(self.parts)]
        order = random.permutation(n)
        return tidy(pd.concat(wines, ignore_index=True).iloc[order])

    def save(self, folder: Path) -> None:
        """Write the copula's numbers to generator.json in a folder."""
        (Path(folder) / FILE).write_text(json.dumps({"kind": "copula", "parts": self.parts}))


class Ctgan:
    """CTGAN, the original's generator, by the library of that name.

    Its network could only be saved as a pickle, which can run code when loaded. Saving keeps a bank
    of drawn rows instead, and a loaded generator samples from them. Source: Xu et al. (2019),
    "Modeling Tabular Data using Conditional GAN".
    """

    BANK_ROWS = 5_000

    def __init__(self, network: CTGAN):
        self.network = network

    @classmethod
    def fit(cls, wines: pd.DataFrame, seed: int = 0, epochs: int = 6) -> Ctgan:
        """Fit to rows with FEATURES and quality. The original's setting is six epochs.

        Needs the extra `ctgan`, whose licence is BUSL-1.1.
        """
        import torch
        from ctgan import CTGAN

        torch.manual_seed(seed)  # with ctgan 0.12.1 set_random_state leaves a GPU unseeded
        network = CTGAN(epochs=epochs, batch_size=500, pac=10, enable_gpu=True)
        network.set_random_state(seed)
        network.fit(wines[DISTINCT], ["wine_type", "quality"])
        return cls(network)

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """Return n wines with FEATURES and quality. The same seed gives the same wines."""
        self.network.set_random_state(seed)
        return tidy(self.network.sample(n))

    def save(self, folder: Path) -> None:
        """Write BANK_ROWS drawn wines to generator.json in a folder."""
        bank = self.sample(self.BANK_ROWS, seed=0).to_dict("list")
        (Path(folder) / FILE).write_text(json.dumps({"kind": "bank", "rows": bank}))


class Bank:
    """Rows that a generator drew before it was registered."""

    def __init__(self, rows: pd.DataFrame):
        self.rows = rows

    def sample(self, n: int, seed: int) -> pd.DataFrame:
        """Return n of the rows, some perhaps twice. The same seed gives the same rows."""
        return self.rows.sample(n, replace=True, random_state=seed).reset_index(drop=True)


def ctgan_fits(epochs: list[int]) -> dict[str, Callable[..., Ctgan]]:
    """Return CTGAN's fits at several numbers of epochs, for `compare`; none without the extra."""
    if epochs and importlib.util.find_spec("ctgan") is None:
        print("CTGAN is left out: it is not installed. To have it: pip install 'ml-labs[ctgan]'")
        return {}
    return {f"CTGAN, {n} epochs": functools.partial(Ctgan.fit, epochs=n) for n in epochs}


def load(store: Store, version: str = "best") -> Copula | Bank:
    """Load a registered generator.

    Raises NotFound where there is none, Damaged where its file is not a generator's.
    """
    path = store.load_model(GENERATOR, version).path / FILE
    try:
        saved = json.loads(path.read_text())
        kind, numbers = saved["kind"], saved["parts" if saved["kind"] == "copula" else "rows"]
    except (ValueError, KeyError) as error:
        raise Damaged(
            f"{path} does not hold a generator ({error}). Register one again with notebook "
            "2_training_pipeline."
        ) from error
    return Copula(numbers) if kind == "copula" else Bank(pd.DataFrame(numbers))


def tidy(wines: pd.DataFrame) -> pd.DataFrame:
    """Return drawn values as a laboratory would report them.

    Values are rounded and within the range of the measured wines, quality is a whole number, and
    total sulfur dioxide is at least its free part.
    """
    wines = wines.reset_index(drop=True).copy()
    for m in MEASUREMENTS:
        wines[m.name] = wines[m.name].astype(float).clip(*m.seen).round(m.decimals)
    free = wines["free_sulfur_dioxide"]
    wines["total_sulfur_dioxide"] = wines["total_sulfur_dioxide"].where(
        wines["total_sulfur_dioxide"] >= free, free
    )
    wines["quality"] = wines["quality"].astype(float).round().clip(3, 9).astype("int64")
    return wines[DISTINCT]


def evaluate(
    drawn: pd.DataFrame, train: pd.DataFrame, held_out: pd.DataFrame, seed: int = 0
) -> dict[str, float]:
    """Measure how good drawn rows are, against the rows fitted to (`train`) and rows not seen.

    - column_shapes, pair_trends: SDMetrics' QualityReport with its defaults, against `train`;
    - held_out_shapes, held_out_correlations: SDMetrics' KSComplement and CorrelationSimilarity,
      means over the numeric columns and their pairs, against `held_out`;
    - synthetic_mse: a random forest trained on drawn rows, tested on held-out measured ones;
    - near_copies: share of rows closer to a training row than 99 % of held-out rows are.

    Raises ValueError where held-out rows repeat training rows: `near_copies` would be meaningless.
    """
    from sdmetrics.column_pairs import CorrelationSimilarity
    from sdmetrics.single_column import KSComplement

    varying = [c for c in COLUMNS if min(held_out[c].nunique(), drawn[c].nunique()) > 1]
    pairs = [(held_out[[a, b]], drawn[[a, b]]) for a, b in combinations(varying, 2)]
    forest = RandomForestRegressor(300, random_state=seed, n_jobs=1)
    forest.fit(_numbers(drawn), drawn["quality"])
    errors = forest.predict(_numbers(held_out)) - held_out["quality"]
    return {
        **quality_report(train, drawn),
        "held_out_shapes": float(
            np.mean([KSComplement.compute(held_out[c], drawn[c]) for c in COLUMNS])
        ),
        "held_out_correlations": float(np.mean([CorrelationSimilarity.compute(*p) for p in pairs])),
        "synthetic_mse": float((errors**2).mean()),
        "near_copies": near_copies(drawn, train, held_out),
    }


def quality_report(measured: pd.DataFrame, drawn: pd.DataFrame) -> dict[str, float]:
    """Return SDMetrics' scores of column shapes and of pair trends, 0 to 1."""
    from sdmetrics.reports import QualityReport

    kinds = {name: {"sdtype": "numerical"} for name in COLUMNS}
    kinds["wine_type"] = {"sdtype": "categorical"}
    names = list(kinds)
    report = QualityReport()
    tables = ({"wine": measured[names]}, {"wine": drawn[names]})
    report.generate(*tables, {"tables": {"wine": {"columns": kinds}}}, verbose=False)
    scores = report.get_properties().set_index("Property")["Score"]
    return {
        "column_shapes": float(scores["Column Shapes"]),
        "pair_trends": float(scores["Column Pair Trends"]),
    }


def near_copies(drawn: pd.DataFrame, train: pd.DataFrame, held_out: pd.DataFrame) -> float:
    """Return the share of drawn rows closer to a training row than 99 % of held-out rows are.

    Distances are Euclidean over standardised columns. Raises ValueError where held-out rows repeat
    training rows.
    """
    scale = StandardScaler().fit(_numbers(train))
    tree = KDTree(scale.transform(_numbers(train)))
    nearest = {
        name: tree.query(scale.transform(_numbers(rows)))[0]
        for name, rows in (("drawn", drawn), ("held_out", held_out))
    }
    limit = np.quantile(nearest["held_out"], 0.01)
    if limit == 0:
        raise ValueError(
            "Held-out wines repeat training wines. Remove duplicates first: features.deduplicate(wines)."
        )
    return float((nearest["drawn"] < limit).mean())


def compare(
    wines: pd.DataFrame, fits: dict[str, Callable[..., Any]], seeds: list[int]
) -> pd.DataFrame:
    """Evaluate every generator on the same random 80/20 splits. Returns a row per generator and seed."""
    from sklearn.model_selection import train_test_split

    rows = []
    for seed in seeds:
        train, held_out = train_test_split(wines, test_size=0.2, random_state=seed)
        for name, fit in fits.items():
            started = time.perf_counter()
            fitted = fit(train, seed=seed)
            seconds = time.perf_counter() - started
            figures = evaluate(fitted.sample(len(train), seed), train, held_out, seed)
            rows.append({"generator": name, "seed": seed, "fit_seconds": seconds, **figures})
    return pd.DataFrame(rows)


def passes(figures: pd.Series | dict[str, float]) -> bool:
    """Return whether the figures of `evaluate` pass the gate."""
    return all(
        figures[name] >= limit if side == "min" else figures[name] <= limit
        for name, (limit, side) in GATE.items()
    )


def register(
    store: Store,
    wines: pd.DataFrame,
    data: str,
    fits: dict[str, Callable[..., Any]],
    report: pd.DataFrame,
) -> ModelVersion:
    """Fit the best generator that passes the gate on all wines and register it.

    The best is the one with the lowest synthetic_mse in `report`, the result of `compare`. Raises
    StoreError where none passes on real wines; on the offline sample one is registered all the same.
    """
    means = report.drop(columns="seed").groupby("generator").mean()
    good = means[means.apply(passes, axis=1)]
    if good.empty and data == "real":
        raise StoreError(f"No generator passes the gate {GATE}:\n{means.round(3).to_string()}")
    if good.empty:  # the offline sample's thousand rows are too few for the gate's limits
        good = means
    name = good["synthetic_mse"].idxmin()
    metadata = {
        "algorithm": name,
        "data": data,
        "rows": len(wines),
        "passes_the_gate": passes(means.loc[name]),
    }
    with tempfile.TemporaryDirectory() as folder:
        fits[name](wines).save(Path(folder))
        return store.save_model(GENERATOR, Path(folder), means.loc[name].to_dict(), metadata)


def _numbers(wines: pd.DataFrame) -> pd.DataFrame:
    return wines[NUMERIC].assign(white=(wines["wine_type"] == "white").astype(float))


def _part(wine_type: str, wines: pd.DataFrame, total: int) -> dict[str, Any]:
    """Fit the copula of one type of wine and return it as plain numbers."""
    scores = norm.ppf((rankdata(wines[COLUMNS], axis=0) - 0.5) / len(wines))
    # Ties, in quality above all, shrink the scores' spread and so their correlation: undo that.
    narrowed = np.minimum(scores.std(axis=0), 1)
    varying = narrowed > 0  # a column that is constant goes with none
    correlation = np.eye(len(COLUMNS))
    if varying.any():
        measured = np.corrcoef(scores[:, varying].T)
        correlation[np.ix_(varying, varying)] = measured / np.outer(
            narrowed[varying], narrowed[varying]
        )
    return {
        "wine_type": wine_type,
        "share": len(wines) / total,
        "quantiles": np.quantile(wines[COLUMNS], GRID, axis=0).T.round(6).tolist(),
        "factor": _factor(correlation).round(8).tolist(),
    }


def _factor(correlation: np.ndarray) -> np.ndarray:
    """Return the Cholesky factor of a correlation matrix, after raising eigenvalues below 1e-4."""
    correlation = np.clip(correlation, -0.995, 0.995)
    np.fill_diagonal(correlation, 1)
    values, vectors = np.linalg.eigh(correlation)
    positive = (vectors * np.maximum(values, 1e-4)) @ vectors.T
    scale = np.sqrt(np.diag(positive))
    return np.linalg.cholesky(positive / np.outer(scale, scale))


def _draw(part: dict[str, Any], n: int, random: np.random.Generator) -> pd.DataFrame:
    normals = random.standard_normal((n, len(COLUMNS))) @ np.array(part["factor"]).T
    ranks = norm.cdf(normals)
    columns = {c: np.interp(ranks[:, i], GRID, part["quantiles"][i]) for i, c in enumerate(COLUMNS)}
    return pd.DataFrame(columns).assign(wine_type=part["wine_type"])
