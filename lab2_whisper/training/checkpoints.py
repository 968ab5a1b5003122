"""Checkpoints that outlive the machine: one archive each on the store, two generations kept.

publish(store, "run", folder, settings)          after the trainer has written a checkpoint
latest_valid(store, "run", folder, settings)     the newest intact one, unpacked, or None
unpublished(store, "run", folder, settings)      a newer one on this disk that the store lacks, or None

`settings` are those of run.stored_settings: a run resumes only with the settings it began with.
"""

from __future__ import annotations

import contextlib
import json
import shutil
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lab2_whisper.schema import LabError
from lab2_whisper.training.run import field_name
from labstore import Damaged, NotFound, NotWritable, Store

GENERATIONS = 2
ARCHIVE = "checkpoint.tar"
UNPUBLISHED = "unpublished.json"  # beside a checkpoint's folder until the store has it
BEST = "kept/best"  # the best weights so far; deeper than where transformers looks for adapters
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
STATES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")


class Incomplete(LabError):
    """A checkpoint's folder lacks a file or holds a damaged one."""


def publish(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> None:
    """Copy a checkpoint's folder to the store as one archive, its manifest last.

    Only the newest checkpoint before it is kept while it is written, and GENERATIONS after that: a
    Drive of 15 GB does not hold three. Raises NotWritable where the store is full.
    """
    note = folder.parent / UNPUBLISHED
    note.write_text(json.dumps({"settings": settings, "step": step(folder)}), encoding="utf-8")
    _prune_to_newest(store, _name(run))
    with tempfile.TemporaryDirectory(prefix="whisper-") as temporary:
        with tarfile.open(Path(temporary) / ARCHIVE, "w") as tar:
            tar.add(folder, arcname=".")
        store.save_files(_name(run), Path(temporary), {"settings": settings, "step": step(folder)})
    note.unlink()
    store.prune_files(_name(run), GENERATIONS)


def try_publish(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> None:
    """Publish a checkpoint; print a message where the store is full, and let training continue."""
    try:
        publish(store, run, folder, settings)
    except NotWritable as error:
        print(f"This checkpoint was not published; training continues to the next one: {error}")


def unpublished(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> Path | None:
    """Return the intact checkpoint in `folder` with these settings that is newer than the store's.

    None where there is none. It was not published because the store was full or the process was
    killed.
    """
    try:
        note = json.loads((folder / UNPUBLISHED).read_text(encoding="utf-8"))
        left = folder / f"checkpoint-{note['step']}"
        check(left)
    except (OSError, ValueError, KeyError, LabError):
        return None
    if note["settings"] != settings:
        return None
    with contextlib.suppress(NotFound, Damaged):
        newest = store.open_files(_name(run)).metadata
        if newest["settings"] != settings or newest["step"] >= note["step"]:
            return None
    return left


def _prune_to_newest(store: Store, name: str) -> None:
    with contextlib.suppress(NotFound, Damaged):  # where it is damaged, older ones are needed
        store.open_files(name)
        store.prune_files(name, 1)


def latest_valid(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> Path | None:
    """Unpack the newest intact checkpoint of a run below `folder`; None where the run has none.

    A damaged one is skipped with a message, and the one before is tried. Raises LabError where all
    are damaged, for a checkpoint with other settings, and for one that cannot be resumed exactly.
    """
    versions = store.list_files(_name(run))
    for version in reversed(versions):
        target = folder / version
        try:
            saved = store.open_files(_name(run), version)
            _require_same_settings(run, saved.metadata["settings"], settings)
            target = folder / f"checkpoint-{saved.metadata['step']}"
            shutil.rmtree(target, ignore_errors=True)
            with tarfile.open(saved.path / ARCHIVE) as tar:
                tar.extractall(target, filter="data")
            check(target)
        except (Damaged, tarfile.TarError, OSError, Incomplete) as error:
            print(f"Checkpoint {version} of {run} is damaged and skipped: {error}")
            shutil.rmtree(target, ignore_errors=True)
            continue
        return target
    if versions:
        raise LabError(
            f"None of the {len(versions)} checkpoints of run {run!r} can be read. If the disk is full, or "
            "Drive is not mounted or still busy, free some space or wait, and run this again. "
            "Otherwise start again under another run name."
        )
    return None


def check(folder: Path) -> None:
    """Check that a trainer's checkpoint is complete.

    Raises Incomplete where files are missing or damaged. Raises LabError where it was saved without
    its optimizer: transformers would resume from it with a new one and say nothing.
    """
    there = {path.name for path in folder.iterdir() if path.stat().st_size}
    weights = [name for name in WEIGHTS if name in there]
    if weights and "trainer_state.json" in there and "optimizer.pt" not in there:
        raise LabError(
            f"{folder} was saved without its optimizer (save_only_model), so training cannot be "
            "resumed exactly. Start a new run from its weights: model=that folder, another run name."
        )
    missing = [name for name in STATES if name not in there]
    if not weights or missing or not any(name.startswith("rng_state") for name in there):
        raise Incomplete(f"{folder} lacks {', '.join(missing) or 'weights or random states'}")
    for name in there:
        if name.endswith(".safetensors"):
            _check_safetensors(folder / name)
    step(folder)


def step(folder: Path) -> int:
    """Return the training step of a checkpoint's folder. Raises Incomplete where it has none."""
    try:
        text = (folder / "trainer_state.json").read_text(encoding="utf-8")
        return int(json.loads(text)["global_step"])
    except (OSError, ValueError, KeyError) as error:
        raise Incomplete(f"{folder}/trainer_state.json cannot be read ({error})") from error


def _check_safetensors(path: Path) -> None:
    """Check that the header is intact and the file as long as it declares."""
    try:
        with safe_open(path, "numpy"):
            pass
    except (OSError, SafetensorError) as error:
        raise Incomplete(f"{path} is damaged ({error})") from error


def _require_same_settings(run: str, saved: dict[str, Any], now: dict[str, Any]) -> None:
    then, here = (settings.get("preset", {}).get("machine") for settings in (saved, now))
    if then != here:
        raise LabError(
            f"Run {run!r} was started with the preset for {then!r}, and this is the one for {here!r}. "
            f"To resume it here, set machine = {then!r} (MACHINE in the notebook, --machine on the "
            "command line). Otherwise choose another run name."
        )
    for name in sorted({*saved, *now}):
        if saved.get(name) != now.get(name):
            field = field_name(name)
            raise LabError(
                f"The checkpoints of run {run!r} were made with {field} = {saved.get(name)!r}, not "
                f"{now.get(name)!r}. Set {field} back, or choose another run name for these settings."
            )


def count(store: Store, run: str) -> int:
    """Return how many checkpoints of a run are on the store."""
    return len(store.list_files(_name(run)))


def keep_newest(store: Store, run: str) -> None:
    """Remove all checkpoints of a finished run but the newest."""
    store.prune_files(_name(run), 1)


def _name(run: str) -> str:
    """Return the name of a run's checkpoints among the files of the store."""
    return f"checkpoint_{run}"
