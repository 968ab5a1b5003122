"""Clips per second and memory of fine-tuning on a GPU: our presets against the original's recipe.

    python benchmarks/gpu_training.py            on any CUDA machine, limited to what a T4 has
    python benchmarks/gpu_training.py --tiny     the same steps on a CPU with tiny models

Memory is capped at a T4's 14.7 GiB, the precision is float16 and flash attention is off, as on a T4.
The GPU keeps its own speed, so results are named "<GPU>, capped". Weights are random, of full size.
The original: whisper-small, 8 clips x 2 a step, gradient checkpointing, every clip padded to 30 s.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from typing import Any

import torch
from _report import report
from torch.nn.functional import cross_entropy
from transformers import WhisperConfig, WhisperForConditionalGeneration

from lab2_whisper.training.audio_context import window
from lab2_whisper.training.dataset import decoder_inputs
from lab2_whisper.training.estimate import find_batch_size, max_batch_size
from lab2_whisper.training.presets import PRESETS, Preset, adapt

T4_GIB = 14.7
CLIP_SECONDS = 6  # windows of clips of about 5 s, as Common Voice's
FULL_SHARE = 0.1  # of our steps, in windows of 30 s
TOKENS = 40  # in such a clip's text
ORIGINAL = Preset("t4", "small", "full", "float16", "adamw_torch", 1e-5, True, 16, "the original")
# width, layers of encoder and of decoder, heads, mel bands
SIZES = {"small": (768, 12, 12, 80), "medium": (1024, 24, 16, 80), "large": (1280, 32, 20, 128)}


def random_whisper(size: str, tiny: bool) -> WhisperForConditionalGeneration:
    """Return a Whisper of this size with random weights."""
    width, layers, heads, mels = (16, 1, 2, SIZES[size][3]) if tiny else SIZES[size]
    config = WhisperConfig(
        vocab_size=51_866 if size == "large" else 51_865,
        d_model=width, encoder_layers=layers, decoder_layers=layers,
        encoder_attention_heads=heads, decoder_attention_heads=heads,
        encoder_ffn_dim=4 * width, decoder_ffn_dim=4 * width, num_mel_bins=mels,
        pad_token_id=50257, bos_token_id=50257, eos_token_id=50257, decoder_start_token_id=50258,
        suppress_tokens=None, begin_suppress_tokens=None,
    )  # fmt: skip
    return WhisperForConditionalGeneration(config)


class Trainee:
    """A model under a preset, and the training steps that are timed."""

    def __init__(self, preset: Preset, tiny: bool):
        self.preset, self.device = preset, "cpu" if tiny else "cuda"
        self.model = adapt(random_whisper(preset.size, tiny), preset).to(self.device).train()
        if preset.gradient_checkpointing:
            self.model.activation_checkpointing_enable({"use_reentrant": False})
        self.optimizer, self.optimizer_name = self._optimizer()
        self.scaler = torch.amp.GradScaler(self.device, enabled=not tiny)

    def _optimizer(self):
        trained = [weight for weight in self.model.parameters() if weight.requires_grad]
        if "8bit" in self.preset.optimizer and self.device == "cuda":
            try:
                from bitsandbytes.optim import AdamW8bit

                return AdamW8bit(trained, lr=1e-5), "8-bit AdamW"
            except ImportError:
                return torch.optim.AdamW(trained, lr=1e-5, fused=True), "AdamW, no bitsandbytes"
        fused = "fused" in self.preset.optimizer
        return torch.optim.AdamW(trained, lr=1e-5, fused=fused), "AdamW"

    def step(self, clips: int, batch_size: int, seconds: float) -> None:
        """Take one optimizer step on `clips` clips of `seconds`, `batch_size` at a time."""
        for start in range(0, clips, batch_size):
            self._backward(min(batch_size, clips - start), seconds)
        self.scaler.step(self.optimizer)
        self.scaler.update()
        self.optimizer.zero_grad(set_to_none=True)

    def _backward(self, clips: int, seconds: float) -> None:
        bare = self.model.get_base_model() if hasattr(self.model, "peft_config") else self.model
        mels = bare.config.num_mel_bins
        features = torch.randn(clips, mels, round(100 * seconds), device=self.device)
        labels = torch.randint(0, 50_000, (clips, TOKENS), device=self.device)
        half = torch.autocast(self.device, torch.float16, enabled=self.device == "cuda")
        with window(bare, features.shape[-1]), half:
            logits = self.model(
                input_features=features.to(bare.get_encoder().conv1.weight.dtype),
                decoder_input_ids=decoder_inputs(labels, bare.config),
                use_cache=False,
            ).logits
            loss = cross_entropy(logits.flatten(0, 1).float(), labels.flatten())
        self.scaler.scale(loss).backward()


def measure(one_step: Callable[[int], int], steps: int, device: str) -> tuple[float, float]:
    """Return clips per second and the peak of memory in GiB. `one_step(i)` returns its clips."""
    one_step(0)
    if device == "cuda":
        torch.cuda.synchronize()
        torch.cuda.reset_peak_memory_stats()
    start, clips = time.perf_counter(), 0
    for i in range(steps):
        clips += one_step(i)
    peak = 0.0
    if device == "cuda":
        torch.cuda.synchronize()
        peak = torch.cuda.max_memory_reserved() / 2**30
    return clips / (time.perf_counter() - start), peak


def original(tiny: bool, steps: int) -> tuple[float, float, str]:
    """Measure the original's recipe: clips per second, peak GiB, and how it was trained."""
    trainee = Trainee(ORIGINAL, tiny)

    def one_step(_: int) -> int:
        trainee.step(16, 8, 30)
        return 16

    return *measure(one_step, steps, trainee.device), "8 x 2 in windows of 30 s, AdamW"


