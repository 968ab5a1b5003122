"""Fine-tune Whisper from the command line.

python -m lab2_whisper.training STORE --run small_pl --corpora common_voice_pl --steps 2000
accelerate launch -m lab2_whisper.training STORE --run small_pl ...      on several GPUs

The same command again resumes the run from its newest checkpoint. The exit status is 1, with one
sentence on stderr, where something has to be put right first.
"""

from __future__ import annotations

import argparse
import sys

from lab2_whisper.schema import LANGUAGE, NANO_MODEL, LabError
from lab2_whisper.training.loop import train
from lab2_whisper.training.presets import MACHINES, devices
from lab2_whisper.training.run import Outcome, Run
from labstore import StoreError, open_store


def main(arguments: list[str] | None = None) -> int:
    """Train as the arguments say. Return the exit status."""
    options = _options(arguments)
    try:
        outcome = _train(options)
    except (LabError, StoreError) as error:
        if devices().is_main_process:  # the other processes fail with the same error
            print(error, file=sys.stderr)
        return 1
    state = "finished" if outcome.finished else "not finished, run the same command again"
    devices().print(f"step {outcome.step}, {state}; best weights in {outcome.best}")
    return 0


def _train(options: argparse.Namespace) -> Outcome:
    run = Run(
        options.run,
        options.model,
        tuple((name, 1.0) for name in options.corpora),
        language=options.language,
        steps=options.steps,
        evaluate_every=options.evaluate_every,
        batch_size=options.batch,
        machine=options.machine,
    )
    return train(open_store(options.store), run, options.minutes, options.folder)


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="python -m lab2_whisper.training",
        description="Fine-tune Whisper on stored corpora. Run it again to resume.",
    )
    parser.add_argument("store", help="a folder, drive:FOLDER or hopsworks:PROJECT")
    parser.add_argument(
        "--run", required=True, help="names the run and its checkpoints: lower case, digits and _"
    )
    what = parser.add_argument_group("what to train")
    what.add_argument(
        "--model", default=str(NANO_MODEL), help="a name on the Hub, or a folder (the nano model)"
    )
    what.add_argument(
        "--corpora",
        nargs="+",
        default=["nano_pl"],
        metavar="CORPUS",
        help="stored corpora, drawn from equally; the first is evaluated (nano_pl)",
    )
    what.add_argument("--language", default=LANGUAGE, help=f"a code such as en ({LANGUAGE})")
    length = parser.add_argument_group("how long to train")
    length.add_argument("--steps", type=int, default=1000, help="at most (%(default)s)")
    length.add_argument(
        "--evaluate-every",
        type=int,
        default=200,
        metavar="STEPS",
        help="evaluate and save after so many steps (%(default)s)",
    )
    length.add_argument("--minutes", type=float, help="save and stop after so long (no limit)")
    machine = parser.add_argument_group("the machine")
    machine.add_argument("--machine", choices=MACHINES, help="which preset to use (this machine's)")
    machine.add_argument(
        "--batch",
        type=int,
        metavar="CLIPS",
        help="batch size of each device (the largest that fits)",
    )
    machine.add_argument(
        "--folder", default="build/whisper", help="a local folder to work in (%(default)s)"
    )
    return parser.parse_args(arguments)


if __name__ == "__main__":
    sys.exit(main())
