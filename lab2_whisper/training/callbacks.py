"""What the trainer does at the edges of its steps: stop in time, save, keep the best, publish."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from accelerate.utils import gather
from transformers import TrainerCallback

from lab2_whisper.training import checkpoints
from labstore import Store

if TYPE_CHECKING:
    from lab2_whisper.training.trainer import WhisperTrainer


class Epochs(TrainerCallback):
    """Tells clips and sampler which epoch it is: accelerate forgets to, after some restarts."""

    def __init__(self, trainer: WhisperTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **_):
        self.trainer.sampler.set_epoch(math.floor(state.epoch or 0))


def _late(ends: float, args) -> bool:
    """Whether it is later than `ends`, as time.monotonic() counts, for any device: all do the same."""
    return bool(gather(torch.tensor([time.monotonic() > ends], device=args.device)).any())


class TimeBudget(TrainerCallback):
    """Stops and saves before a session ends."""

    def __init__(self, ends: float):
        self.ends = ends

    def on_step_end(self, args, state, control, **_):
        if _late(self.ends, args):
            control.should_save = control.should_training_stop = True


class SaveBetween(TrainerCallback):
    """Saves also between evaluations, where so many seconds went by since the last time."""

    def __init__(self, seconds: float):
        self.seconds, self.last = seconds, None

    def on_step_begin(self, args, state, control, **_):
        self.last = self.last or time.monotonic()  # from the first step on, after the baseline

    def on_save(self, args, state, control, **_):
        self.last = time.monotonic()

    def on_step_end(self, args, state, control, **_):
        if _late(self.last + self.seconds, args):
            control.should_save = True


class Best(TrainerCallback):
    """Keeps the weights of the best WER on validation, and stops when it rises no more.

    What is best is read from the log, which every checkpoint has, so a restart changes nothing.
    """

    def __init__(self, home: Path, patience: int):
        self.folder, self.patience = home / "best", patience

    @staticmethod
    def rates(state) -> list[float]:
        """The WER of each validation so far, the baseline first."""
        return [entry["eval_wer"] for entry in state.log_history if "eval_wer" in entry]

    @staticmethod
    def had_enough(state, patience: int) -> bool:
        """Whether so many validations in a row were no better than the best."""
        rates = Best.rates(state)
        return bool(rates) and len(rates) - 1 - rates.index(min(rates)) >= patience

    def on_step_end(self, args, state, control, **_):
        if state.global_step >= state.max_steps:
            control.should_evaluate = True

    def on_evaluate(self, args, state, control, model=None, **_):
        rates = self.rates(state)
        if rates.index(min(rates)) == len(rates) - 1 and state.is_world_process_zero:
            model.save_pretrained(self.folder)
        if self.had_enough(state, self.patience):
            control.should_save = control.should_training_stop = True


class Publish(TrainerCallback):
    """Copies each checkpoint, with the best weights so far, to the store."""

    def __init__(self, store: Store, run: str, settings: dict[str, Any]):
        self.store, self.run, self.settings = store, run, settings

    def on_save(self, args, state, control, **_):
        PartialState().wait_for_everyone()  # each process writes its own random states
        if not state.is_world_process_zero:
            return
        home = Path(args.output_dir)
        folder = home / f"checkpoint-{state.global_step}"
        shutil.copytree(home / "best", folder / checkpoints.BEST, dirs_exist_ok=True)
        checkpoints.try_publish(self.store, self.run, folder, self.settings)
        for old in home.glob("checkpoint-*"):
            if old != folder:
                shutil.rmtree(old)
