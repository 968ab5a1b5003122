"""How many clips a GPU holds at once, and how long they take: found by passes over noise."""

from __future__ import annotations

import time

import torch
from accelerate import PartialState
from accelerate.utils import gather

from lab2_whisper.context import Vocabulary, dtype_of, window
from lab2_whisper.dataset import decoder_inputs
from lab2_whisper.presets import Preset, largest_batch
from lab2_whisper.schema import WINDOW_SECONDS

DRY_SECONDS = 10  # of the clips of a dry run; longer ones are heard fewer at once


def devices() -> PartialState:
    """This process's device and how many there are: a GPU each, or a CPU.

    Several in one process are not used, `accelerate launch` starts one for each; nor is an Apple
    GPU, on which nobody has tried this.
    """
    return PartialState(cpu=not torch.cuda.is_available())


def find_batch(model, preset: Preset) -> int:
    """The clips at once that the GPU's memory holds; on a CPU, this process's share of a step."""
    state = devices()
    share = max(1, preset.clips_per_step // state.num_processes)
    if state.device.type == "cpu":
        return share
    model.to(state.device)

    def runs(clips: int) -> None:
        dry_step(model, preset, clips, DRY_SECONDS)
        dry_step(model, preset, clips_at_once(clips, WINDOW_SECONDS), WINDOW_SECONDS)

    found = torch.tensor([largest_batch(runs, share)], device=state.device)
    batch = int(gather(found).min())  # the same on every device
    print(f"{batch} clips of {DRY_SECONDS} s at once fit into {torch.cuda.get_device_name()}.")
    return batch


def clips_at_once(batch: int, seconds: float) -> int:
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
