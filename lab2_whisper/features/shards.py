"""Clips to compressed audio and text in a few large shards on the store.

    build_corpus(store, source, "nano_pl")       source -> shards and one version that lists them

A shard is named after what its source says of its clips (for files on disk also their size and
time) and the recipe, so one that the store already has is never made again: after a kill the same
call goes on where it was, and a recording that was mended is read anew. One shard at a time lies
in a temporary folder.
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
from concurrent.futures import Executor, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import astuple, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from tqdm.auto import tqdm

from lab2_whisper.features.clips import DEFAULT, Recipe, Row, prepare
from lab2_whisper.features.sources import Clip, Drop, Source
from lab2_whisper.schema import COLUMNS, LabError
from lab2_whisper.text import normalise, text_problem
from labstore import Damaged, FilesVersion, NotFound, Store
from labstore.contract import check_name

SHARD_MB = 200
FINGERPRINT = 12  # characters that tell shards apart, at the end of its name
BATCH = 16  # clips that a process gets at once, and rows of an Arrow batch
ARROW = pa.schema([(name, getattr(pa, type_)()) for name, type_ in COLUMNS.items()])


@dataclass(frozen=True)
class Shard:
    """Clips that are stored together, under a name made from them and the recipe."""

    name: str
    clips: tuple[Clip, ...]


@dataclass(frozen=True)
class Plan:
    """What a corpus will consist of. The same source and recipe give the same plan."""

    corpus: str
    source: Source
    recipe: Recipe
    shards: tuple[Shard, ...]
    drops: tuple[Drop, ...]  # for their text; sound is looked at when a shard is made


def build_corpus(
    store: Store,
    source: Source,
    name: str,
    recipe: Recipe = DEFAULT,
    *,
    processes: int | None = None,
    shard_mb: float = SHARD_MB,
) -> FilesVersion:
    """Store a source's clips as the corpus `name`, on all cores, and return its version.

    Its metadata tell clips, seconds, dropped (a count by reason), recipe and shards; its file
    dropped.tsv lists each clip left out. Run again after an interruption, it makes only the
    shards that are missing; run again after success, it returns the version there is.
    """
    plan = plan_corpus(source, name, recipe, shard_mb)
    stored = {shard.name: _stored(store, shard) for shard in plan.shards}
    missing = [shard for shard in plan.shards if not stored[shard.name]]
    sounds = source.read(clip for shard in missing for clip in shard.clips)  # one pass for all
    total = sum(len(shard.clips) for shard in missing)
    with _workers(processes) as workers, tqdm(total=total, desc=name, unit=" clips") as bar:
        for shard in missing:
            some = itertools.islice(sounds, len(shard.clips))
            batches = _prepared(plan, some, workers)
            stored[shard.name] = _save_shard(store, plan, shard, _counted(batches, bar))
    return finish_corpus(store, plan, list(stored.values()))


def plan_corpus(
    source: Source, name: str, recipe: Recipe = DEFAULT, shard_mb: float = SHARD_MB
) -> Plan:
    """List a source, check every text, and divide the clips into shards of about `shard_mb`."""
    check_name(f"{name}_{'0' * FINGERPRINT}")  # before the work, which may be long
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
    """One shard of a plan, for machines that share the work: made unless the store has it."""
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
        raise LabError(f"No clip of {plan.source.name} could be kept ({reasons or 'none listed'}).")
    try:
        latest = store.open_files(plan.corpus)
        if latest.metadata == metadata:
            return latest
    except (NotFound, Damaged):
        pass
    # read before the folder is made: a shard that cannot be read is no full disk
    lines = [(shard.path / "dropped.tsv").read_text(encoding="utf-8") for shard in shards]
    text = _drop_lines(plan.drops) + "".join(lines)
    with _temporary_folder() as folder:
        (folder / "dropped.tsv").write_text("clip_id\treason\tdetail\n" + text, encoding="utf-8")
        return store.save_files(plan.corpus, folder, metadata)


def _clips_per_shard(source: Source, clips: list[Clip], recipe: Recipe, shard_mb: float) -> int:
    """By the size of the first clips, encoded: lengths differ too much between corpora."""
    rows = prepare(list(source.read(clips[:64])), recipe)
    sizes = [len(row["audio"]) for row in rows if not isinstance(row, Drop)]
    return max(1, int(shard_mb * 1e6 / np.mean(sizes))) if sizes else 10_000


def _fingerprint(source: Source, recipe: Recipe, clips: Iterable[Clip]) -> str:
    content = [source.name, source.locale, recipe.settings(), [astuple(clip) for clip in clips]]
    return hashlib.sha256(json.dumps(content).encode()).hexdigest()[:FINGERPRINT]


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
            raise LabError(f"{plan.source.name} changed while it was read. Run this again.")
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
    """A folder that is removed again; a full disk becomes one clear sentence."""
    try:
        with tempfile.TemporaryDirectory(prefix="whisper-") as folder:
            yield Path(folder)
    except OSError as error:
        raise LabError(
            f"A shard could not be written ({error.strerror or error}; {error.filename or 'disk'})."
            " Free some space, or set TMPDIR to a larger disk, and run this again: the shards in "
            "the store are kept."
        ) from None


@dataclass(frozen=True)
class _Pool:
    executor: Executor
    processes: int


@contextmanager
def _workers(processes: int | None) -> Iterator[_Pool | None]:
    """A pool of processes, or None for one. Spawned: a fork next to torch's threads can hang."""
    processes = processes or os.cpu_count() or 1
    if processes == 1:
        yield None
        return
    spawn = multiprocessing.get_context("spawn")
    try:
        with ProcessPoolExecutor(processes, mp_context=spawn) as pool:
            yield _Pool(pool, processes)
    except BrokenProcessPool:
        raise LabError(
            "A worker process died, of memory or of a clip. Run this again: finished shards are "
            "kept. With processes=1 the clip shows itself."
        ) from None


def _prepared(plan: Plan, sounds: Iterable, workers: _Pool | None) -> Iterator[list]:
    """`prepare` of each batch, in order, with two batches a process in memory at a time."""
    batches = iter(lambda: list(itertools.islice(sounds, BATCH)), [])
    if workers is None:
        yield from (prepare(batch, plan.recipe) for batch in batches)
        return
    pending = deque()
    for batch in batches:
        pending.append(workers.executor.submit(prepare, batch, plan.recipe))
        if len(pending) >= 2 * workers.processes:
            yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _counted(batches: Iterable[list], bar: tqdm) -> Iterator[list]:
    for batch in batches:
        yield batch
        bar.update(len(batch))
