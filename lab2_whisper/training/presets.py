"""Which method of fine-tuning suits which machine: one row for each size of model.

Figures behind the rows: a T4 has 14.7 GiB and no bfloat16. Weights, gradients and optimizer take,
before any activation, 3.9 GB for small with AdamW, 12.2 GB for medium (5.8 GB with the encoder
frozen and an 8-bit optimizer), 3.1 GB for large with LoRA on a half-precision base.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal, get_args

import torch
from accelerate import PartialState

from lab2_whisper.schema import LabError

Machine = Literal["cpu", "t4", "l4", "a100"]
MACHINES: tuple[Machine, ...] = get_args(Machine)


@dataclass(frozen=True)
class Preset:
    """How to train one size of model on one kind of machine."""

    machine: Machine
    size: Literal["nano", "small", "medium", "large"]
    method: Literal["full", "frozen encoder", "lora"]
    precision: Literal["float32", "float16", "bfloat16"]
    optimizer: str  # a value of transformers' TrainingArguments.optim
    learning_rate: float
    gradient_checkpointing: bool  # activations are computed again instead of kept
    clips_per_step: int  # in one batch, or in several smaller ones whose gradients are summed
    reason: str  # recorded and compared like the rest: other words would end runs in progress


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


def devices() -> PartialState:
    """Return this process's device, one GPU or a CPU, and how many processes there are.

    `accelerate launch` starts one process for each GPU. A process that sees several uses one. An
    Apple GPU is not used: training on one is not tested.
    """
    return PartialState(cpu=not torch.cuda.is_available())


def machine() -> Machine:
    """Return the kind of this machine: "cpu", or the smallest GPU of the table like its own."""
    if not torch.cuda.is_available():
        return "cpu"
    gib = torch.cuda.get_device_properties(0).total_memory / 2**30
    if not torch.cuda.is_bf16_supported(including_emulation=False) or gib < 20:
        return "t4"
    return "l4" if gib < 36 else "a100"


def choose(parameters: int, machine_name: str | None = None) -> Preset:
    """Return the preset for a model of so many parameters, on this machine or the one named.

    Raises LabError for a name that is not in MACHINES.
    """
    wanted = machine_name or machine()
    name = next((name for name in MACHINES if name == wanted), None)
    if name is None:
        raise LabError(f"There is no preset for {wanted!r}. Choose from: {', '.join(MACHINES)}.")
    size = next(size for size, below in SIZES.items() if parameters < below)
    if size == "nano":  # it trains the same way everywhere
        return replace(PRESETS[0], machine=name)
    size = "small" if name == "cpu" else size
    return next(row for row in PRESETS if (row.machine, row.size) == (name, size))


def adapt(model, preset: Preset, dropout: float = 0.0):
    """Return the model with the preset's part frozen, or with LoRA adapters around it."""
    model.config.dropout = dropout
    for part in model.modules():
        if hasattr(part, "dropout") and isinstance(part.dropout, float):
            part.dropout = dropout
    # Short windows need the sinusoids as they are. transformers fixes them
    # (huggingface/transformers#26032), but from_pretrained makes them trainable (seen with 5.23.0).
    model.get_encoder().embed_positions.requires_grad_(False)
    if preset.method == "frozen encoder":
        model.model.encoder.requires_grad_(False)
    if preset.method == "lora":
        from peft import LoraConfig, get_peft_model

        half = getattr(torch, preset.precision)
        # no task_type: peft's class for SEQ_2_SEQ_LM passes input_ids, which Whisper does not take
        # (huggingface/peft#1988, seen with peft 0.21.2)
        config = LoraConfig(
            r=LORA_RANK, lora_alpha=2 * LORA_RANK, target_modules=["q_proj", "v_proj"]
        )
        model = get_peft_model(model.to(half), config)  # the adapters themselves are float32
    return model
