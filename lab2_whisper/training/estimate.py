"""What a run needs before it starts: the batch size that fits, hours, and space for checkpoints.

All of it is measured on this machine, by passes over noise and some clips of validation.
"""

from __future__ import annotations

import gc
import math
import time
from collections.abc import Callable
from pathlib import Path

import datasets
import numpy as np
import torch
from accelerate.utils import gather
from accelerate.utils.memory import should_reduce_batch_size

from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import WINDOW_SECONDS, LabError
from lab2_whisper.training import checkpoints
from lab2_whisper.training.audio_context import Vocabulary, dtype_of, window
from lab2_whisper.training.dataset import decoder_inputs
from lab2_whisper.training.evaluation import Loaded, evaluate, load_whisper
from lab2_whisper.training.presets import Preset, adapt, devices
from lab2_whisper.training.run import Run, preset_for
from labstore import Store

TRIAL_SECONDS = 10  # length of the clips that a batch size is found with
MAX_SHARE_USED = 0.9  # of a GPU's memory: fragmentation grows with time
SAMPLE_CLIPS = 16  # of validation, transcribed to time one clip


# ------------------------------------------------------------------------------ batch size


def find_batch_size(model, preset: Preset) -> int:
    """Return the largest batch size that fits into every GPU; on a CPU, its share of a step.

    It counts clips of TRIAL_SECONDS. Raises LabError, in every process alike, where one GPU has no
    space for a single clip.
    """
    state = devices()
    share = max(1, preset.clips_per_step // state.num_processes)
    if not torch.cuda.is_available():
        return share
    model.to(state.device)

    def runs(batch_size: int) -> None:
        dry_step(model, preset, batch_size, TRIAL_SECONDS)
        dry_step(model, preset, max_batch_size(batch_size, WINDOW_SECONDS), WINDOW_SECONDS)

    found = torch.tensor([largest_batch(runs, share)], device=state.device)
    batch_size = int(gather(found).min())  # the same on every device
    if not batch_size:
        raise LabError(
            "Not even one clip fits into this GPU's memory. Choose a smaller model, or restart "
            "the session: another notebook may hold the memory."
        )
    state.print(
        f"Batch size {batch_size}: the most clips of {TRIAL_SECONDS} s that fit into "
        f"{torch.cuda.get_device_name()}."
    )
    return batch_size


def largest_batch(runs: Callable[[int], None], limit: int) -> int:
    """Return the largest divisor of `limit` at which `runs(batch_size)` does not run out of memory.

    0 where not even 1 fits. `runs` does the part of a training step that takes the most memory.
    """
    fits = 0
    for batch_size in (n for n in range(1, limit + 1) if limit % n == 0):
        if not _fits(runs, batch_size):
            break
        fits = batch_size
    return fits


def max_batch_size(batch_size: int, seconds: float) -> int:
    """Return how many clips of `seconds` need as much memory as `batch_size` of TRIAL_SECONDS."""
    return max(1, min(batch_size, int(batch_size * TRIAL_SECONDS / seconds)))


def _fits(runs: Callable[[int], None], batch_size: int) -> bool:
    gpu = torch.cuda.is_available()
    if gpu:  # what ran before must not count
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        runs(batch_size)
        fits = not gpu or _share_used() <= MAX_SHARE_USED
    except RuntimeError as error:  # cuDNN and cuBLAS report a lack of memory in other words
        if not (isinstance(error, torch.OutOfMemoryError) or should_reduce_batch_size(error)):
            raise
        fits = False
    if gpu:
        torch.cuda.empty_cache()
    return fits


def _share_used() -> float:
    allowed = torch.cuda.get_per_process_memory_fraction()
    total = torch.cuda.get_device_properties(torch.cuda.current_device()).total_memory
    return torch.cuda.max_memory_reserved() / (allowed * total)


def dry_step(model, preset: Preset, batch_size: int, seconds: float, tokens: int = 100) -> None:
    """Do one forward and backward pass on noise, in the preset's precision, and learn nothing.

    The optimizer's state and the gradients of earlier clips are allocated from the start, as they
    are from a step's second batch on.
    """
    device = next(model.parameters()).device
    bare = model.get_base_model() if hasattr(model, "get_base_model") else model
    frames = round(seconds * 100)
    features = torch.randn(batch_size, bare.config.num_mel_bins, frames, device=device)
    labels = torch.full((batch_size, tokens), 50, device=device)
    trained = [weight for weight in model.parameters() if weight.requires_grad]
    size = optimizer_bytes(model, preset.optimizer)
    optimizer_state = torch.empty(size, dtype=torch.uint8, device=device)
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
        del optimizer_state


def optimizer_bytes(model, optimizer: str) -> int:
    """Return the size of Adam's state: two floats for each trained weight, or two bytes in 8 bits.

    Embeddings keep floats with an 8-bit optimizer, too: transformers configures bitsandbytes so.
    """
    eight = "8bit" in optimizer
    tables = {id(m.weight) for m in model.modules() if isinstance(m, torch.nn.Embedding)}
    trained = (weight for weight in model.parameters() if weight.requires_grad)
    return sum(w.numel() * (2 if eight and id(w) not in tables else 8) for w in trained)


# ------------------------------------------------------------------------- hours and space


def estimate(
    store: Store, run: Run, cache_dir: str | Path | None = None, minutes: float | None = None
) -> str:
    """Return in words how long a run takes on this machine and what space its checkpoints need.

    A few training passes and some clips of validation are timed; reading the corpora is not.
    `minutes` is the length of a session, as for train().
    """
    model, tokenizer = load_whisper(run.model, run.language)
    preset = preset_for(model, run)
    corpus = run.corpora[0][0]
    validation = open_corpus(store, corpus, "validation", cache_dir=cache_dir)
    evaluations = 1 + math.ceil(run.steps / run.evaluate_every)  # the first is the baseline
    transcribed = evaluations * min(len(validation), run.validation_clips)
    transcribed += 2 * len(open_corpus(store, corpus, "test", cache_dir=cache_dir))
    half, device = getattr(torch, preset.precision), devices().device
    with torch.autocast(device.type, half, enabled=half != torch.float32):  # as during training
        seconds_per_clip = _seconds_per_transcript((model, tokenizer), validation, run.language)
    adapted = adapt(model, preset).to(device)
    batch_size = run.batch_size or find_batch_size(adapted, preset)
    rows = open_corpus(store, corpus, "train", cache_dir=cache_dir).select_columns("seconds")
    step = _seconds_per_step(adapted, preset, run, batch_size, float(np.mean(rows["seconds"])))
    session_hours = (minutes or 240) / 60
    hours = forecast(step, run.steps, transcribed * seconds_per_clip, session_hours)
    space = _space(store, run.name, checkpoint_gb(adapted, preset))
    return f"{preset.method}, batch size {batch_size}. {hours}. {space}"


def _seconds_per_step(
    model, preset: Preset, run: Run, batch_size: int, clip_seconds: float
) -> float:
    """Return the time of an average step over clips that last `clip_seconds` on average."""
    full_share = run.full_windows if run.short_audio_context else 1.0
    short_window = min(WINDOW_SECONDS, math.ceil(clip_seconds + 1))
    full, short = (
        _seconds_per_clip(model, preset, max_batch_size(batch_size, seconds), seconds)
        for seconds in (WINDOW_SECONDS, short_window)
    )
    return preset.clips_per_step * ((1 - full_share) * short + full_share * full)


def _seconds_per_clip(model, preset: Preset, batch_size: int, seconds: float) -> float:
    """Time a forward and backward pass; the fastest of three, as the first ones warm up."""
    times = []
    for _ in range(3):
        started = time.perf_counter()
        dry_step(model, preset, batch_size, seconds)
        if torch.cuda.is_available():
            torch.cuda.synchronize()
        times.append(time.perf_counter() - started)
    return min(times) / batch_size


def _seconds_per_transcript(model: Loaded, clips: datasets.Dataset, language: str) -> float:
    """Time the transcription of a clip in a window of 30 s; the second run of two counts."""
    some = clips.select(range(min(SAMPLE_CLIPS, len(clips))))
    for _ in range(2):
        started = time.perf_counter()
        evaluate(model, some, language)
    return (time.perf_counter() - started) / len(some)


def forecast(
    seconds_per_step: float, steps: int, scoring_seconds: float = 0.0, session_hours: float = 4.0
) -> str:
    """Return in words how many hours and sessions a training and its evaluations take."""
    hours = (seconds_per_step * steps + scoring_seconds) / 3600
    sessions = max(1, math.ceil(hours / session_hours))
    return (
        f"{steps} steps of {seconds_per_step:.2f} s and {scoring_seconds / 3600:.1f} hours of "
        f"scoring: {hours:.1f} hours, {sessions} session(s) of {session_hours:.3g} hours"
    )


def checkpoint_gb(model, preset: Preset) -> float:
    """Return a checkpoint's size in GB: weights, best weights and optimizer; for LoRA, adapters."""
    trained = sum(weight.numel() for weight in model.parameters() if weight.requires_grad)
    saved = trained if preset.method == "lora" else model.num_parameters()
    return (2 * 4 * saved + optimizer_bytes(model, preset.optimizer)) / 1e9


def _space(store: Store, run: str, gb_per_checkpoint: float) -> str:
    """Return in words whether the store has space for a run's checkpoints."""
    size = f"A checkpoint takes {gb_per_checkpoint:.1f} GB on the store, and two are kept"
    free_bytes = store.free_bytes()
    if free_bytes is None:
        return f"{size}."
    free_gb = free_bytes / 1e9
    needed_gb = gb_per_checkpoint * (checkpoints.GENERATIONS - checkpoints.count(store, run))
    if needed_gb <= free_gb:
        return f"{size}: {free_gb:.1f} GB are free."
    return (
        f"{size}, but only {free_gb:.1f} GB are free: free some space first, or choose a smaller model or "
        "another store."
    )