def ours(size: str, tiny: bool, steps: int) -> tuple[float, float, str]:
    """Measure a T4 preset of ours: clips per second, peak GiB, and how it was trained."""
    preset = next(row for row in PRESETS if (row.machine, row.size) == ("t4", size))
    trainee = Trainee(preset, tiny)
    batch_size = 4 if tiny else find_batch_size(trainee.model, preset)
    clips, every = preset.clips_per_step, round(1 / FULL_SHARE)

    def one_step(i: int) -> int:
        if i % every == every - 1:
            trainee.step(clips, max_batch_size(batch_size, 30), 30)
        else:
            trainee.step(clips, max_batch_size(batch_size, CLIP_SECONDS), CLIP_SECONDS)
        return clips

    how = f"{preset.method}, {trainee.optimizer_name}, batch size {batch_size}"
    return *measure(one_step, steps, trainee.device), how


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--tiny", action="store_true", help="tiny models on a CPU, not kept")
    parser.add_argument("--steps", type=int, default=20)
    given = parser.parse_args()
    if not given.tiny:
        if not torch.cuda.is_available():
            print("Not measured: there is no CUDA GPU here. --tiny takes the same steps on a CPU.")
            return
        _as_on_a_t4()
    device = "cpu, tiny" if given.tiny else f"{torch.cuda.get_device_name()}, capped"
    figures: dict[str, Any] = {"device": device}
    lines = [device, f"{'':10}clips/s  peak GiB"]
    for name in ("original", *SIZES):
        recipe = (given.tiny, given.steps)
        speed, peak, how = original(*recipe) if name == "original" else ours(name, *recipe)
        figures |= {f"{name}_clips_per_second": round(speed, 2), f"{name}_peak_gib": round(peak, 2)}
        lines.append(f"{name:10}{speed:7.1f}  {peak:8.2f}  {how}")
        if not given.tiny:
            torch.cuda.empty_cache()
    report("gpu_training", figures, "\n".join(lines), keep=not given.tiny)


def _as_on_a_t4() -> None:
    total = torch.cuda.get_device_properties(0).total_memory / 2**30
    torch.cuda.set_per_process_memory_fraction(min(1.0, T4_GIB / total))
    torch.backends.cuda.enable_flash_sdp(False)
    torch.backends.cuda.enable_cudnn_sdp(False)
    torch.backends.cuda.matmul.allow_tf32 = False


if __name__ == "__main__":
    main()
