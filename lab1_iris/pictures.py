"""The lab's figures. Each takes frames that the other files return, and none shows or saves itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure

from lab1_iris.schema import FEATURES, MEASUREMENTS, SPECIES

if TYPE_CHECKING:  # the monitor's Space has no scikit-learn
    from lab1_iris.inference import Classifier
    from lab1_iris.training import Comparison

COLOURS = dict(zip(SPECIES, ["#3b6fb6", "#e08a1e", "#8e44ad"], strict=True))
TITLES = {m.name: f"{m.title} (cm)" for m in MEASUREMENTS}


def distributions(flowers: pd.DataFrame) -> Figure:
    """Draw a histogram of each measurement, by species."""
    figure = Figure(figsize=(14, 3.2), layout="constrained")
    axes = figure.subplots(1, 4)
    for axis, name in zip(axes, FEATURES, strict=True):
        bins = np.linspace(flowers[name].min(), flowers[name].max(), 22)
        for species, rows in flowers.groupby("species"):
            axis.hist(rows[name], bins, alpha=0.65, color=COLOURS[species], label=species)
        axis.set_xlabel(TITLES[name])
    axes[0].set_ylabel("flowers")
    axes[0].legend()
    return figure


def pair_plot(flowers: pd.DataFrame) -> Figure:
    """Draw every measurement against every other."""
    figure = Figure(figsize=(11, 11), layout="constrained")
    axes = figure.subplots(4, 4, sharex="col")
    for i, vertical in enumerate(FEATURES):
        for j, horizontal in enumerate(FEATURES):
            for species, rows in flowers.groupby("species"):
                if i == j:
                    axes[i, j].hist(rows[vertical], 12, alpha=0.65, color=COLOURS[species])
                else:
                    axes[i, j].scatter(
                        rows[horizontal], rows[vertical], s=10, c=COLOURS[species], label=species
                    )
        axes[i, 0].set_ylabel(TITLES[vertical])
        axes[3, i].set_xlabel(TITLES[vertical])
    axes[0, 1].legend()
    return figure


def candidates(comparison: Comparison) -> Figure:
    """Draw the accuracy and log loss of every candidate with their intervals."""
    table = comparison.table[::-1]
    figure = Figure(figsize=(11, 3.6), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for axis, score in zip(axes, ("accuracy", "log_loss"), strict=True):
        errors = [table[score] - table[f"{score}_low"], table[f"{score}_high"] - table[score]]
        axis.errorbar(table[score], range(len(table)), xerr=errors, fmt="o", capsize=3)
        axis.set_xlabel(f"{score.replace('_', ' ')}, 95 % interval")
        axis.grid(axis="x", alpha=0.3)
    axes[0].set_yticks(range(len(table)), table.index)
    return figure


def confusion(counts: pd.DataFrame, title: str = "") -> Figure:
    """Draw counts by true species (rows) and predicted species (columns)."""
    figure = Figure(figsize=(4.4, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.imshow(counts, cmap="Purples")
    axis.set_xticks(range(len(counts)), counts.columns)
    axis.set_yticks(range(len(counts)), counts.index)
    largest = counts.to_numpy().max()
    for i, row in enumerate(counts.to_numpy()):
        for j, n in enumerate(row):
            colour = "white" if n > largest / 2 else "black"
            axis.text(j, i, n, ha="center", va="center", color=colour)
    axis.set_xlabel("predicted")
    axis.set_ylabel("actual")
    axis.set_title(title or f"n = {counts.to_numpy().sum()}")
    return figure


def calibration(comparison: Comparison, names: list[str]) -> Figure:
    """Draw how often predictions of each probability come true, for some of the candidates."""
    figure = Figure(figsize=(4.8, 4.2), layout="constrained")
    axis = figure.subplots()
    axis.plot([0, 1], [0, 1], color="grey", linewidth=1)
    edges = np.array([0, 0.05, 0.2, 0.4, 0.6, 0.8, 0.95, 1.0])
    for name in names:
        held_out = comparison.held_out[name]
        predicted = held_out[[f"p_{s}" for s in SPECIES]].to_numpy().ravel()
        came_true = (held_out["species"].to_numpy()[:, None] == np.array(SPECIES)).ravel()
        place = np.digitize(predicted, edges[1:-1])
        means = pd.DataFrame({"predicted": predicted, "true": came_true}).groupby(place).mean()
        axis.plot(means["predicted"], means["true"], marker="o", label=name)
    axis.set_xlabel("predicted probability")
    axis.set_ylabel("share that came true")
    axis.legend(fontsize="small")
    return figure


def decision_regions(classifier: Classifier, flowers: pd.DataFrame) -> Figure:
    """Draw the predicted species over petal length and width, with sepals at their means."""
    length, width = np.meshgrid(np.linspace(0.5, 7.5, 200), np.linspace(0.05, 2.8, 200))
    grid = pd.DataFrame({name: flowers[name].mean() for name in FEATURES}, index=range(length.size))
    grid["petal_length"], grid["petal_width"] = length.ravel(), width.ravel()
    chosen = classifier.probabilities(grid).to_numpy().argmax(axis=1).reshape(length.shape)
    figure = Figure(figsize=(6, 4.2), layout="constrained")
    axis = figure.subplots()
    colours = ListedColormap([COLOURS[s] for s in SPECIES])
    axis.contourf(length, width, chosen, levels=[-0.5, 0.5, 1.5, 2.5], cmap=colours, alpha=0.25)
    for species, rows in flowers.groupby("species"):
        axis.scatter(
            rows["petal_length"], rows["petal_width"], s=14, c=COLOURS[species], label=species
        )
    axis.set_xlabel(TITLES["petal_length"])
    axis.set_ylabel(TITLES["petal_width"])
    axis.legend(loc="upper left")
    return figure


def accuracy_over_time(right: pd.Series) -> Figure:
    """Draw the accuracy of all days so far and of the last 30. `right` holds a bool per date."""
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axis = figure.subplots()
    dates = pd.to_datetime(right.index)
    axis.plot(dates, right.expanding().mean(), label="all days so far")
    axis.plot(dates, right.rolling(30, min_periods=5).mean(), label="last 30 days", alpha=0.7)
    axis.scatter(dates, right.astype(float), s=6, c="grey", label="each day: right 1, wrong 0")
    axis.set_ylim(-0.05, 1.05)
    axis.set_ylabel("accuracy")
    axis.legend(fontsize="small", loc="lower right")
    figure.autofmt_xdate()
    return figure
