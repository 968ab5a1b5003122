"""What a training is made from."""

from __future__ import annotations

from dataclasses import dataclass, field

from lab2_whisper.dataset import Augment
from lab2_whisper.presets import Preset
from lab2_whisper.schema import LANGUAGE, NANO_MODEL
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
    short_context: bool = True
    augment: Augment | None = field(default_factory=Augment)
    dropout: float = 0.0
    preset: Preset | None = None  # None: chosen for the model's size and the machine
    learning_rate: float | None = None  # None: the preset's
    batch: int | None = None  # clips at once; None: found by a dry run
    machine: str | None = None  # whose preset is chosen; None: found out
    seed: int = 0

    def __post_init__(self) -> None:
        check_name(self.name)
