"""The Whisper lab on Modal: features in parallel containers, training and transcription on GPUs.

    make deploy-modal-whisper       once: it also makes the volume
    modal volume put whisper-data cv-corpus-26.0-2026-06-12-pl.tar.gz
    modal run lab2_whisper/modal_app.py::features \
        --archive cv-corpus-26.0-2026-06-12-pl.tar.gz --corpus common_voice_pl
    modal run --detach lab2_whisper/modal_app.py::training --corpus common_voice_pl \
        --model openai/whisper-small --name small_pl
    modal volume put whisper-data interviews
    modal run lab2_whisper/modal_app.py::subtitles --folder interviews --corpus common_voice_pl

The volume holds the archive, and the store in its folder `store`. Run again after a failure: the
features make only the missing shards, and a training resumes from its newest checkpoint.
"""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import modal

from lab2_whisper.features.shards import Plan, Shard, build_shard, finish_corpus, plan_corpus
from lab2_whisper.features.sources import common_voice
from lab2_whisper.inference.subtitles import WRITERS, cues
from lab2_whisper.inference.transcribe import load_from_store, transcribe
from lab2_whisper.schema import LANGUAGE
from lab2_whisper.training import publish
from lab2_whisper.training.evaluation import evaluate_before_after
from lab2_whisper.training.loop import train
from lab2_whisper.training.run import Run
from labstore import FilesVersion, open_store

DATA = "/data"
CORES = 4
GPU = "L4"
SESSION_MINUTES = 220  # less than the function's timeout, which would end it without saving

app = modal.App("whisper")
volume = modal.Volume.from_name("whisper-data", create_if_missing=True)
image = (
    modal.Image.debian_slim(python_version="3.11")
    .uv_pip_install(
        "accelerate==1.15.0",
        "av==18.1.0",
        "bitsandbytes==0.50.2",
        "ctranslate2==4.8.5",
        "datacollective==0.7.0",
        "datasets==5.2.0",
        "evaluate==0.4.6",
        "faster-whisper==1.2.1",
        "huggingface_hub==2.4.0",
        "jiwer==4.0.0",
        "librosa==0.11.0",
        "matplotlib==3.11.2",
        "numpy==2.4.6",
        "pandas==2.3.3",
        "pandera==0.35.0",
        "peft==0.21.2",
        "pyarrow==25.0.1",
        "pysubs2==1.8.1",
        "torch==2.13.0",
        "tqdm==4.70.1",
        "transformers==5.23.0",
    )
    .add_local_python_source("labstore", "lab2_whisper")
)


@app.function(image=image, volumes={DATA: volume}, timeout=2 * 3600)
def plan_shards(archive: str, corpus: str, locale: str) -> Plan:
    """List an archive's clips and divide them into shards. `archive` is a path in the container."""
    return plan_corpus(common_voice(archive, locale), corpus)


@app.function(image=image, volumes={DATA: volume}, cpu=CORES, timeout=2 * 3600, retries=2)
def make_shard(plan: Plan, shard: Shard, store: str, processes: int = CORES) -> FilesVersion:
    """Make and save one shard, with the functions that build_corpus uses.

    build_corpus reads an archive once; here each container reads it up to its own clips.
    """
    made = build_shard(open_store(store), plan, shard, processes)
    if not modal.is_local():
        volume.commit()  # before `finish` reads it
    return made


@app.function(image=image, volumes={DATA: volume}, timeout=3600)
def finish(plan: Plan, shards: list[FilesVersion], store: str) -> FilesVersion:
    """Save the version of the corpus that lists the shards."""
    if not modal.is_local():
        volume.reload()  # other containers wrote the shards
    return finish_corpus(open_store(store), plan, shards)


@app.local_entrypoint()
def features(archive: str, corpus: str, locale: str = "pl") -> None:
    """Build a corpus from a Common Voice archive on the volume, a container for each shard."""
    store = f"{DATA}/store"
    plan = plan_shards.remote(f"{DATA}/{archive}", corpus, locale)
    light = replace(plan, shards=())
    shards = list(make_shard.starmap((light, shard, store) for shard in plan.shards))
    print(finish.remote(light, shards, store).metadata)


@app.function(
    image=image,
    gpu=GPU,
    cpu=CORES,
    volumes={DATA: volume},
    timeout=4 * 3600,
    retries=modal.Retries(max_retries=5, initial_delay=10.0),  # each resumes
)
def train_some(run: Run, store: str, minutes: float = SESSION_MINUTES) -> dict[str, float] | None:
    """Train for one session; return the registered model's metrics once finished, else None.

    On Modal an unfinished training starts its next session itself.
    """
    if not modal.is_local():
        volume.reload()  # another container wrote the checkpoint
    opened = open_store(store)
    outcome = train(opened, run, minutes, folder="/tmp/whisper")
    version = (
        publish.register(opened, outcome, evaluate_before_after(opened, outcome))
        if outcome.finished
        else None
    )
    if not modal.is_local():
        volume.commit()
        if version is None:
            train_some.spawn(run, store, minutes)
    print(version.metrics if version else f"Step {outcome.step}: the next session resumes here.")
    return version.metrics if version else None


@app.local_entrypoint()
def training(corpus: str, model: str, name: str, steps: int = 2000) -> None:
    """Fine-tune `model` on a corpus of the volume, under the run name `name`."""
    run = Run(name, model, corpora=((corpus, 1.0),), steps=steps)
    train_some.spawn(run, f"{DATA}/store")
    print(
        "It runs on Modal, for as many sessions as it takes. To follow it: "
        f"`modal app logs {app.app_id}`, or {app.get_dashboard_url()}"
    )


@app.function(image=image, gpu=GPU, volumes={DATA: volume}, timeout=2 * 3600, retries=2)
def transcribe_recording(
    recording: str, store: str, corpus: str, language: str = LANGUAGE
) -> dict[str, str]:
    """Return a recording's subtitles and text by format, from the best model tuned on a corpus."""
    transcriber = load_from_store(open_store(store), corpus)
    found = cues(transcribe(recording, transcriber, language))
    return {name: write(found) for name, write in WRITERS.items()}


@app.local_entrypoint()
def subtitles(folder: str, corpus: str, language: str = LANGUAGE, into: str = "texts") -> None:
    """Transcribe every recording of a folder on the volume, each in its own container."""
    recordings = sorted(entry.path for entry in volume.listdir(folder))
    jobs = [(f"{DATA}/{path}", f"{DATA}/store", corpus, language) for path in recordings]
    target = Path(into)
    target.mkdir(parents=True, exist_ok=True)
    results = transcribe_recording.starmap(jobs, return_exceptions=True)
    for path, texts in zip(recordings, results, strict=True):
        if isinstance(texts, Exception):  # one bad recording must not stop the others
            print(f"{path}: {texts}")
            continue
        for name, text in texts.items():
            (target / f"{Path(path).name}.{name}").write_text(text, encoding="utf-8")
        print(f"{path}: done")
