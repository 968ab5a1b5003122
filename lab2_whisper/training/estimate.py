"""How many clips a GPU holds at once, and how long they take: found by passes over noise."""

from __future__ import annotations

import math
import shutil
import time
from pathlib import Path

import numpy as np
import torch
from accelerate import PartialState
from accelerate.utils import gather

from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import WINDOW_SECONDS
from lab2_whisper.training import checkpoints
from lab2_whisper.training.audio_context import Vocabulary, dtype_of, window
from lab2_whisper.training.dataset import decoder_inputs
from lab2_whisper.training.evaluation import evaluate, load_whisper
from lab2_whisper.training.presets import Preset, adapt, forecast, largest_batch
from lab2_whisper.training.run import Run, preset_for
from labstore import Store
from labstore.files import FileStore

DRY_SECONDS = 10  # of the clips of a dry run; longer ones are heard fewer at once


def devices() -> PartialState:
    """This process's device and how many there are: a GPU each, or a CPU.

    Several in one process are not used, `accelerate launch` starts one for each; nor is an Apple
    GPU, on which nobody has tried this.
    """
    return PartialState(cpu=not torch.cuda.is_available())


def find_batch_size(model, preset: Preset) -> int:
    """The clips at once that the GPU's memory holds; on a CPU, this process's share of a step."""
    state = devices()
    share = max(1, preset.clips_per_step // state.num_processes)
    if state.device.type == "cpu":
        return share
    model.to(state.device)

    def runs(clips: int) -> None:
        dry_step(model, preset, clips, DRY_SECONDS)
        dry_step(model, preset, max_batch_size(clips, WINDOW_SECONDS), WINDOW_SECONDS)

    found = torch.tensor([largest_batch(runs, share)], device=state.device)
    batch = int(gather(found).min())  # the same on every device
    print(f"{batch} clips of {DRY_SECONDS} s at once fit into {torch.cuda.get_device_name()}.")
    return batch


def max_batch_size(batch: int, seconds: float) -> int:
    """How many clips need as much memory as `batch` clips of the dry run."""
    return max(1, min(batch, int(batch * DRY_SECONDS / seconds)))


def seconds_a_clip(model, preset: Preset, clips: int, seconds: float) -> float:
    """Of a forward and backward pass, once it is warm."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        dry_step(model, preset, clips, seconds)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times) / clips


def dry_step(model, preset: Preset, clips: int, seconds: float, tokens: int = 100) -> None:
    """One forward and backward pass on noise, in the preset's precision, and nothing learned.

    The optimizer's state and the gradients of earlier clips take their room from its start, as they
    do from a step's second batch on.
    """
    device = next(model.parameters()).device
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    features = torch.randn(clips, bare.config.num_mel_bins, round(seconds * 100), device=device)
    labels = torch.full((clips, tokens), 50, device=device)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    size = optimizer_bytes(model, preset.optimizer)
    room = torch.empty(size, dtype=torch.uint8, device=device)
    if preset.gradient_checkpointing:
        model.activation_checkpointing_enable({"use_reentrant": False})
    model.train()
    half = getattr(torch, preset.precision)
    mixed = torch.autocast(device.type, half, enabled=half != torch.float32)
    vocabulary = Vocabulary(bare)
    try:
        for weight in trained:
            weight.grad = torch.zeros_like(weight)
        with window(bare, features.shape[-1]), vocabulary.fewer_logits(bare), mixed:
            logits = model(
                input_features=features.to(dtype_of(bare)),
                decoder_input_ids=decoder_inputs(labels, bare.config),
                use_cache=False,
            ).logits
        (vocabulary.cross_entropy(logits, labels) / labels.numel()).backward()
    finally:
        model.zero_grad(set_to_none=True)
        del room


def optimizer_bytes(model, optimizer: str) -> int:
    """Of Adam's state: two numbers for each trained weight, of four bytes or, in 8 bits, of one.

    transformers has bitsandbytes keep those of embeddings at four bytes.
    """
    eight = "8bit" in optimizer
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    trained = (weight for weight in model.parameters() if weight.requires_grad)
    return sum(w.numel() * (2 if eight and id(w) not in tables else 8) for w in trained)


def estimate(
    store: Store, run: Run, cache_dir: str | Path | None = None, minutes: float | None = None
) -> str:
    """What a run will take on this machine, in words, from what is timed now.

    A few passes of training, and some clips of validation that are heard. Reading is not in it.
    `minutes` are those of a session, as for train().
    """
    model, tokenizer = load_whisper(run.model, run.language)
    preset = preset_for(model, run)
    corpus = run.corpora[0][0]
    heard = open_corpus(store, corpus, "validation", cache_dir=cache_dir)
    times = 1 + -(-run.steps // run.evaluate_every)  # the baseline is one
    scored = times * min(len(heard), run.validation_clips)
    scored += 2 * len(open_corpus(store, corpus, "test", cache_dir=cache_dir))
    half, device = getattr(torch, preset.precision), devices().device
    with torch.autocast(device.type, half, enabled=half != torch.float32):  # as at validation
        a_clip = _seconds_heard((model, tokenizer), heard, run.language)
    model = adapt(model, preset).to(device)
    batch = run.batch_size or find_batch_size(model, preset)
    rows = open_corpus(store, corpus, "train", cache_dir=cache_dir).select_columns("seconds")
    share = run.full_windows if run.short_audio_context else 1.0
    full = seconds_a_clip(model, preset, max_batch_size(batch, WINDOW_SECONDS), WINDOW_SECONDS)
    seconds = min(WINDOW_SECONDS, math.ceil(np.mean(rows["seconds"]) + 1))
    short = seconds_a_clip(model, preset, max_batch_size(batch, seconds), seconds)
    a_step = preset.clips_per_step * ((1 - share) * short + share * full)
    hours = forecast(a_step, run.steps, scored * a_clip, (minutes or 240) / 60)
    room = _room(store, run.name, checkpoint_gb(model, preset))
    return f"{preset.method}, {batch} clips at once. {hours}. {room}"


def _room(store: Store, run: str, a_checkpoint: float) -> str:
    """What the checkpoints of a run will take of the store's disk, GB, in words."""
    said = f"A checkpoint takes {a_checkpoint:.1f} GB on the store, and two are kept"
    if not isinstance(store, FileStore):
        return f"{said}."
    free = shutil.disk_usage(store.root).free / 1e9
    wanted = a_checkpoint * (checkpoints.GENERATIONS - checkpoints.count(store, run))
    if wanted <= free:
        return f"{said}: {free:.1f} GB are free."
    return (
        f"{said}, but only {free:.1f} GB are free: make room first, or choose a smaller model or "
        "another store."
    )


def _seconds_heard(model: tuple, clips, language: str, some: int = 16) -> float:
    """Of one clip in a window of 30 s, once it is warm."""
    for _ in range(2):
        started = time.perf_counter()
        count = len(evaluate(model, clips.select(range(min(some, len(clips)))), language).table)
    return (time.perf_counter() - started) / count


def checkpoint_gb(model, preset: Preset) -> float:
    """Weights, the best weights and the optimizer's state; of LoRA, its adapters' alone."""
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    kept = trained if preset.method == "lora" else model.num_parameters()
    return (2 * 4 * kept + optimizer_bytes(model, preset.optimizer)) / 1e9
