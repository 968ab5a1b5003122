"""The Whisper lab on Modal: the feature stage fanned out, a container for each shard.

    modal volume put whisper-data cv-corpus-26.0-2026-06-12-pl.tar.gz
    modal run lab2_whisper/modal_app.py --archive cv-corpus-26.0-2026-06-12-pl.tar.gz \
        --corpus common_voice_pl

The volume holds the archive and the store, in its folder `store`. Run again after a failure, it
makes only the shards that are missing.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import modal

from lab2_whisper.corpora import common_voice
from lab2_whisper.features import Plan, Shard, build_shard, finish_corpus, plan_corpus
from labstore import FilesVersion, open_store

DATA = "/data"
CORES = 4
PYPROJECT = Path(__file__).parent.parent / "pyproject.toml"

app = modal.App("whisper")
volume = modal.Volume.from_name("whisper-data", create_if_missing=True)
image = (
    modal.Image.debian_slim(python_version="3.11")
    .pip_install_from_pyproject(str(PYPROJECT), optional_dependencies=["whisper"])
    .add_local_python_source("labstore", "lab2_whisper")
)


@app.function(image=image, volumes={DATA: volume}, timeout=2 * 3600)
def plan_shards(archive: str, corpus: str, locale: str) -> Plan:
    """List the archive and divide it. `archive` is a path on the machine that runs this."""
    return plan_corpus(common_voice(archive, locale), corpus)


@app.function(image=image, volumes={DATA: volume}, cpu=CORES, timeout=2 * 3600, retries=2)
def make_shard(plan: Plan, shard: Shard, store: str, processes: int = CORES) -> FilesVersion:
    """One shard. Clips are prepared and saved by the functions that build_corpus uses.

    Where build_corpus reads an archive once, here each container reads it up to its own clips.
    """
    made = build_shard(open_store(store), plan, shard, processes)
    if not modal.is_local():
        volume.commit()  # before `finish` hears of it
    return made


@app.function(image=image, volumes={DATA: volume}, timeout=3600)
def finish(plan: Plan, shards: list[FilesVersion], store: str) -> FilesVersion:
    """Save the version that lists the shards."""
    if not modal.is_local():
        volume.reload()  # other containers wrote them
    return finish_corpus(open_store(store), plan, shards)


@app.local_entrypoint()
def features(archive: str, corpus: str, locale: str = "pl") -> None:
    store = f"{DATA}/store"
    plan = plan_shards.remote(f"{DATA}/{archive}", corpus, locale)
    light = replace(plan, shards=())
    shards = list(make_shard.starmap((light, shard, store) for shard in plan.shards))
    print(finish.remote(light, shards, store).metadata)
