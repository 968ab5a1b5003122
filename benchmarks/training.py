"""Fine-tuning nano: WER before and after, twenty kills, and short context against full windows.

python benchmarks/training.py                  all of it, over an hour on two cores
python benchmarks/training.py --kills 3 --seeds 1 --words 500      less of it, not kept
python benchmarks/training.py --quick          a few steps of each, not kept
"""

from __future__ import annotations

import argparse
import hashlib
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import datasets
import numpy as np
from _report import report
from safetensors.torch import load_file

from lab2_whisper.audio import decode, encode_opus
from lab2_whisper.features.clips import DEFAULT
from lab2_whisper.features.shards import build_corpus
from lab2_whisper.features.sources import nano
from lab2_whisper.features.stored import open_corpus
from lab2_whisper.nano import make
from lab2_whisper.schema import NANO_MODEL, SAMPLE_RATE
from lab2_whisper.training import checkpoints
from lab2_whisper.training.evaluation import evaluate, evaluate_before_after
from lab2_whisper.training.loop import train
from lab2_whisper.training.metrics import difference, score
from lab2_whisper.training.run import Outcome, Run
from labstore import Store, open_store

DEMO = Run("demo", steps=150, evaluate_every=30)
KILLED = Run("killed", steps=150, evaluate_every=5, patience=99, validation_clips=4, batch_size=8)
CONTEXT = Run("context", steps=150, validation_clips=4)


def demo(store: Store, folder: Path, quick: bool) -> dict[str, Any]:
    """What the notebook does: baseline, training, test split before and after."""
    started = time.perf_counter()
    outcome = train(
        store, replace(DEMO, steps=2, evaluate_every=1) if quick else DEMO, folder=folder
    )
    (comparison,) = evaluate_before_after(store, outcome)
    print(comparison)
    seconds = round(time.perf_counter() - started, 1)
    return {
        "baseline_wer": comparison.before.score.wer.value,
        "baseline_wer_without_mp3": _without_mp3(store),
        "tuned_wer": comparison.after.score.wer.value,
        "tuned_wer_high": comparison.after.score.wer.high,
        "test_words": comparison.after.score.words,
        "seconds": seconds,
    }


def _without_mp3(store: Store) -> float:
    """Nano, not tuned, on the test split's sentences said anew in its voices: only the MP3 is gone."""
    said = open_corpus(store, "nano_pl", "test")["text"]
    voices = list(make.VOICES["test"].items())
    rows = [_clip(text, *voices[i % len(voices)], 160) for i, text in enumerate(said)]
    return evaluate(str(NANO_MODEL), datasets.Dataset.from_list(rows)).score.wer.value


