"""Presets: every row can train, and the right one is chosen."""

from dataclasses import replace

import pytest
from helpers.models import tiny_run

from lab2_whisper.schema import LabError
from lab2_whisper.training import presets
from lab2_whisper.training.estimate import dry_step, optimizer_bytes
from lab2_whisper.training.evaluation import load_whisper
from lab2_whisper.training.presets import adapt
from lab2_whisper.training.run import preset_for
from labstore import StoreError


@pytest.mark.parametrize("preset", presets.PRESETS, ids=lambda p: f"{p.machine}-{p.size}")
def test_every_preset_takes_a_step(tiny_model, preset):
    assert preset.reason
    if preset.precision != "float32":  # the half precision that a CPU can compute
        preset = replace(preset, precision="bfloat16")
    model = adapt(load_whisper(tiny_model)[0], preset)
    weights, finite = [w for w in model.parameters() if w.requires_grad], []
    for weight in weights:
        weight.register_hook(lambda gradient: finite.append(bool(gradient.isfinite().all())))
    dry_step(model, preset, batch_size=1, seconds=2, tokens=8)
    assert len(finite) >= len(weights) and all(finite)


def test_a_dry_step_has_gradients_beside_its_activations(tiny_model):
    """As a real one from its second batch on; afterwards there are none."""
    preset = presets.choose(10_000)
    model = adapt(load_whisper(tiny_model)[0], preset)
    trained, there = [w for w in model.parameters() if w.requires_grad], []
    model.register_forward_hook(lambda *_: there.extend(w.grad is not None for w in trained))
    dry_step(model, preset, batch_size=1, seconds=2, tokens=8)
    assert there and all(there) and not any(w.grad is not None for w in trained)


def test_in_8_bits_the_tables_of_tokens_and_positions_keep_four_bytes(tiny_model):
    model = adapt(load_whisper(tiny_model)[0], presets.choose(10_000))
    decoder = model.get_decoder()
    tables = decoder.embed_tokens.weight.numel() + decoder.embed_positions.weight.numel()
    trained = sum(w.numel() for w in model.parameters() if w.requires_grad)
    assert optimizer_bytes(model, "adamw_torch_fused") == 8 * trained
    assert optimizer_bytes(model, "adamw_bnb_8bit") == 2 * (trained - tables) + 8 * tables


def test_presets_are_chosen_by_machine_and_size():
    assert presets.choose(242_000_000, "t4").method == "full"
    assert presets.choose(764_000_000, "t4").method == "frozen encoder"
    assert presets.choose(1_543_000_000, "t4").method == "lora"
    for name in ("cpu", "t4", "a100"):
        nano = presets.choose(1_300_000, name)
        assert (nano.machine, nano.size, nano.learning_rate) == (name, "nano", 1e-3)
    assert all(row.precision != "bfloat16" for row in presets.PRESETS if row.machine == "t4")
    with pytest.raises(LabError, match="Choose from: cpu, t4, l4, a100"):
        presets.choose(1, "tpu")


def test_without_bitsandbytes_the_error_names_it(tiny_model, monkeypatch):
    monkeypatch.setattr("lab2_whisper.training.run.find_spec", lambda name: None)
    eight_bit = next(row for row in presets.PRESETS if "8bit" in row.optimizer)
    with pytest.raises(LabError, match="pip install bitsandbytes"):
        preset_for(load_whisper(tiny_model)[0], tiny_run(tiny_model, preset=eight_bit))


@pytest.mark.parametrize("name", ["../up", "/absolute", "", "With Capitals"])
def test_a_run_has_a_valid_name(run, name):
    with pytest.raises(StoreError, match="not a valid name in a store"):
        replace(run, name=name)
