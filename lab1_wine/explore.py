"""Pictures of the wine table, before any model is trained on it."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lab1_wine.schema import DISTINCT, MEASUREMENTS, NUMERIC, QUALITIES, TYPES

COLOURS = {"red": "#9b2335", "white": "#d9b44a"}
TITLES = {m.name: m.label for m in MEASUREMENTS}


def quality_histogram(wines: pd.DataFrame) -> Figure:
    """Draw how many wines were given each quality, by type."""
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axis = figure.subplots()
    counts = pd.crosstab(wines["quality"], wines["wine_type"]).reindex(QUALITIES, fill_value=0)
    bottom = np.zeros(len(QUALITIES))
    for wine_type in counts:
        axis.bar(
            QUALITIES, counts[wine_type], bottom=bottom, color=COLOURS[wine_type], label=wine_type
        )
        bottom += counts[wine_type].to_numpy()
    for quality, n in zip(QUALITIES, bottom, strict=True):
        axis.annotate(f"{n:.0f}", (quality, n), ha="center", va="bottom")
    axis.set_xlabel("quality")
    axis.set_ylabel("wines")
    axis.legend()
    return figure


def correlations(wines: pd.DataFrame) -> Figure:
    """Draw the correlation matrix of the measurements and quality."""
    columns = [*NUMERIC, "quality"]
    matrix = wines[columns].corr()
    figure = Figure(figsize=(7.6, 6.6), layout="constrained")
    axis = figure.subplots()
    image = axis.imshow(matrix, cmap="RdBu_r", vmin=-1, vmax=1)
    axis.set_xticks(range(len(columns)), columns, rotation=60, ha="right")
    axis.set_yticks(range(len(columns)), columns)
    for i, row in enumerate(matrix.to_numpy()):
        for j, value in enumerate(row):
            colour = "white" if abs(value) > 0.6 else "black"
            axis.text(j, i, f"{value:.1f}", ha="center", va="center", fontsize=7, color=colour)
    figure.colorbar(image, shrink=0.7, label="correlation")
    return figure


def quality_against_features(wines: pd.DataFrame) -> Figure:
    """Draw the median and middle half of each measurement at each quality, by type."""
    figure = Figure(figsize=(14, 8), layout="constrained")
    axes = figure.subplots(3, 4).ravel()
    for axis, name in zip(axes, NUMERIC, strict=False):
        for wine_type, rows in wines.groupby("wine_type"):
            quarters = rows.groupby("quality")[name].quantile([0.25, 0.5, 0.75]).unstack()
            axis.fill_between(
                quarters.index, quarters[0.25], quarters[0.75], color=COLOURS[wine_type], alpha=0.2
            )
            axis.plot(
                quarters.index, quarters[0.5], marker="o", color=COLOURS[wine_type], label=wine_type
            )
        axis.set_title(TITLES[name], fontsize=10)
    axes[0].legend()
    axes[-1].axis("off")
    figure.supxlabel("quality")
    return figure


def duplicates(wines: pd.DataFrame) -> pd.DataFrame:
    """Count rows, distinct rows, and how often the most repeated wine occurs, by type."""
    rows = {}
    for wine_type in TYPES:
        of_type = wines[wines["wine_type"] == wine_type]
        times = of_type.groupby(DISTINCT).size()
        rows[wine_type] = {
            "rows": len(of_type),
            "distinct": len(times),
            "repeated": len(of_type) - len(times),
            "most copies of one wine": int(times.max()) if len(times) else 0,
        }
    table = pd.DataFrame(rows).T
    table.loc["both"] = [*table.iloc[:, :3].sum(), table.iloc[:, 3].max()]
    return table


def red_against_white(wines: pd.DataFrame) -> Figure:
    """Draw how red and white wines differ: the difference of their means, in standard deviations."""
    means = wines.groupby("wine_type")[NUMERIC].mean()
    gap = ((means.loc["red"] - means.loc["white"]) / wines[NUMERIC].std()).sort_values()
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.barh(
        [TITLES[n] for n in gap.index],
        gap,
        color=[COLOURS["red" if g > 0 else "white"] for g in gap],
    )
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("red minus white, standard deviations")
    return figure
