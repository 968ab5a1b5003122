"""The names, units and ranges of the Wine lab, which every other file imports from here."""

from __future__ import annotations

from dataclasses import dataclass

import pandera.pandas as pa

from labstore import UTC_TIME, FeatureGroup, Model
from labstore.ledger import ledger_group

TYPES = ["red", "white"]
QUALITIES = list(range(3, 10))  # what tasters gave; the scale itself runs from 0 to 10


@dataclass(frozen=True)
class Measurement:
    """A laboratory value of a wine.

    `allowed` is the range a row may hold. `seen` is the range of the 6,497 measured wines, which
    pages show. A synthetic wine may lie outside the second, never outside the first. `decimals` is
    how many decimals the laboratory reported.
    """

    name: str
    title: str
    unit: str
    allowed: tuple[float, float]
    seen: tuple[float, float]
    decimals: int

    @property
    def column(self) -> pa.Column:
        facts = {"unit": self.unit, "seen": self.seen}
        return pa.Column(float, pa.Check.in_range(*self.allowed), title=self.title, metadata=facts)

    @property
    def label(self) -> str:
        return f"{self.title} ({self.unit})" if self.unit else self.title


MEASUREMENTS = [
    Measurement("fixed_acidity", "Fixed acidity", "g/L tartaric acid", (0.5, 30.0), (3.8, 15.9), 1),
    Measurement(
        "volatile_acidity", "Volatile acidity", "g/L acetic acid", (0.01, 5.0), (0.08, 1.58), 3
    ),
    Measurement("citric_acid", "Citric acid", "g/L", (0.0, 5.0), (0.0, 1.66), 2),
    Measurement("residual_sugar", "Residual sugar", "g/L", (0.1, 300.0), (0.6, 65.8), 2),
    Measurement("chlorides", "Chlorides", "g/L sodium chloride", (0.001, 3.0), (0.009, 0.611), 3),
    Measurement(
        "free_sulfur_dioxide", "Free sulfur dioxide", "mg/L", (0.5, 500.0), (1.0, 289.0), 1
    ),
    Measurement(
        "total_sulfur_dioxide", "Total sulfur dioxide", "mg/L", (1.0, 900.0), (6.0, 440.0), 1
    ),
    Measurement("density", "Density", "g/cm³", (0.97, 1.15), (0.98711, 1.03898), 5),
    Measurement("ph", "pH", "", (2.0, 5.0), (2.72, 4.01), 2),
    Measurement("sulphates", "Sulphates", "g/L potassium sulphate", (0.05, 5.0), (0.22, 2.0), 2),
    Measurement("alcohol", "Alcohol", "% vol", (4.0, 22.0), (8.0, 14.9), 2),
]
NUMERIC = [m.name for m in MEASUREMENTS]
FEATURES = [*NUMERIC, "wine_type"]
DISTINCT = [*FEATURES, "quality"]  # rows equal in all of these are duplicates

REAL, SAMPLE, SYNTHETIC = "uci", "offline sample", "synthetic"

WINES = FeatureGroup(
    name="wines",
    version=1,
    primary_key="wine_id",
    event_time="tasted_at",
    schema=pa.DataFrameSchema(
        {
            "wine_id": pa.Column(str),
            "tasted_at": pa.Column(UTC_TIME),
            "source": pa.Column(str, pa.Check.isin([REAL, SAMPLE, SYNTHETIC])),
            "wine_type": pa.Column(str, pa.Check.isin(TYPES)),
            **{m.name: m.column for m in MEASUREMENTS},
            "quality": pa.Column("int64", pa.Check.in_range(0, 10)),
        },
        strict=True,
    ),
)

PREDICTIONS = FeatureGroup(
    name="wine_predictions",
    version=1,
    primary_key="prediction_id",
    event_time="tasted_at",
    schema=pa.DataFrameSchema(
        {
            "prediction_id": pa.Column(str),
            "wine_id": pa.Column(str),
            "tasted_at": pa.Column(UTC_TIME),
            "model_version": pa.Column(str),
            "predicted": pa.Column(float, pa.Check.in_range(-5.0, 15.0)),
            "low": pa.Column(float, pa.Check.in_range(-10.0, 20.0)),
            "high": pa.Column(float, pa.Check.in_range(-10.0, 20.0)),
            "rounded": pa.Column("int64", pa.Check.in_range(-5, 15)),
        },
        strict=True,
    ),
)

LEDGER = ledger_group("wine_ledger")
MODEL = Model(name="wine_quality", metric="mse", direction="min")
GENERATOR = Model(name="wine_generator", metric="synthetic_mse", direction="min")
SNAPSHOT = "wine_monitor"
