"""From the flowers in the store to a registered classifier, chosen by cross-validation."""

from __future__ import annotations

import hashlib
import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
from scipy import stats
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis, QuadraticDiscriminantAnalysis
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import accuracy_score, log_loss
from sklearn.model_selection import RepeatedStratifiedKFold
from sklearn.neighbors import KNeighborsClassifier
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.svm import SVC
from tqdm.auto import tqdm

from lab1_iris.model import TRUSTED, PortableLogisticRegression
from lab1_iris.schema import FEATURES, FLOWERS, MEASUREMENTS, MODEL, REAL, SPECIES
from labstore import ModelVersion, NotFound, Store
from labstore.skops_io import save_verified

ORIGINAL = "k-nearest neighbours, k=2 (the original's)"


def candidates(seed: int = 0) -> dict[str, Pipeline]:
    """Return the classifiers to compare. Each takes the four raw measurements in centimetres."""
    neighbours = KNeighborsClassifier(n_neighbors=15)
    forest = RandomForestClassifier(100, min_samples_leaf=3, random_state=seed)
    support_vectors = CalibratedClassifierCV(SVC(), ensemble=False)
    return {
        ORIGINAL: make_pipeline(KNeighborsClassifier(n_neighbors=2)),
        "k-nearest neighbours, scaled, k=15": make_pipeline(StandardScaler(), neighbours),
        "logistic regression": make_pipeline(StandardScaler(), PortableLogisticRegression(C=10)),
        "linear discriminant analysis": make_pipeline(LinearDiscriminantAnalysis()),
        "quadratic discriminant analysis": make_pipeline(QuadraticDiscriminantAnalysis()),
        "support vectors, calibrated": make_pipeline(StandardScaler(), support_vectors),
        "random forest": make_pipeline(forest),
    }


@dataclass(frozen=True)
class Comparison:
    """The result of cross-validation: a table for people, and each fold's held-out probabilities."""

    table: pd.DataFrame  # a row per candidate, best first: accuracy and log loss with intervals
    held_out: dict[str, pd.DataFrame]  # candidate -> species, p_setosa, ...; repeats x flowers rows
    repeats: int
    folds: int
    seed: int

    @property
    def best(self) -> str:
        return self.table.index[0]


def load_training_rows(store: Store) -> pd.DataFrame:
    """Return the real flowers of the store. Synthetic ones never train the model that predicts them.

    Raises NotFound where there are none.
    """
    flowers = store.read(FLOWERS)
    real = flowers[flowers["source"] == REAL].reset_index(drop=True)
    if real.empty:
        raise NotFound(
            "There are no flowers to train on in this store. Run notebook 1_feature_pipeline "
            "first, or lab1_iris.features.run(store)."
        )
    return real


def compare(flowers: pd.DataFrame, repeats: int = 10, folds: int = 5, seed: int = 0) -> Comparison:
    """Score every candidate on the same repeated, stratified folds. The lowest log loss is best.

    Log loss measures whether probabilities are right and calibrated. Accuracy on 150 flowers hardly
    separates the candidates.
    """
    x, y = flowers[FEATURES], flowers["species"]
    splits = list(
        RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed).split(x, y)
    )
    rows, held_out = {}, {}
    for name, candidate in tqdm(candidates(seed).items(), desc="candidates", unit="model"):
        held_out[name] = _held_out(candidate, x, y, splits)
        rows[name] = _score(held_out[name], overlap=1 / (folds - 1))
    table = pd.DataFrame(rows).T.sort_values("log_loss")
    return Comparison(table, held_out, repeats, folds, seed)


def nested_cross_validation(
    flowers: pd.DataFrame, repeats: int = 10, folds: int = 5, seed: int = 0
) -> dict[str, float]:
    """Return accuracy and log loss, with intervals, where choosing a candidate is tested as well.

    The best of several candidates on the same folds looks a little better than it is. Here an inner
    cross-validation on each fold's training rows chooses the candidate.
    """
    x, y = flowers[FEATURES], flowers["species"]
    splits = RepeatedStratifiedKFold(n_splits=folds, n_repeats=repeats, random_state=seed)
    parts = []
    total = repeats * folds
    for fold, (train, test) in enumerate(tqdm(splits.split(x, y), "folds", total)):
        inner = compare(flowers.iloc[train], repeats=1, folds=folds, seed=fold)
        chosen = candidates(seed)[inner.best]
        parts.append(_held_out(chosen, x, y, [(train, test)]).assign(fold=fold))
    return _score(pd.concat(parts), overlap=1 / (folds - 1))


def confusion(held_out: pd.DataFrame) -> pd.DataFrame:
    """Count flowers by species (rows) and predicted species (columns), always all three."""
    predicted = held_out[[f"p_{s}" for s in SPECIES]].to_numpy().argmax(axis=1)
    counts = pd.crosstab(held_out["species"], np.array(SPECIES)[predicted])
    return counts.reindex(index=SPECIES, columns=SPECIES, fill_value=0)


