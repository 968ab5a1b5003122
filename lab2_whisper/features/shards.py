"""Clips to compressed audio and text in a few large shards on the store.

    build_corpus(store, source, "nano_pl")       source -> shards and one version that lists them

A shard is named after its clips as the source lists them (for files on disk with size and time)
and the recipe, so a shard that is already on the store is never made again: after a kill the same
call continues where it stopped, and a recording that was replaced is read again. Only one shard at
a time is in a temporary folder.
"""

from __future__ import annotations

import hashlib
import itertools
import json
import multiprocessing
import os
import tempfile
from collections import Counter, deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Executor, Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from lab2_whisper.features.clips import DEFAULT, Recipe, Row, prepare
from lab2_whisper.features.sources import Clip, Drop, Read, Source
from lab2_whisper.schema import COLUMNS, LabError
from lab2_whisper.text import normalise, text_problem
from labstore import Damaged, FilesVersion, NotFound, Store
from labstore.contract import check_name

SHARD_MB = 200
FINGERPRINT_CHARS = 12  # at the end of a shard's name
BATCH_CLIPS = 16  # of one task for a worker process, and of an Arrow batch
ARROW = pa.schema([(name, getattr(pa, type_)()) for name, type_ in COLUMNS.items()])


@dataclass(frozen=True)
class Shard:
    """Clips that are stored together, under a name derived from them and the recipe."""

    name: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Plan:
    """What a corpus will consist of. The same source and recipe give the same plan."""

    corpus: str
    source: Source
    recipe: Recipe
    shards: tuple[Shard, ...]
    drops: tuple[Drop, ...]  # for their text; audio is checked when a shard is made


def build_corpus(
    store: Store,
    source: Source,
    name: str,
    recipe: Recipe = DEFAULT,
    *,
    processes: int | None = None,
    shard_mb: float = SHARD_MB,
) -> FilesVersion:
    """Store a source's clips as the corpus `name` and return its version.

    All cores work on it, or as many `processes` as given. The version's metadata hold clips,
    seconds, dropped (a count by reason), recipe and shards; its file dropped.tsv lists each clip
    left out. Run again after an interruption, this makes only the shards that are missing; run
    again after success, it returns the version there is. Raises LabError where no clip can be
    used, the disk is full or a worker process dies.
    """
    plan = plan_corpus(source, name, recipe, shard_mb)
    stored = {shard.name: _stored(store, shard) for shard in plan.shards}
    missing = [shard for shard in plan.shards if not stored[shard.name]]
    read = source.read(clip for shard in missing for clip in shard.clips)  # one pass for all
    total = sum(len(shard.clips) for shard in missing)
    with _workers(processes) as workers, tqdm(total=total, desc=name, unit=" clips") as bar:
        for shard in missing:
            some = itertools.islice(read, len(shard.clips))
            batches = _prepared(plan, some, workers)
            stored[shard.name] = _save_shard(store, plan, shard, _counted(batches, bar))
    return finish_corpus(store, plan, [version for version in stored.values() if version])


def plan_corpus(
    source: Source, name: str, recipe: Recipe = DEFAULT, shard_mb: float = SHARD_MB
) -> Plan:
    """List a source, check every text, and divide the clips into shards of about `shard_mb`."""
    check_name(f"{name}_{'0' * FINGERPRINT_CHARS}")  # before the work, which may take hours
    listed, drops = source.listing()
    clips = []
    for clip in listed:
        text = normalise(clip.text)
        problem = text_problem(text, source.locale)
        if problem:
            drops.append(Drop(clip.clip_id, problem, text))
        else:
            clips.append(replace(clip, text=text))
    size = _clips_per_shard(source, clips, recipe, shard_mb)
    parts = [tuple(clips[i : i + size]) for i in range(0, len(clips), size)]
    shards = [Shard(f"{name}_{_fingerprint(source, recipe, part)}", part) for part in parts]
    return Plan(name, source, recipe, tuple(shards), tuple(drops))


def build_shard(store: Store, plan: Plan, shard: Shard, processes: int = 1) -> FilesVersion:
    """Make one shard of a plan unless the store has it, for machines that share the work."""
    found = _stored(store, shard)
    if found:
        return found
    with _workers(processes) as workers:
        batches = _prepared(plan, plan.source.read(shard.clips), workers)
        return _save_shard(store, plan, shard, batches)


def finish_corpus(store: Store, plan: Plan, shards: list[FilesVersion]) -> FilesVersion:
    """Save the version that lists a corpus's shards, unless the latest one is the same."""
    dropped = Counter(drop.reason for drop in plan.drops)
    for shard in shards:
        dropped.update(shard.metadata["dropped"])
    metadata = {
        **_origin(plan),
        "clips": sum(shard.metadata["clips"] for shard in shards),
        "seconds": round(sum(shard.metadata["seconds"] for shard in shards), 2),
        "dropped": dict(dropped),
        "shards": [[shard.name, shard.version] for shard in shards],
    }
    if not metadata["clips"]:
        reasons = ", ".join(f"{reason} {n}" for reason, n in dropped.most_common())
        raise LabError(f"No clip of {plan.source.name} can be used ({reasons or 'none listed'}).")
    try:
        latest = store.open_files(plan.corpus)
        if latest.metadata == metadata:
            return latest
    except (NotFound, Damaged):
        pass
    # read outside _temporary_folder, which would take an unreadable shard for a full disk
    lines = [(shard.path / "dropped.tsv").read_text(encoding="utf-8") for shard in shards]
    text = _drop_lines(plan.drops) + "".join(lines)
    with _temporary_folder() as folder:
        (folder / "dropped.tsv").write_text("clip_id\treason\tdetail\n" + text, encoding="utf-8")
        return store.save_files(plan.corpus, folder, metadata)


