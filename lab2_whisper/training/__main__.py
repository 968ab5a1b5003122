"""Fine-tune Whisper from the command line; `accelerate launch -m` starts it on several GPUs."""

from __future__ import annotations

import argparse

from lab2_whisper.schema import NANO_MODEL
from lab2_whisper.training.estimate import devices
from lab2_whisper.training.loop import train
from lab2_whisper.training.run import Run
from labstore import open_store


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("store", help="a folder, or drive:FOLDER")
    parser.add_argument("--run", required=True, help="a name for the run and its checkpoints")
    parser.add_argument("--model", default=str(NANO_MODEL))
    parser.add_argument("--corpora", nargs="+", default=["nano_pl"])
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--evaluate-every", type=int, default=200)
    parser.add_argument("--batch", type=int, help="clips at once on each device")
    parser.add_argument("--machine", help="whose preset to take; by default this machine's")
    parser.add_argument("--minutes", type=float, help="stop and save after so many")
    parser.add_argument("--folder", default="build/whisper")
    given = parser.parse_args()
    run = Run(
        given.run,
        given.model,
        tuple((name, 1.0) for name in given.corpora),
        steps=given.steps,
        evaluate_every=given.evaluate_every,
        batch_size=given.batch,
        machine=given.machine,
    )
    outcome = train(open_store(given.store), run, given.minutes, given.folder)
    if devices().is_main_process:
        print(f"step {outcome.step}, finished: {outcome.finished}, best weights in {outcome.best}")


if __name__ == "__main__":
    main()