def register(store: Store, flowers: pd.DataFrame, comparison: Comparison) -> ModelVersion:
    """Fit the best candidate on all real flowers and register it with its metrics and metadata."""
    name = comparison.best
    pipeline = clone(candidates(comparison.seed)[name]).fit(flowers[FEATURES], flowers["species"])
    metrics = {k: float(v) for k, v in comparison.table.loc[name].items()}
    metadata = {
        "algorithm": name,
        "features": FEATURES,
        "classes": SPECIES,
        "validation": f"{comparison.repeats} x {comparison.folds} folds, seed {comparison.seed}",
        "data": "real",
        "snapshot": _snapshot(flowers),
    }
    with tempfile.TemporaryDirectory() as folder:
        save_verified(pipeline, Path(folder), TRUSTED, flowers[FEATURES])
        schema = {
            m.name: {"unit": "cm", "allowed": m.allowed, "seen": m.seen} for m in MEASUREMENTS
        }
        (Path(folder) / "schema.json").write_text(json.dumps(schema, indent=1))
        (Path(folder) / "MODEL_CARD.md").write_text(_card(comparison, metadata))
        return store.save_model(MODEL, Path(folder), metrics, metadata)


def run(
    store: Store, repeats: int = 10, folds: int = 5, seed: int = 0
) -> tuple[ModelVersion, Comparison]:
    """Run the training pipeline: read the flowers, compare the candidates, register the best."""
    flowers = load_training_rows(store)
    comparison = compare(flowers, repeats, folds, seed)
    return register(store, flowers, comparison), comparison


def _held_out(candidate: Pipeline, x: pd.DataFrame, y: pd.Series, splits: list) -> pd.DataFrame:
    """Return each test fold's true species and predicted probabilities, with the fold's number."""
    parts = []
    for fold, (train, test) in enumerate(splits):
        model = clone(candidate).fit(x.iloc[train], y.iloc[train])
        part = pd.DataFrame(
            model.predict_proba(x.iloc[test]), columns=[f"p_{c}" for c in model.classes_]
        )
        parts.append(part.assign(species=y.iloc[test].to_numpy(), fold=fold))
    return pd.concat(parts, ignore_index=True)


def _score(held_out: pd.DataFrame, overlap: float) -> dict[str, float]:
    """Return mean accuracy and log loss over folds, each with its 95 % interval."""
    columns = [f"p_{s}" for s in SPECIES]
    accuracy, loss = [], []
    for _, fold in held_out.groupby("fold"):
        chosen = np.array(SPECIES)[fold[columns].to_numpy().argmax(axis=1)]
        accuracy.append(accuracy_score(fold["species"], chosen))
        loss.append(log_loss(fold["species"], fold[columns], labels=SPECIES))
    scores: dict[str, float] = {}
    for name, values in (("accuracy", accuracy), ("log_loss", loss)):
        low, high = interval(np.array(values), overlap)
        scores |= {name: float(np.mean(values)), f"{name}_low": low, f"{name}_high": high}
    scores["accuracy_high"] = min(scores["accuracy_high"], 1.0)
    return scores


def interval(values: np.ndarray, overlap: float, level: float = 0.95) -> tuple[float, float]:
    """Return a t interval for a mean over repeated folds, whose training sets overlap.

    `overlap` is test size / training size. The folds are not independent, so the variance of the
    mean is (1/n + overlap) s^2, not s^2/n. Source: Nadeau and Bengio (2003), "Inference for the
    Generalization Error".
    """
    spread = np.sqrt((1 / len(values) + overlap) * values.var(ddof=1))
    half = stats.t.ppf((1 + level) / 2, len(values) - 1) * spread
    return float(values.mean() - half), float(values.mean() + half)


def _snapshot(flowers: pd.DataFrame) -> dict[str, object]:
    """Describe the rows a model was trained on, so that a change in them can be found later."""
    content = flowers.to_csv(index=False).encode()
    return {
        "group": FLOWERS.label,
        "source": REAL,
        "rows": len(flowers),
        "sha256": hashlib.sha256(content).hexdigest(),
    }


def _card(comparison: Comparison, metadata: dict) -> str:
    """Return the model card in Markdown."""
    lines = [
        f"| {name} | {r.accuracy:.3f} ({r.accuracy_low:.3f} to {r.accuracy_high:.3f}) "
        f"| {r.log_loss:.3f} ({r.log_loss_low:.3f} to {r.log_loss_high:.3f}) |"
        for name, r in comparison.table.iterrows()
    ]
    return f"""# Which iris? {metadata["algorithm"]}

Predicts the species of an iris (setosa, versicolor, virginica), with a probability for each, from
the length and width of its sepals and petals in centimetres.

- **Data:** {metadata["snapshot"]["rows"]} flowers of E. Anderson and R. A. Fisher (1936).
- **Chosen by:** lowest log loss in repeated stratified cross-validation, {metadata["validation"]}.
- **Limits:** three species of one genus, measured in one place in the 1930s. Any flower gets one
  of the three names. The best of several candidates on the same folds looks slightly better than
  it is; `benchmarks/iris.py` measures by how much.

| candidate | accuracy (95 % interval) | log loss (95 % interval) |
|---|---|---|
{chr(10).join(lines)}
"""
