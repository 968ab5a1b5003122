"""Predictions of a registered classifier, for one flower or many, and how they turned out."""

from __future__ import annotations

import math
import uuid
from dataclasses import dataclass

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from lab1_iris.model import TRUSTED
from lab1_iris.schema import FLOWERS, MEASUREMENTS, MODEL, PREDICTIONS, SPECIES
from labstore import ModelVersion, Store
from labstore.skops_io import load_pipeline


@dataclass(frozen=True)
class Classifier:
    """A loaded pipeline and the record it was registered with."""

    pipeline: Pipeline
    record: ModelVersion

    def probabilities(self, flowers: pd.DataFrame) -> pd.DataFrame:
        """Return one column of probabilities per species, in the order of SPECIES; rows sum to 1."""
        columns = self.record.metadata["features"]
        found = self.pipeline.predict_proba(flowers[columns])
        return pd.DataFrame(found, columns=self.pipeline.classes_, index=flowers.index)[SPECIES]


def load(store: Store, version: str = "best") -> Classifier:
    """Load the classifier of a version, after its files have been verified.

    Raises NotFound where there is none, Damaged where a file has changed.
    """
    record = store.load_model(MODEL, version)
    pipeline = load_pipeline(record.path, TRUSTED, record.metadata.get("libraries"))
    return Classifier(pipeline, record)


def predict(classifier: Classifier, flowers: pd.DataFrame) -> pd.DataFrame:
    """Return rows for PREDICTIONS.

    Ids are made from the flower and the model's version, so predicting again changes nothing.
    """
    found = classifier.probabilities(flowers)
    rows = flowers[["flower_id", "measured_at"]].copy()
    rows["model_version"] = classifier.record.version
    rows["prediction_id"] = [
        str(uuid.uuid5(uuid.NAMESPACE_URL, f"{flower}/{classifier.record.version}"))
        for flower in rows["flower_id"]
    ]
    rows["predicted"] = np.array(SPECIES)[found.to_numpy().argmax(axis=1)]
    for species in SPECIES:
        rows[f"p_{species}"] = found[species].clip(0, 1)
    return rows[PREDICTIONS.columns]


def history(store: Store) -> pd.DataFrame:
    """Return every prediction with its flower, joined by flower id, oldest first."""
    flowers = store.read(FLOWERS).drop(columns="measured_at")
    return store.read(PREDICTIONS).merge(flowers, on="flower_id", validate="many_to_one")


def problems(values: dict[str, float | None]) -> list[str]:
    """Return a sentence for each thing that is wrong with a visitor's measurements in cm."""
    sentences = []
    for m in MEASUREMENTS:
        value = values.get(m.name)
        low, high = m.allowed
        if not isinstance(value, (int, float)) or math.isnan(value):
            sentences.append(f"{m.title} is missing: give a number of centimetres.")
        elif not low <= value <= high:
            sentences.append(
                f"{m.title} cannot be {value:g} cm: give a value from {low:g} to {high:g} cm."
            )
    return sentences


def unusual(values: dict[str, float]) -> list[str]:
    """Describe the measurements outside the range of the 150 flowers, where predictions are guesses."""
    return [
        f"{m.title} {values[m.name]:g} cm (seen: {m.seen[0]:g} to {m.seen[1]:g} cm)"
        for m in MEASUREMENTS
        if not m.seen[0] <= values[m.name] <= m.seen[1]
    ]
