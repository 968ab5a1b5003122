"""What fits on which machine and is fastest there, a row each, and how it is found out.

Figures behind the rows: a T4 has 14.7 GiB and no bfloat16. Weights, gradients and optimizer take,
before any activation, 3.9 GB for small with AdamW, 12.2 GB for medium (5.8 GB with the encoder
frozen and an 8-bit optimizer), 3.1 GB for large with LoRA on a half-precision base.
"""

from __future__ import annotations

import gc
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Literal

import torch
from accelerate.utils.memory import should_reduce_batch_size

from lab2_whisper.schema import LabError


@dataclass(frozen=True)
class Preset:
    """How one size of model is trained on one kind of machine."""

    machine: Literal["cpu", "t4", "l4", "a100"]
    size: Literal["nano", "small", "medium", "large"]
    method: Literal["full", "frozen encoder", "lora"]
    precision: Literal["float32", "float16", "bfloat16"]
    optimizer: str  # a name of transformers' TrainingArguments.optim
    learning_rate: float
    gradient_checkpointing: bool  # activations are computed again instead of kept
    clips_per_step: int  # the batch, or several smaller ones one after the other
    reason: str


# fmt: off
PRESETS = (
    Preset("cpu", "nano", "full", "float32", "adamw_torch", 1e-3, False, 16,
           "a demo: minutes on two cores"),
    Preset("cpu", "small", "frozen encoder", "float32", "adamw_torch", 1e-5, False, 16,
           "only to look at: days, not hours"),
    Preset("t4", "small", "full", "float16", "adamw_torch_fused", 1e-5, False, 32,
           "3.9 GB of weights and optimizer leave 10 for activations: nothing need be given up"),
    Preset("t4", "medium", "frozen encoder", "float16", "adamw_bnb_8bit", 6e-6, True, 32,
           "full fine-tuning takes 12.2 GB before the first activation; without the encoder's "
           "gradients and with an 8-bit optimizer it is 5.8"),
    Preset("t4", "large", "lora", "float16", "adamw_torch_fused", 1e-4, True, 32,
           "1.5 billion weights fit only frozen and in half precision, 3.1 GB"),
    Preset("l4", "small", "full", "bfloat16", "adamw_torch_fused", 1e-5, False, 32,
           "everything fits"),
    Preset("l4", "medium", "full", "bfloat16", "adamw_bnb_8bit", 6e-6, True, 32,
           "7.6 GB with an 8-bit optimizer, so the encoder can learn, too"),
    Preset("l4", "large", "lora", "bfloat16", "adamw_torch_fused", 1e-4, True, 32,
           "full fine-tuning takes 15 GB at the least; LoRA leaves room for large batches"),
    Preset("a100", "small", "full", "bfloat16", "adamw_torch_fused", 1e-5, False, 64,
           "everything fits"),
    Preset("a100", "medium", "full", "bfloat16", "adamw_torch_fused", 6e-6, False, 64,
           "everything fits"),
    Preset("a100", "large", "lora", "bfloat16", "adamw_torch_fused", 1e-4, False, 64,
           "as accurate as full fine-tuning on tens of hours of speech, and a checkpoint is small"),
)
# fmt: on
LORA_RANK = 32
SIZES = {"nano": 10e6, "small": 400e6, "medium": 1000e6, "large": float("inf")}  # parameters below


def machine() -> str:
    """The kind of this machine: "cpu", or the smallest GPU of the table that is like its GPU."""
    if not torch.cuda.is_available():
        return "cpu"
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    if not torch.cuda.is_bf16_supported(including_emulation=False) or gib < 20:
        return "t4"
    return "l4" if gib < 36 else "a100"


def choose(parameters: int, machine_name: str | None = None) -> Preset:
    """The row for a model of so many parameters on this machine, or on the one named."""
    name = machine_name or machine()
    if name not in {row.machine for row in PRESETS}:
        kinds = ", ".join(dict.fromkeys(row.machine for row in PRESETS))
        raise LabError(f"There is no preset for {name!r}. Choose from: {kinds}.")
    size = next(size for size, below in SIZES.items() if parameters < below)
    if size == "nano":  # learns alike everywhere
        return replace(PRESETS[0], machine=name)
    size = "small" if name == "cpu" else size
    return next(row for row in PRESETS if (row.machine, row.size) == (name, size))


def largest_batch(runs: Callable[[int], None], most: int) -> int:
    """The largest divisor of `most` at which `runs(clips)` does not run out of memory.

    `runs` does what takes the most memory of a training step. A batch that fills over 90 % of
    a GPU counts as too large: fragmentation grows with time.
    """
    fits = 0
    for clips in (n for n in range(1, most + 1) if most % n == 0):
        if not _survives(runs, clips):
            break
        fits = clips
    if not fits:
        raise LabError(
            "Not even one clip fits into this GPU's memory. Choose a smaller model, or restart "
            "the session: another notebook may hold the memory."
        )
    return fits


def _survives(runs: Callable[[int], None], batch: int) -> bool:
    gpu = torch.cuda.is_available()
    if gpu:  # what ran before must not count
        gc.collect()
        torch.cuda.empty_cache()
        torch.cuda.reset_peak_memory_stats()
    try:
        runs(batch)
        fits = not gpu or _share_used() <= 0.9
    except RuntimeError as error:  # cuDNN and cuBLAS have their own words for no memory
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


def forecast(
    seconds_per_step: float, steps: int, scoring: float = 0.0, session_hours: float = 4.0
) -> str:
    """What a training and so many seconds of scoring take, in words: hours, and sessions."""
    hours = (seconds_per_step * steps + scoring) / 3600
    sessions = max(1, -(-hours // session_hours))
    return (
        f"{steps} steps of {seconds_per_step:.2f} s and {scoring / 3600:.1f} hours of scoring: "
        f"{hours:.1f} hours, {sessions:.0f} session(s) of {session_hours:.3g} hours"
    )


def adapt(model, preset: Preset, dropout: float = 0.0):
    """The model with what the preset freezes frozen, or with LoRA's adapters around it."""
    model.config.dropout = dropout
    for part in model.modules():
        if hasattr(part, "dropout") and isinstance(part.dropout, float):
            part.dropout = dropout
    # sinusoids, which short windows need as they are; from_pretrained forgets that they are fixed
    model.get_encoder().embed_positions.requires_grad_(False)
    if preset.method == "frozen encoder":
        model.model.encoder.requires_grad_(False)
    if preset.method == "lora":
        from peft import LoraConfig, get_peft_model

        half = getattr(torch, preset.precision)
        # task_type stays None: peft's own wrapper for seq2seq calls Whisper with input_ids
        config = LoraConfig(
            r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=["q_proj", "v_proj"]
        )
        model = get_peft_model(model.to(half), config)  # the adapters themselves are float32
    return model