def _clips_per_shard(source: Source, clips: list[Clip], recipe: Recipe, shard_mb: float) -> int:
    """Estimate it from the first clips, encoded: clips of another corpus may be much longer."""
    rows = prepare(list(source.read(clips[:64])), recipe)
    sizes = [len(row["audio"]) for row in rows if not isinstance(row, Drop)]
    return max(1, int(shard_mb * 1e6 / np.mean(sizes))) if sizes else 10_000


def _fingerprint(source: Source, recipe: Recipe, clips: Iterable[Clip]) -> str:
    content = [source.name, source.locale, recipe.settings(), [astuple(clip) for clip in clips]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:FINGERPRINT_CHARS]


def _stored(store: Store, shard: Shard) -> FilesVersion | None:
    try:
        return store.open_files(shard.name)
    except (NotFound, Damaged):  # a damaged one is made again
        return None


def _save_shard(
    store: Store, plan: Plan, shard: Shard, batches: Iterable[list[Row | Drop]]
) -> FilesVersion:
    seconds, clips, drops = 0.0, 0, []
    names = {"source": plan.source.name, "locale": plan.source.locale}
    with _temporary_folder() as folder:
        with pa.ipc.new_stream(str(folder / "clips.arrow"), ARROW) as file:
            for batch in batches:
                rows = [row | names for row in batch if not isinstance(row, Drop)]
                drops += [row for row in batch if isinstance(row, Drop)]
                file.write_batch(pa.RecordBatch.from_pylist(rows, ARROW))
                seconds, clips = seconds + sum(r["seconds"] for r in rows), clips + len(rows)
        if clips + len(drops) != len(shard.clips):
            raise LabError(f"{plan.source.name} changed while being read. Run this again.")
        (folder / "dropped.tsv").write_text(_drop_lines(drops), encoding="utf-8")
        metadata = {
            **_origin(plan),
            "clips": clips,
            "seconds": round(seconds, 2),
            "dropped": dict(Counter(drop.reason for drop in drops)),
        }
        return store.save_files(shard.name, folder, metadata)


def _origin(plan: Plan) -> dict[str, Any]:
    source = plan.source
    return {"source": source.name, "locale": source.locale, "recipe": plan.recipe.settings()}


def _drop_lines(drops: Iterable[Drop]) -> str:
    fields = ([" ".join(field.split()) for field in astuple(drop)] for drop in drops)
    return "".join("\t".join(line) + "\n" for line in fields)


@contextmanager
def _temporary_folder() -> Iterator[Path]:
    """Make a folder that is removed at the end. Raises LabError where the disk is full."""
    try:
        with tempfile.TemporaryDirectory(prefix="whisper-") as folder:
            yield Path(folder)
    except OSError as error:
        raise LabError(
            f"A shard could not be written ({error.strerror or error}; {error.filename or 'disk'})."
            " Free some space, or set TMPDIR to a larger disk, and run this again: the shards on "
            "the store are kept."
        ) from error


@dataclass(frozen=True)
class _Pool:
    executor: Executor
    processes: int


@contextmanager
def _workers(processes: int | None) -> Iterator[_Pool | None]:
    """Start a pool of processes; None to work in this process alone."""
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        yield None
        return
    spawn = multiprocessing.get_context("spawn")  # a fork beside torch's threads can hang
    try:
        with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
            yield _Pool(pool, processes)
    except BrokenProcessPool as error:
        raise LabError(
            "A worker process died, for lack of memory or because of a clip. Run this again: "
            "finished shards are kept. processes=1 shows which clip it is."
        ) from error


def _prepared(plan: Plan, read: Read, workers: _Pool | None) -> Iterator[list[Row | Drop]]:
    """Prepare clips in batches, in order; two batches for each process are in memory at a time."""
    batches = iter(lambda: list(itertools.islice(read, BATCH_CLIPS)), [])
    if workers is None:
        yield from (prepare(batch, plan.recipe) for batch in batches)
        return
    pending: deque[Future[list[Row | Drop]]] = deque()
    for batch in batches:
        try:
            pending.append(workers.executor.submit(prepare, batch, plan.recipe))
        except OSError as error:  # "handle is closed" as a worker dies: bpo-39995, CPython 3.11.7
            raise BrokenProcessPool from error
        if len(pending) >= 2 * workers.processes:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _counted(batches: Iterable[list[Row | Drop]], bar: tqdm) -> Iterator[list[Row | Drop]]:
    for batch in batches:
        yield batch
        bar.update(len(batch))
