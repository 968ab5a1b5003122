"""Checkpoints that outlive the machine: one archive each on the store, two generations kept.

publish(store, "run", folder, settings)          after the trainer has written a checkpoint
latest_valid(store, "run", folder, settings)     the newest intact one, unpacked, or None
unpublished(store, "run", folder, settings)      a newer one on this disk that the store lacks, or None

`settings` are those of run.stored_settings: a run resumes only with the settings it began with.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
import tarfile
import tempfile
from pathlib import Path, PurePosixPath
from typing import Any

from safetensors import SafetensorError, safe_open

from lab2_whisper.features.archives import PIECE_BYTES, plain_files
from lab2_whisper.schema import LabError
from lab2_whisper.training.run import field_name
from labstore import Damaged, NotFound, NotWritable, Store, Unreachable

GENERATIONS = 2
ARCHIVE = "checkpoint.tar"
UNPUBLISHED = "unpublished.json"  # beside a checkpoint's folder until the store has it
BEST = "kept/best"  # the best weights so far; deeper than where transformers looks for adapters
WEIGHTS = ("model.safetensors", "model.safetensors.index.json", "adapter_model.safetensors")
STATES = ("optimizer.pt", "scheduler.pt", "trainer_state.json")
MAX_STEP = 10**12
MAX_STATE_BYTES = 32 << 20  # of trainer_state.json, a log of at most some thousand evaluations
MAX_FILES, MAX_DEPTH = 1_000, 4  # in an archive; kept/best is at depth 2
NAME = re.compile(r"\w[\w.-]{0,99}", re.ASCII)  # of a file or folder in an archive


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
        # dereference: a link would not be unpacked
        with tarfile.open(Path(temporary) / ARCHIVE, "w", dereference=True) as tar:
            tar.add(folder, arcname=".")
        store.save_files(_name(run), Path(temporary), {"settings": settings, "step": step(folder)})
    note.unlink()
    store.prune_files(_name(run), GENERATIONS)


def try_publish(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> None:
    """Publish a checkpoint; where the store is full or out of reach, print so and go on training."""
    try:
        publish(store, run, folder, settings)
    except (NotWritable, Unreachable) as error:
        print(f"This checkpoint was not published; training continues to the next one: {error}")


def unpublished(store: Store, run: str, folder: Path, settings: dict[str, Any]) -> Path | None:
    """Return the intact checkpoint in `folder` with these settings that is newer than the store's.

    None where there is none. It was not published because the store was full or the process was
    killed.
    """
    try:
        note = json.loads((folder / UNPUBLISHED).read_text(encoding="utf-8"))
        then, reached = _settings_and_step(note)
        left = folder / f"checkpoint-{reached}"
        check(left)
    except (OSError, ValueError, RecursionError, LabError):
        return None
    if then != settings:
        return None
    with contextlib.suppress(NotFound, Damaged, Incomplete):
        newest = store.open_files(_name(run)).metadata
        then, published = _settings_and_step(newest)
        if then != settings or published >= reached:
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
        target = None
        try:
            saved = store.open_files(_name(run), version)
            then, reached = _settings_and_step(saved.metadata)
            _require_same_settings(run, then, settings)
            target = folder / f"checkpoint-{reached}"
            _unpack(saved.path / ARCHIVE, target)
            check(target)
            return target
        except (Damaged, tarfile.TarError, OSError, Incomplete) as error:
            print(f"Checkpoint {version} of {run} is damaged and skipped: {error}")
            if target:
                shutil.rmtree(target, ignore_errors=True)
    if versions:
        raise LabError(
            f"None of the {len(versions)} checkpoints of run {run!r} can be read. If the disk is full, or "
            "Drive is not mounted or still busy, free some space or wait, and run this again. "
            "Otherwise start again under another run name."
        )
    return None


def _unpack(archive: Path, target: Path) -> None:
    """Write the plain files of an archive to a new folder, under names that a trainer gives.

    The archive is not compressed and has no links, so it unpacks to no more than the bytes in its
    manifest. Raises Incomplete for other names, OSError and tarfile.TarError for damage.
    """
    shutil.rmtree(target, ignore_errors=True)
    target.mkdir(parents=True)  # it fails where a link is in its place
    with archive.open("rb") as file:
        for count, (name, content) in enumerate(plain_files(file), 1):
            parts = PurePosixPath(name).parts
            if count > MAX_FILES or len(parts) > MAX_DEPTH or not all(map(NAME.fullmatch, parts)):
                raise Incomplete(f"{archive} holds {name!r:.100}, not a trainer's file")
            path = target.joinpath(*parts)
            path.parent.mkdir(parents=True, exist_ok=True)
            with path.open("xb") as unpacked:  # "x": no name is there twice
                shutil.copyfileobj(content, unpacked, PIECE_BYTES)


def check(folder: Path) -> None:
    """Check that a trainer's checkpoint is complete.

    Raises Incomplete where files are missing or damaged. Raises LabError where it was saved without
    its optimizer: transformers would resume from it with a new one and say nothing.
    """
    there = {path.name for path in folder.iterdir() if path.is_file() and path.stat().st_size}
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
    path = folder / "trainer_state.json"
    try:
        if path.stat().st_size > MAX_STATE_BYTES:
            raise Incomplete(f"{path} is larger than {MAX_STATE_BYTES >> 20} MiB")
        state = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise Incomplete(f"{path} cannot be read ({error})") from error
    return _whole_step(state.get("global_step") if isinstance(state, dict) else None, str(path))


def _settings_and_step(stored: Any) -> tuple[dict[str, Any], int]:
    """Return what a checkpoint was stored with. Raises Incomplete where that is not what we store."""
    match stored:
        case {"settings": dict(settings), "step": reached}:
            if isinstance(settings.get("preset", {}), dict):
                return settings, _whole_step(reached, "Its manifest")
    raise Incomplete("Its manifest lacks the settings or the step")


def _whole_step(value: Any, where: str) -> int:
    """Return a training step, which becomes part of a path. Raises Incomplete for anything else."""
    if type(value) is not int or not 0 <= value <= MAX_STEP:
        raise Incomplete(f"{where} gives the step as {value!r:.50}, not as a whole number")
    return value


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
