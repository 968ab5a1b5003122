"""A short training whose losses and first gradients are written down: for accelerate launch."""

import sys
from pathlib import Path

import torch
from accelerate import PartialState
from transformers import TrainerCallback

from lab2_whisper.training import loop as training
from lab2_whisper.training.loop import train
from lab2_whisper.training.run import Run
from labstore import open_store


class FirstGradients(TrainerCallback):
    """Keeps the gradients before the first step is taken, clipped or not as they are."""

    def __init__(self, path: Path):
        self.path = path

    def on_pre_optimizer_step(self, args, state, control, model=None, **_):
        if state.global_step == 0 and state.is_world_process_zero:
            grads = {name: w.grad for name, w in model.named_parameters() if w.grad is not None}
            torch.save({name.removeprefix("module."): g.clone() for name, g in grads.items()},
                       self.path)  # fmt: skip


def main(made: str, folder: str, batch: str) -> None:
    where = Path(folder)
    run = Run("r", str(Path(made) / "tiny"), steps=20, evaluate_every=20, validation_clips=4,
              batch_size=int(batch), full_windows=0.1)  # fmt: skip
    plain = training.arguments
    training.arguments = lambda *given: _every_step(plain(*given))
    original = training.WhisperTrainer.__init__

    def watched(self, *given, **options):
        original(self, *given, **options)
        self.add_callback(FirstGradients(where / "gradients.pt"))

    training.WhisperTrainer.__init__ = watched
    outcome = train(open_store(where / "store"), run, folder=where / "work")
    outcome.history.dropna(subset=["loss"])[["step", "loss"]].to_json(where / "losses.json")
    (where / "processes.txt").write_text(str(PartialState().num_processes))


def _every_step(arguments):
    arguments.logging_steps = 1
    return arguments


if __name__ == "__main__":
    main(*sys.argv[1:])
