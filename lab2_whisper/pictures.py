"""Pictures of a training, its curves and runs side by side; and of a sound with its subtitles."""

from __future__ import annotations

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from lab2_whisper.inference.subtitles import Cue
from lab2_whisper.schema import SAMPLE_RATE


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


def waveform(samples: np.ndarray, cues: list[Cue]) -> Figure:
    """A sound, 16 kHz mono, shape (samples,), and above it when each of its cues is shown."""
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    axes = figure.subplots()
    step = max(1, len(samples) // 20_000)  # more could not be seen
    axes.plot(np.arange(len(samples))[::step] / SAMPLE_RATE, samples[::step], linewidth=0.5)
    top = 1.1 * max(float(np.abs(samples).max(initial=0)), 1e-3)
    for cue in cues:
        axes.axvspan(cue.start, cue.end, color="tab:orange", alpha=0.2)
        axes.text(cue.start, top, cue.text, fontsize=8, verticalalignment="bottom")
    axes.set(xlabel="seconds", ylim=(-top, 1.6 * top), yticks=[])
    return figure
