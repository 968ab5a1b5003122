"""A training run: what it is given, and what it returns."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pandas as pd

from lab2_whisper.schema import LANGUAGE, NANO_MODEL, LabError
from lab2_whisper.training.dataset import Augment
from lab2_whisper.training.presets import Preset, choose, devices
from labstore.contract import check_name

# Fields of Run whose names changed, and the names that stored checkpoints and models keep.
STORED_NAMES = {"short_audio_context": "short_context", "batch_size": "batch"}


@dataclass(frozen=True)
class Run:
    """Everything that determines a training.

    On a CPU, the same Run on the same store gives the same weights to the last bit, as long as
    the number of threads is the same: another number adds floats up in another order.

    `corpora` are (name, weight); the first one's validation and test splits are evaluated.
    `full_windows` is the share of steps in 30 s windows, the last ones before each evaluation.
    Without any, Whisper forgets such windows, and it does best what it learned last. A training of
    a few hundred steps needs a larger share, such as 0.2 (benchmarks/training.py).
    """

    name: str
    model: str = str(NANO_MODEL)
    corpora: tuple[tuple[str, float], ...] = (("nano_pl", 1.0),)
    language: str = LANGUAGE
    steps: int = 1000
    warmup: float = 0.1  # share of the steps
    evaluate_every: int = 200  # steps; a checkpoint is published at each evaluation, or sooner
    patience: int = 3  # evaluations without a better WER before training stops
    validation_clips: int = 400  # the first ones of the split; fewer where it has fewer
    full_windows: float = 0.1
    short_audio_context: bool = True  # False: every window is 30 s
    augment: Augment | None = field(default_factory=Augment)
    dropout: float = 0.0
    preset: Preset | None = None  # None: chosen by the model's size and the machine
    learning_rate: float | None = None  # None: the preset's
    batch_size: int | None = None  # clips per device and pass; None: the largest that fits
    machine: str | None = None  # which preset to use; None: the one for this machine
    seed: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True)
class Outcome:
    """The result of a training. `finished` is False when its time was up before its steps."""

    run: Run
    preset: Preset
    finished: bool
    step: int
    best: Path  # a folder with the best weights, for from_pretrained
    history: pd.DataFrame  # one row per log entry: step, loss, learning_rate, eval_loss, eval_wer
    data: dict[str, str]  # corpus -> version
    seconds_per_step: float  # in this session, evaluations and checkpoints included


def preset_for(model, run: Run) -> Preset:
    """Return the run's own preset, or the one for the model's size and the machine.

    Raises LabError where its optimizer needs bitsandbytes and that is not installed.
    """
    preset = run.preset or choose(model.num_parameters(), run.machine)
    devices().print(f"{preset.machine}, {preset.size}: {preset.method}, since {preset.reason}.")
    if "bnb" in preset.optimizer and not find_spec("bitsandbytes"):
        raise LabError(
            f"The preset for {preset.size} on this GPU needs the 8-bit optimizer of bitsandbytes, "
            "which is not installed. Run: pip install bitsandbytes"
        )
    return replace(preset, learning_rate=run.learning_rate or preset.learning_rate)


def stored_settings(run: Run, preset: Preset) -> dict[str, Any]:
    """Return the run and its preset as checkpoints and registered models record them, as JSON."""
    fields = asdict(run) | {"preset": asdict(preset)}
    stored = {STORED_NAMES.get(name, name): value for name, value in fields.items()}
    return json.loads(json.dumps(stored))


def field_name(stored_name: str) -> str:
    """Return the name of Run's field that `stored_settings` records under another name."""
    return next((name for name, old in STORED_NAMES.items() if old == stored_name), stored_name)
