"""What a training is made from."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from importlib.util import find_spec
from pathlib import Path

import pandas as pd

from lab2_whisper.schema import LANGUAGE, NANO_MODEL, LabError
from lab2_whisper.training.dataset import Augment
from lab2_whisper.training.presets import Preset, choose
from labstore.contract import check_name


@dataclass(frozen=True)
class Run:
    """A training, whole: on a CPU, the same Run on the same store gives the same weights.

    To the last bit, with as many threads: with more or fewer, sums are added up in other parts.

    `corpora` are (name, weight); the first one's validation and test splits are heard.
    `full_windows` is the share of steps in 30 s windows, the last ones before each evaluation:
    without any, Whisper forgets them, and what it learned last is what it does best. A training of
    a few hundred steps needs a larger share, such as 0.2 (benchmarks/training.py).
    """

    name: str
    model: str = str(NANO_MODEL)
    corpora: tuple[tuple[str, float], ...] = (("nano_pl", 1.0),)
    language: str = LANGUAGE
    steps: int = 1000
    warmup: float = 0.1  # of the steps
    evaluate_every: int = 200  # steps; a checkpoint is published at least as often
    patience: int = 3  # evaluations without a better WER before it stops
    validation_clips: int = 400  # at most, the first ones
    full_windows: float = 0.1
    short_audio_context: bool = True
    augment: Augment | None = field(default_factory=Augment)
    dropout: float = 0.0
    preset: Preset | None = None  # None: chosen for the model's size and the machine
    learning_rate: float | None = None  # None: the preset's
    batch_size: int | None = None  # clips at once; None: found by a dry run
    machine: str | None = None  # whose preset is chosen; None: found out
    seed: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)


@dataclass(frozen=True)
class Outcome:
    """What a training came to. `finished` is False when its time was up before its steps."""

    run: Run
    preset: Preset
    finished: bool
    step: int
    best: Path  # a folder with the best weights, as from_pretrained takes it
    history: pd.DataFrame  # a row a log: step, loss, learning_rate, eval_loss, eval_wer, ...
    data: dict[str, str]  # corpus -> version
    seconds_per_step: float  # of this session, with its validations and checkpoints


def preset_for(model, run: Run) -> Preset:
    """Return the run's own preset, or the one for the model's size and the machine."""
    preset = run.preset or choose(model.num_parameters(), run.machine)
    print(f"{preset.machine}, {preset.size}: {preset.method}, since {preset.reason}.")
    if "bnb" in preset.optimizer and not find_spec("bitsandbytes"):
        raise LabError(
            f"The preset for {preset.size} on this GPU needs the 8-bit optimizer of bitsandbytes, "
            "which is not installed. Run: pip install bitsandbytes"
        )
    return replace(preset, learning_rate=run.learning_rate or preset.learning_rate)
