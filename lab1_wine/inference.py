"""Predictions of a registered model with their intervals, and how they turned out."""

from __future__ import annotations

import json
import math
import uuid
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from sklearn.pipeline import Pipeline

from lab1_wine.model import TRUSTED, interval, tree_spread
from lab1_wine.schema import MEASUREMENTS, MODEL, NUMERIC, PREDICTIONS, TYPES, WINES
from labstore import Damaged, ModelVersion, Store
from labstore.skops_io import load_pipeline


@dataclass(frozen=True)
class WinePredictor:
    """A loaded pipeline, its intervals and the record it was registered with."""

    pipeline: Pipeline
    intervals: dict[str, Any]
    record: ModelVersion

    def quality(self, wines: pd.DataFrame) -> pd.DataFrame:
        """Return predicted, low, high (90 % interval) and rounded (half to even), a row per wine."""
        inputs = wines[self.record.metadata["features"]]
        predicted = self.pipeline.predict(inputs)
        low, high = interval(self.intervals, predicted, tree_spread(self.pipeline, inputs))
        found = {"predicted": predicted, "low": low, "high": high}
        return pd.DataFrame(
            found | {"rounded": np.rint(predicted).astype("int64")}, index=wines.index
        )

    def intervals_around(self, rows: pd.DataFrame) -> pd.DataFrame:
        """Return low and high around earlier predictions, from their columns predicted and spread."""
        low, high = interval(
            self.intervals, rows["predicted"].to_numpy(), rows["spread"].to_numpy()
        )
        return pd.DataFrame({"low": low, "high": high}, index=rows.index)

    def contributions(self, wine: pd.DataFrame) -> pd.Series:
        """Return how far each measurement moves one wine's prediction, in points, the furthest first.

        That is the prediction minus what it would be with this one measurement at the median of the
        wine's type. Measurements interact, so the contributions need not add up.
        """
        typical = self.record.metadata["typical"][wine["wine_type"].iloc[0]]
        others = pd.concat([wine] * len(NUMERIC), ignore_index=True)
        for place, name in enumerate(NUMERIC):
            others.loc[place, name] = typical[name]
        inputs = pd.concat([wine, others], ignore_index=True)[self.record.metadata["features"]]
        found = self.pipeline.predict(inputs)
        moved = pd.Series(found[0] - found[1:], index=NUMERIC)
        return moved.sort_values(key=np.abs, ascending=False)


def load(store: Store, version: str = "best") -> WinePredictor:
    """Load the model of a version, after its files have been verified.

    Raises NotFound where there is none, Damaged where a file is missing or has changed.
    """
    record = store.load_model(MODEL, version)
    pipeline = load_pipeline(record.path, TRUSTED, record.metadata.get("libraries"))
    try:
        intervals = json.loads((record.path / "intervals.json").read_text())
    except (OSError, ValueError) as error:
        raise Damaged(
            f"{record.path} has no readable intervals.json ({error}). Train the model again with "
            "notebook 2_training_pipeline."
        ) from error
    return WinePredictor(pipeline, intervals, record)


def predict(predictor: WinePredictor, wines: pd.DataFrame) -> pd.DataFrame:
    """Return rows for PREDICTIONS.

    Ids are made from the wine and the model's version, so predicting again changes nothing.
    """
    rows = wines[["wine_id", "tasted_at"]].join(predictor.quality(wines))
    rows["model_version"] = predictor.record.version
    rows["prediction_id"] = [
        str(uuid.uuid5(uuid.NAMESPACE_URL, f"{wine}/{predictor.record.version}"))
        for wine in rows["wine_id"]
    ]
    return rows[PREDICTIONS.columns]


def history(store: Store) -> pd.DataFrame:
    """Return every prediction with its wine, joined by wine id, oldest first."""
    wines = store.read(WINES).drop(columns="tasted_at")
    return store.read(PREDICTIONS).merge(wines, on="wine_id", validate="many_to_one")


def problems(values: dict[str, Any]) -> list[str]:
    """Return a sentence for each thing that is wrong with a visitor's wine."""
    sentences = []
    for m in MEASUREMENTS:
        value = values.get(m.name)
        low, high = m.allowed
        if isinstance(value, bool) or not isinstance(value, (int, float)) or math.isnan(value):
            sentences.append(
                f"{m.title} is missing: give a number{' of ' + m.unit if m.unit else ''}."
            )
        elif not low <= value <= high:
            allowed = f"{low:g} to {high:g} {m.unit}".strip()
            sentences.append(f"{m.title} cannot be {value:g}: give a value from {allowed}.")
    if values.get("wine_type") not in TYPES:
        sentences.append(f"Choose the type of wine: {' or '.join(TYPES)}.")
    if not sentences and values["total_sulfur_dioxide"] < values["free_sulfur_dioxide"]:
        sentences.append(
            "Total sulfur dioxide includes the free part, so it cannot be less than that."
        )
    return sentences


def unusual(values: dict[str, Any]) -> list[str]:
    """Describe the measurements outside the measured wines' range, where predictions are guesses."""
    return [
        f"{m.title} {values[m.name]:g} (seen: {m.seen[0]:g} to {m.seen[1]:g})"
        for m in MEASUREMENTS
        if not m.seen[0] <= values[m.name] <= m.seen[1]
    ]
