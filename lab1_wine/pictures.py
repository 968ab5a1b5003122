"""The lab's figures of models, generators and predictions. Each takes frames of the other files."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lab1_wine.schema import MEASUREMENTS, NUMERIC

TITLES = {m.name: m.title for m in MEASUREMENTS}


def models(table: pd.DataFrame) -> Figure:
    """Draw every model's MSE and its difference to the original's, with 95 % intervals."""
    table = table[::-1]
    places = range(len(table))
    figure = Figure(figsize=(11, 4), layout="constrained")
    left, right = figure.subplots(1, 2, sharey=True)
    half = (table["mse_high"] - table["mse_low"]).fillna(0) / 2
    left.barh(places, table["mse"], xerr=half, color="#8c6bb1", ecolor="#54278f")
    left.set_yticks(places, table.index)
    left.set_xlabel("mean squared error, 95 % interval")
    half = (table["high"] - table["low"]).fillna(0) / 2
    right.errorbar(table["difference"], places, xerr=half, fmt="o", capsize=3, color="#8c6bb1")
    right.axvline(0, color="grey", linewidth=0.8)
    right.set_xlabel("difference to the original's, 95 % interval")
    return figure


def importance(table: pd.DataFrame) -> Figure:
    """Draw cross-validated permutation importance, with one standard deviation over folds."""
    table = table[::-1]
    figure = Figure(figsize=(7, 3.8), layout="constrained")
    axis = figure.subplots()
    axis.barh(
        [TITLES.get(n, n) for n in table.index],
        table["mse_increase"],
        xerr=table["sd"],
        color="#8c6bb1",
    )
    axis.set_xlabel("growth of mean squared error when the column is shuffled")
    return figure


def confusion(counts: pd.DataFrame, title: str = "") -> Figure:
    """Draw counts by quality (rows) and rounded prediction (columns)."""
    figure = Figure(figsize=(4.8, 4.4), layout="constrained")
    axis = figure.subplots()
    axis.imshow(np.sqrt(counts), cmap="Purples")  # by square root, so that rare qualities show
    axis.set_xticks(range(len(counts.columns)), counts.columns)
    axis.set_yticks(range(len(counts)), counts.index)
    largest = max(counts.to_numpy().max(), 1)
    for i, row in enumerate(counts.to_numpy()):
        for j, n in enumerate(row):
            colour = "white" if np.sqrt(n) > np.sqrt(largest) / 2 else "black"
            axis.text(j, i, n, ha="center", va="center", color=colour, fontsize=8)
    axis.set_xlabel("predicted, rounded")
    axis.set_ylabel("quality")
    axis.set_title(title or f"n = {counts.to_numpy().sum()}")
    return figure


def intervals(rows: pd.DataFrame, max_wines: int = 60, seed: int = 0) -> Figure:
    """Draw some wines' 90 % intervals by prediction. Crosses are qualities outside theirs."""
    some = rows.sample(min(max_wines, len(rows)), random_state=seed).sort_values("predicted")
    places = np.arange(len(some))
    figure = Figure(figsize=(9, 3.6), layout="constrained")
    axis = figure.subplots()
    axis.vlines(places, some["low"], some["high"], color="#8c6bb1", alpha=0.5)
    axis.scatter(places, some["predicted"], s=8, color="#54278f", label="predicted")
    inside = some["quality"].between(some["low"], some["high"])
    axis.scatter(
        places[inside], some["quality"][inside], s=14, c="#2e8b57", label="quality, inside"
    )
    axis.scatter(
        places[~inside], some["quality"][~inside], s=28, c="#c0392b", marker="x", label="outside"
    )
    axis.set_ylabel("quality")
    axis.set_xticks([])
    axis.legend(fontsize="small", ncols=3)
    return figure


def generators(measured: pd.DataFrame, drawn: pd.DataFrame) -> Figure:
    """Draw the distribution of every column in measured and in drawn wines."""
    columns = [*NUMERIC, "quality"]
    figure = Figure(figsize=(14, 7), layout="constrained")
    for axis, name in zip(figure.subplots(3, 4).ravel(), columns, strict=True):
        low, high = measured[name].quantile([0.001, 0.999])
        bins = np.arange(2.5, 10) if name == "quality" else np.linspace(low, high, 40)
        axis.hist(measured[name], bins, density=True, alpha=0.5, color="#54278f", label="measured")
        axis.hist(drawn[name], bins, density=True, histtype="step", color="#d98e04", label="drawn")
        axis.set_title(TITLES.get(name, name), fontsize=10)
        axis.set_yticks([])
    figure.axes[0].legend()
    return figure


def contributions(moved: pd.Series, max_bars: int = 6) -> Figure:
    """Draw which measurements moved a prediction, in quality points."""
    shown = moved.head(max_bars)[::-1]
    figure = Figure(figsize=(5.4, 2.6), layout="constrained")
    axis = figure.subplots()
    colours = ["#2e8b57" if value > 0 else "#c0392b" for value in shown]
    axis.barh([TITLES[name] for name in shown.index], shown, color=colours)
    axis.axvline(0, color="black", linewidth=0.8)
    axis.set_xlabel("points, against a typical wine of its type")
    return figure


def error_over_time(rows: pd.DataFrame) -> Figure:
    """Draw each day's squared error, the mean of all days so far and that of the last 30."""
    errors = ((rows["predicted"] - rows["quality"]) ** 2).set_axis(pd.to_datetime(rows["date"]))
    figure = Figure(figsize=(7, 2.8), layout="constrained")
    axis = figure.subplots()
    axis.scatter(errors.index, errors, s=6, c="grey", label="each day")
    axis.plot(errors.index, errors.expanding().mean(), label="mean of all days so far")
    axis.plot(errors.index, errors.rolling(30, min_periods=5).mean(), label="of the last 30")
    axis.set_ylim(0, max(1.0, float(errors.quantile(0.98))))
    axis.set_ylabel("squared error")
    axis.legend(fontsize="small")
    figure.autofmt_xdate()
    return figure


def drift(rows: pd.DataFrame, training: dict[str, list[float]], days: int = 30) -> Figure:
    """Draw how far the last days' mean lies from the training rows', in standard deviations.

    `training` holds each column's mean and standard deviation. The bars are 95 % intervals of the
    mean. A bar that does not reach zero means drift, though of eleven bars one will now and then
    miss zero by chance.
    """
    recent = rows.tail(days)
    mean, sd = (pd.Series({name: training[name][i] for name in NUMERIC}) for i in (0, 1))
    shift = (recent[NUMERIC].mean() - mean) / sd
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axis = figure.subplots()
    half = 1.96 / np.sqrt(len(recent))
    clear = shift.abs() > half
    for colour, chosen in (("#54278f", ~clear), ("#c0392b", clear)):
        places = np.flatnonzero(chosen)
        axis.errorbar(shift[chosen], places, xerr=half, fmt="o", capsize=3, color=colour)
    axis.set_yticks(range(len(NUMERIC)), [TITLES[n] for n in NUMERIC])
    axis.axvline(0, color="grey", linewidth=0.8)
    axis.set_xlabel(f"last {len(recent)} wines against the training rows, standard deviations")
    return figure