def killed(store: Store, folder: Path, kills: int) -> dict[str, Any]:
    """Kill one training again and again; are its last weights those of an undisturbed one?"""
    rng, done = random.Random(0), 0
    command = [sys.executable, __file__, "--resume", str(store.root), str(folder)]
    quiet = {"stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}

    def begin(name: str) -> subprocess.Popen:
        child = subprocess.Popen([*command, name], **quiet)
        child.stdout.readline()  # its libraries are loaded
        return child

    def end(child: subprocess.Popen) -> bool:
        child.communicate()
        if child.returncode not in (0, -signal.SIGKILL):
            raise RuntimeError(f"the training ended with {child.returncode}")
        return child.returncode == 0

    child, started = begin("whole"), time.monotonic()
    end(child)
    # so long that the waits for all kills take about one training, which is then not yet over
    longest = max(2.0, (time.monotonic() - started) * min(0.5, 2 / kills))
    while True:
        child = begin("killed")
        if done < kills:
            time.sleep(rng.uniform(1, longest))  # loading, baseline, steps and saving alike
            done += child.poll() is None
            child.send_signal(signal.SIGKILL)
        if end(child):
            break
    if done < kills:
        raise RuntimeError(f"the training was over after {done} kills: give it more steps")
    same = _weights(store, "whole", folder) == _weights(store, "killed", folder)
    return {"kills": done, "identical": same}


def _weights(store: Store, run: str, folder: Path) -> str:
    """A digest of the weights in the newest checkpoint."""
    settings = store.open_files(f"checkpoint_{run}").metadata["settings"]
    found = checkpoints.latest_valid(store, run, folder / f"final_{run}", settings)
    tensors = load_file(found / "model.safetensors")
    whole = b"".join(tensors[name].numpy().tobytes() for name in sorted(tensors))
    return hashlib.sha256(whole).hexdigest()


def short_audio_context(
    store: Store, folder: Path, seeds: int, words: int, steps: int = CONTEXT.steps
) -> dict[str, Any]:
    """Trained in full windows, and with a tenth or a fifth of as many steps in them: all heard so.

    On the voices of validation, where these were chosen, 150 steps with a tenth were 1.0 point worse
    than full windows (0.2 to 1.8) and with a fifth 0.3 (-0.5 to 1.1).
    """
    context = replace(CONTEXT, steps=steps, evaluate_every=steps)
    runs = {
        "full_context": replace(context, short_audio_context=False),
        "short_context": replace(context, full_windows=0.1),
        "short_context_fifth": replace(context, full_windows=0.2),
    }
    pace: dict[str, list[float]] = {name: [] for name in runs}  # steps a second
    heard: dict[str, list[str]] = {name: [] for name in runs}
    said: list[str] = []
    for seed in range(seeds):
        clips = _new_clips(-(-words // seeds), seed)  # others for each seed
        said += list(clips["text"])
        for name, run in runs.items():
            outcome = train(store, replace(run, name=f"{name}_{seed}", seed=seed), folder=folder)
            pace[name].append(_steps_per_second(outcome))
            heard[name] += list(evaluate(outcome.best, clips).table["hypothesis"])
    figures: dict[str, Any] = {}
    for name in runs:
        figures |= {
            f"{name}_steps_per_second": float(np.mean(pace[name])),
            f"{name}_wer": score(said, heard[name]).wer.value,
        }
    for name in list(runs)[1:]:
        change = difference(said, heard["full_context"], heard[name])
        figures |= {
            f"{name}_speedup": float(np.mean(pace[name]) / np.mean(pace["full_context"])),
            f"{name}_wer_delta": 100 * change.value,
            f"{name}_wer_delta_low": 100 * change.low,
            f"{name}_wer_delta_high": 100 * change.high,
        }
    return figures | {"short_context_words": sum(len(text.split()) for text in said)}


def _steps_per_second(outcome: Outcome) -> float:
    """Of the steps alone: the baseline and other evaluations are in the trainer's own figure."""
    history = outcome.history
    seconds = history["train_runtime"].dropna().iloc[-1] - history["eval_runtime"].dropna().sum()
    return outcome.step / seconds


def _new_clips(words: int, seed: int):
    """Sentences in no split, in the voices and the MP3 of the test split, for so many words."""
    rng, known = random.Random(seed), {clip.text for clip in nano().listing()[0]}
    rows, spoken = [], 0
    while spoken < words:
        text = make.sentence(rng)
        if text in known:
            continue
        known.add(text)
        voice, pitch = rng.choice(list(make.VOICES["test"].items()))
        rows.append(_clip(text, voice, pitch, rng.randrange(140, 200), make.mp3))
        spoken += len(text.split())
    return datasets.Dataset.from_list(rows)


def _clip(
    text: str,
    voice: str,
    pitch: int,
    speed: int,
    recorded: Callable[[np.ndarray], bytes] | None = None,
) -> dict[str, Any]:
    """A row of a corpus: recorded, and then kept as Opus like all clips."""
    samples = make.synthesize(text, voice, pitch, speed)
    if recorded:
        samples = decode(recorded(samples))
    audio = encode_opus(samples, DEFAULT.bitrate, DEFAULT.complexity)
    return {"clip_id": text, "audio": audio, "text": text, "speaker": voice,
            "seconds": len(samples) / SAMPLE_RATE}  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--words", type=int, default=5_100, help="over all seeds")
    parser.add_argument("--quick", action="store_true", help="a few steps of each, not kept")
    parser.add_argument("--resume", nargs=3, help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.resume:
        print("ready", flush=True)
        address, folder, name = given.resume
        train(open_store(address), replace(KILLED, name=name), folder=folder)
        return
    with tempfile.TemporaryDirectory() as temporary:
        home = Path(temporary)
        store = open_store(home / "store")
        build_corpus(store, nano(), "nano_pl", processes=os.cpu_count())
        if given.quick:
            given.kills, given.seeds, given.words = 1, 1, 20
        figures = demo(store, home / "work", given.quick)
        if given.kills:
            figures |= killed(store, home / "work", given.kills)
        if given.seeds:
            steps = 1 if given.quick else CONTEXT.steps
            figures |= short_audio_context(store, home / "work", given.seeds, given.words, steps)
    whole = (given.kills, given.seeds, given.words) == (20, 3, 5_100)
    table = "\n".join(f"{name:32}{value}" for name, value in figures.items())
    report("training", figures, table, keep=whole)


if __name__ == "__main__":
    main()
