"""The names, units and ranges of the Iris lab, which every other file imports from here."""

from __future__ import annotations

from dataclasses import dataclass

import pandera.pandas as pa

from labstore import UTC_TIME, FeatureGroup, Model
from labstore.ledger import ledger_group

SPECIES = ["setosa", "versicolor", "virginica"]


@dataclass(frozen=True)
class Measurement:
    """A length of the flower in centimetres, with two ranges.

    `allowed` is the range a row may hold. `seen` is the range of the 150 measured flowers, which
    pages show. A synthetic flower may lie outside the second, never outside the first.
    """

    name: str
    title: str
    allowed: tuple[float, float]
    seen: tuple[float, float]

    @property
    def column(self) -> pa.Column:
        facts = {"unit": "cm", "seen": self.seen}
        return pa.Column(float, pa.Check.in_range(*self.allowed), title=self.title, metadata=facts)


MEASUREMENTS = [
    Measurement("sepal_length", "Sepal length", (0.1, 15.0), (4.3, 7.9)),
    Measurement("sepal_width", "Sepal width", (0.1, 10.0), (2.0, 4.4)),
    Measurement("petal_length", "Petal length", (0.1, 15.0), (1.0, 6.9)),
    Measurement("petal_width", "Petal width", (0.1, 10.0), (0.1, 2.5)),
]
FEATURES = [m.name for m in MEASUREMENTS]

REAL, SYNTHETIC = "scikit-learn", "synthetic"

FLOWERS = FeatureGroup(
    name="iris_flowers",
    version=1,
    primary_key="flower_id",
    event_time="measured_at",
    schema=pa.DataFrameSchema(
        {
            "flower_id": pa.Column(str),
            "measured_at": pa.Column(UTC_TIME),
            "source": pa.Column(str, pa.Check.isin([REAL, SYNTHETIC])),
            **{m.name: m.column for m in MEASUREMENTS},
            "species": pa.Column(str, pa.Check.isin(SPECIES)),
        },
        strict=True,
    ),
)

PREDICTIONS = FeatureGroup(
    name="iris_predictions",
    version=1,
    primary_key="prediction_id",
    event_time="measured_at",
    schema=pa.DataFrameSchema(
        {
            "prediction_id": pa.Column(str),
            "flower_id": pa.Column(str),
            "measured_at": pa.Column(UTC_TIME),
            "model_version": pa.Column(str),
            "predicted": pa.Column(str, pa.Check.isin(SPECIES)),
            **{f"p_{s}": pa.Column(float, pa.Check.in_range(0.0, 1.0)) for s in SPECIES},
        },
        strict=True,
    ),
)

LEDGER = ledger_group("iris_ledger")
MODEL = Model(name="iris_species", metric="log_loss", direction="min")
SNAPSHOT = "iris_monitor"
