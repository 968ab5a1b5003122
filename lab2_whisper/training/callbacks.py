"""Callbacks of the trainer: stop in time, save, keep the best weights, publish checkpoints."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from accelerate import PartialState
from accelerate.utils import gather
from transformers import TrainerCallback, TrainerState, TrainingArguments

from lab2_whisper.training import checkpoints
from labstore import Store

if TYPE_CHECKING:
    from lab2_whisper.training.trainer import WhisperTrainer


class Epochs(TrainerCallback):
    """Sets the epoch of clips and sampler.

    accelerate's own set_epoch does not reach a sampler behind two wrappers, as in a resumed epoch
    on several devices (DataLoaderShard in accelerate 1.15.0; see huggingface/accelerate#2016).
    """

    def __init__(self, trainer: WhisperTrainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **_):
        self.trainer.sampler.set_epoch(math.floor(state.epoch or 0))


def _is_past(deadline: float, args: TrainingArguments) -> bool:
    """Return whether time.monotonic() is past `deadline` in any process, so that all do the same."""
    return bool(gather(torch.tensor([time.monotonic() > deadline], device=args.device)).any())


class TimeBudget(TrainerCallback):
    """Saves and stops at a deadline, in seconds of time.monotonic()."""

    def __init__(self, deadline: float):
        self.deadline = deadline

    def on_step_end(self, args, state, control, **_):
        if _is_past(self.deadline, args):
            control.should_save = control.should_training_stop = True


class SaveBetween(TrainerCallback):
    """Saves between evaluations, too, when so many seconds have passed since the last save."""

    def __init__(self, seconds: float):
        self.seconds, self.last_save = seconds, 0.0

    def on_step_begin(self, args, state, control, **_):
        self.last_save = self.last_save or time.monotonic()  # from the first step: not the baseline

    def on_save(self, args, state, control, **_):
        self.last_save = time.monotonic()

    def on_step_end(self, args, state, control, **_):
        if _is_past(self.last_save + self.seconds, args):
            control.should_save = True


class Best(TrainerCallback):
    """Keeps the weights with the best WER on validation, and stops when it no longer improves.

    The best is read from the log, which every checkpoint holds, so that resuming changes nothing.
    """

    def __init__(self, home: Path, patience: int):
        self.folder, self.patience = home / "best", patience

    @staticmethod
    def rates(state: TrainerState) -> list[float]:
        """Return the WER of each validation so far, the baseline first."""
        return [entry["eval_wer"] for entry in state.log_history if "eval_wer" in entry]

    @staticmethod
    def had_enough(state: TrainerState, patience: int) -> bool:
        """Return whether the last `patience` validations were all no better than the best."""
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
