"""Checkpoints that survive the machine: one archive each on the store, two generations kept.

publish(store, "run", folder, settings)      after the trainer has written a checkpoint
latest_valid(store, "run", folder, settings)     the newest whole one, unpacked, or None
unpublished(store, "run", folder, settings)      a newer one on this disk that the store lacks, or None
"""

from __future__ import annotations

import contextlib
import json
import shutil
import struct
import tarfile
import tempfile
from pathlib import Path
from typing import Any

from lab2_whisper.schema import LabError
from labstore import Damaged, NotFound, NotWritable, Store

GENERATIONS = 2
ARCHIVE = "checkpoint.tar"
UNPUBLISHED = "unpublished.json"  # beside a checkpoint's folder until the store has it
BEST = "kept/best"  # the best weights so far; deeper than where transformers looks for adapters
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
STATES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")


def publish(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> None:
    """Copy a checkpoint's folder to the store as one archive, its manifest last.

    `settings` are what another run may not differ in. While it is written there is one other, the
    newest before, and after that GENERATIONS: a Drive of 15 GB has no room for three.
    """
    note = folder.parent / UNPUBLISHED
    note.write_text(json.dumps({"settings": settings, "step": step(folder)}), encoding="utf-8")
    _make_room(store, _name(run))
    with tempfile.TemporaryDirectory(prefix="whisper-") as temporary:
        with tarfile.open(Path(temporary) / ARCHIVE, "w") as tar:
            tar.add(folder, arcname=".")
        store.save_files(_name(run), Path(temporary), {"settings": settings, "step": step(folder)})
    note.unlink()
    store.prune_files(_name(run), GENERATIONS)


def try_publish(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> None:
    """The same, but a store that is full is only said: no reason to lose what can still be learned."""
    try:
        publish(store, run, folder, settings)
    except NotWritable as error:
        print(f"This checkpoint was not published, the next one will be tried: {error}")


def unpublished(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> Path | None:
    """The whole checkpoint in `folder`, of these settings and newer than the store's, if there is one.

    It was not published, or not to the end: the store was full, or the training was killed.
    """
    try:
        note = json.loads((folder / UNPUBLISHED).read_text(encoding="utf-8"))
        left = folder / f"checkpoint-{note['step']}"
        check(left)
    except (OSError, ValueError, KeyError, LabError):
        return None
    settings = json.loads(json.dumps(settings))
    if note["settings"] != settings:
        return None
    with contextlib.suppress(NotFound, Damaged):
        newest = store.open_files(_name(run)).metadata
        if newest["settings"] != settings or newest["step"] >= note["step"]:
            return None
    return left


def _make_room(store: Store, name: str) -> None:
    with contextlib.suppress(NotFound, Damaged):  # then older ones are still needed
        store.open_files(name)
        store.prune_files(name, 1)


def latest_valid(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> Path | None:
    """Unpack the newest whole checkpoint of a run below `folder`; None where there is none.

    A damaged one is said and passed over for the one before. Raises LabError where all are, for a
    checkpoint of other settings, and for one that could not be gone on from exactly.
    """
    versions = store.list_files(_name(run))
    for version in reversed(versions):
        target = folder / version
        try:
            saved = store.open_files(_name(run), version)
            _same_settings(run, saved.metadata["settings"], settings)
            target = folder / f"checkpoint-{saved.metadata['step']}"
            shutil.rmtree(target, ignore_errors=True)
            with tarfile.open(saved.path / ARCHIVE) as tar:
                tar.extractall(target, filter="data")
            check(target)
        except (Damaged, tarfile.TarError, OSError, Incomplete) as error:
            print(f"Checkpoint {version} of {run} is passed over: {error}")
            shutil.rmtree(target, ignore_errors=True)
            continue
        return target
    if versions:
        raise LabError(
            f"None of the {len(versions)} checkpoints of run {run!r} could be read. Is the disk full, or "
            "Drive not mounted or still busy? Wait or make room and run this again; or begin anew under "
            "another run name."
        )
    return None


class Incomplete(LabError):
    """A checkpoint's folder lacks something or holds something broken."""


def check(folder: Path) -> None:
    """Raise where a trainer's checkpoint is not whole.

    Incomplete for a damaged one; LabError for one that was saved without its optimizer, which
    the trainer would take and go on from with a fresh one, unasked.
    """
    there = {path.name for path in folder.iterdir() if path.stat().st_size}
    weights = [name for name in WEIGHTS if name in there]
    if weights and "trainer_state.json" in there and "optimizer.pt" not in there:
        raise LabError(
            f"{folder} was saved without its optimizer (save_only_model), so training cannot go on "
            "from it exactly. Start a new run from its weights: model=that folder, another run name."
        )
    missing = [name for name in STATES if name not in there]
    if not weights or missing or not any(name.startswith("rng_state") for name in there):
        raise Incomplete(f"{folder} lacks {', '.join(missing) or 'weights or random states'}")
    for name in there:
        if name.endswith(".safetensors"):
            _check_safetensors(folder / name)
    step(folder)


def step(folder: Path) -> int:
    """The training step of a checkpoint's folder."""
    try:
        text = (folder / "trainer_state.json").read_text(encoding="utf-8")
        return int(json.loads(text)["global_step"])
    except (OSError, ValueError, KeyError) as error:
        raise Incomplete(f"{folder}/trainer_state.json cannot be read ({error})") from None


def _check_safetensors(path: Path) -> None:
    """The header is whole and the file is as long as it says."""
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            header = json.loads(file.read(length))
        ends = [part["data_offsets"][1] for name, part in header.items() if name != "__metadata__"]
        whole = path.stat().st_size == 8 + length + max(ends, default=0)
    except (OSError, ValueError, KeyError, TypeError, struct.error, OverflowError, MemoryError):
        whole = False
    if not whole:
        raise Incomplete(f"{path} is damaged")


def _same_settings(run: str, saved: dict[str, Any], now: dict[str, Any]) -> None:
    now = json.loads(json.dumps(now))
    then, here = (settings.get("preset", {}).get("machine") for settings in (saved, now))
    if then != here:
        raise LabError(
            f"Run {run!r} was begun on a machine of the kind {then!r}, and this is one of the kind "
            f"{here!r}. To go on with it here, set machine = {then!r} (MACHINE in the notebook, --machine "
            "on the command line); or give another run name."
        )
    for name in sorted({*saved, *now}):
        if saved.get(name) != now.get(name):
            raise LabError(
                f"The checkpoints of run {run!r} were made with {name} = {saved.get(name)!r}, not "
                f"{now.get(name)!r}. Give these settings a run name of their own, or set {name} back."
            )


def count(store: Store, run: str) -> int:
    """How many checkpoints of a run are on the store."""
    return len(store.list_files(_name(run)))


def keep_newest(store: Store, run: str) -> None:
    """Of a run that is finished, one checkpoint is enough."""
    store.prune_files(_name(run), 1)


def _name(run: str) -> str:
    """Of a run's checkpoints among the files of the store."""
    return f"checkpoint_{run}"
