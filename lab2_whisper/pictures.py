"""Every figure of the lab: corpora and clips, training curves, runs side by side, subtitles."""

from __future__ import annotations

import librosa.display
import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure

from lab2_whisper.audio import log_mel
from lab2_whisper.inference.subtitles import Cue
from lab2_whisper.schema import HOP_SAMPLES, N_FFT, SAMPLE_RATE


def clip_lengths(seconds: np.ndarray) -> Figure:
    """Plot how many clips are how long. `seconds` has shape (clips,)."""
    figure = Figure(figsize=(7, 3), layout="constrained")
    axes = figure.subplots()
    axes.hist(seconds, bins=40)
    axes.set(xlabel="seconds", ylabel="clips", title="Clip lengths")
    return figure


def waveform_and_log_mel(samples: np.ndarray, title: str = "") -> Figure:
    """Plot a clip's waveform above its log-mel. `samples`: 16 kHz mono float32, shape (samples,)."""
    figure = Figure(figsize=(10, 5), layout="constrained")
    wave, mel = figure.subplots(2, 1, sharex=True)
    librosa.display.waveshow(samples, sr=SAMPLE_RATE, ax=wave)
    wave.set(title=title, xlabel="", ylabel="amplitude")
    whole_hops = torch.from_numpy(samples[: len(samples) // HOP_SAMPLES * HOP_SAMPLES].copy())
    librosa.display.specshow(
        log_mel(whole_hops[None])[0].numpy(),
        sr=SAMPLE_RATE,
        hop_length=HOP_SAMPLES,
        n_fft=N_FFT,
        x_axis="time",
        y_axis="mel",
        fmax=SAMPLE_RATE / 2,
        ax=mel,
    )
    mel.set(xlabel="seconds", ylabel="hertz (mel scale)")
    return figure


def curves(history: pd.DataFrame) -> Figure:
    """Plot loss and both word error rates over the steps, from `Outcome.history`."""
    figure = Figure(figsize=(10, 3.5), layout="constrained")
    loss, rates = figure.subplots(1, 2)
    for column, label in (("loss", "training"), ("eval_loss", "validation")):
        if column in history:
            rows = history.dropna(subset=[column])
            loss.plot(rows["step"], rows[column], marker=".", label=label)
    loss.set(xlabel="step", ylabel="loss")
    loss.legend()
    evaluated = history.dropna(subset=["eval_wer"])
    rates.plot(evaluated["step"], evaluated["eval_wer"], marker="o", label="normalised")
    rates.plot(
        evaluated["step"], evaluated["eval_wer_orthographic"], marker="o", label="as written"
    )
    rates.set(xlabel="step", ylabel="WER on validation", ylim=(0, None))
    rates.legend()
    return figure


def experiments(table: pd.DataFrame) -> Figure:
    """Plot the WER of the runs of `compare_runs`, the best on top, the baseline as a line."""
    figure = Figure(figsize=(8, 1 + 0.4 * len(table)), layout="constrained")
    axes = figure.subplots()
    rows = table.iloc[::-1]
    axes.barh(rows["run"], rows["wer"])
    axes.axvline(rows["baseline_wer"].max(), linestyle="--", color="grey", label="before")
    axes.set(xlabel="WER on validation, normalised")
    axes.legend()
    return figure


def waveform(samples: np.ndarray, cues: list[Cue]) -> Figure:
    """Plot a recording and, above it, when each of its cues is shown.

    `samples`: 16 kHz mono float32, shape (samples,).
    """
    figure = Figure(figsize=(10, 2.8), layout="constrained")
    axes = figure.subplots()
    step = max(1, len(samples) // 20_000)  # more points than a screen can show
    axes.plot(np.arange(len(samples))[::step] / SAMPLE_RATE, samples[::step], linewidth=0.5)
    top = 1.1 * max(float(np.abs(samples).max(initial=0)), 1e-3)
    for cue in cues:
        axes.axvspan(cue.start, cue.end, color="tab:orange", alpha=0.2)
        axes.text(cue.start, top, cue.text, fontsize=8, verticalalignment="bottom")
    axes.set(xlabel="seconds", ylim=(-top, 1.6 * top), yticks=[])
    return figure
