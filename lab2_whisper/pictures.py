"""Pictures of a training: its curves, and runs side by side."""

from __future__ import annotations

import pandas as pd
from matplotlib.figure import Figure


def curves(history: pd.DataFrame) -> Figure:
    """Loss and both word error rates over the steps, from `Outcome.history`."""
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    loss, rates = figure.subplots(1, 2)
    for column, label in (("loss", "training"), ("eval_loss", "validation")):
        if column in history:
            rows = history.dropna(subset=[column])
            loss.plot(rows["step"], rows[column], marker=".", label=label)
    loss.set(xlabel="step", ylabel="loss")
    loss.legend()
    heard = history.dropna(subset=["eval_wer"])
    rates.plot(heard["step"], heard["eval_wer"], marker="o", label="normalised")
    rates.plot(heard["step"], heard["eval_wer_orthographic"], marker="o", label="as written")
    rates.set(xlabel="step", ylabel="WER on validation", ylim=(0, None))
    rates.legend()
    return figure


def experiments(table: pd.DataFrame) -> Figure:
    """WER of the runs of `compare`, the best on top, the baseline as a line."""
    figure = Figure(figsize=(8, 1 + 0.4 * len(table)), layout="constrained")
    axes = figure.subplots()
    rows = table.iloc[::-1]
    axes.barh(rows["run"], rows["wer"])
    axes.axvline(rows["baseline_wer"].max(), linestyle="--", color="grey", label="before")
    axes.set(xlabel="WER on validation, normalised")
    axes.legend()
    return figure
