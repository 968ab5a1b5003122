"""Training: the loss is Whisper's, a kill costs nothing, and nothing is gone on from wrongly."""

import json
import os
import random
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import datasets
import numpy as np
import pytest
import tiktoken
import torch
from helpers.models import ranks, real_tokenizer, tiny_whisper
from safetensors.torch import load_file
from transformers import TrainerState, WhisperConfig, WhisperFeatureExtractor
from transformers.models.whisper.modeling_whisper import shift_tokens_right

from lab2_whisper import pictures
from lab2_whisper.features.shards import build_corpus
from lab2_whisper.features.sources import nano
from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import NANO_TOKENIZER, LabError
from lab2_whisper.training import checkpoints, presets
from lab2_whisper.training import estimate as estimating
from lab2_whisper.training import loop as training
from lab2_whisper.training.dataset import (
    IGNORED,
    TrainingClips,
    collate,
    collate_sound,
    decoder_inputs,
    label_ids,
)
from lab2_whisper.training.estimate import dry_step, estimate, max_batch_size, optimizer_bytes
from lab2_whisper.training.evaluation import evaluate, evaluate_before_after, load_whisper
from lab2_whisper.training.loop import arguments, compare, train
from lab2_whisper.training.presets import adapt
from lab2_whisper.training.run import Run
from lab2_whisper.training.trainer import ByLength, WhisperTrainer
from labstore import NotWritable, StoreError, open_store

STEPS = 12


@pytest.fixture(scope="session")
def made(tmp_path_factory) -> Path:
    """A folder with a store that holds the nano corpus, and a tiny random model."""
    folder = tmp_path_factory.mktemp("made")
    build_corpus(open_store(folder / "store"), nano(), "nano_pl", processes=1)
    tiny_whisper(folder / "tiny")
    return folder


@pytest.fixture
def store(made, tmp_path):
    return open_store(shutil.copytree(made / "store", tmp_path / "store"))


@pytest.fixture
def run(made) -> Run:
    return Run("r", str(made / "tiny"), steps=STEPS, evaluate_every=4, validation_clips=4, batch=8,
               full_windows=0.2, dropout=0.1)  # fmt: skip


@pytest.fixture(scope="module")
def trained(made, tmp_path_factory) -> Path:
    """The folder of a store with the whole training, which was never interrupted."""
    folder = tmp_path_factory.mktemp("whole")
    store = open_store(shutil.copytree(made / "store", folder / "store"))
    run = Run("r", str(made / "tiny"), steps=STEPS, evaluate_every=4, validation_clips=4, batch=8,
              full_windows=0.2, dropout=0.1)  # fmt: skip
    outcome = train(store, run, folder=folder / "work")
    assert outcome.finished and outcome.step == STEPS
    return store.root


@pytest.fixture(scope="module")
def whole(trained, tmp_path_factory) -> dict[str, torch.Tensor]:
    """Its last weights."""
    return final_weights(open_store(trained), tmp_path_factory.mktemp("weights"))


def final_weights(store, folder: Path) -> dict[str, torch.Tensor]:
    saved = store.open_files("checkpoint_r")
    shutil.unpack_archive(saved.path / checkpoints.ARCHIVE, folder / "final")
    assert checkpoints.step(folder / "final") == STEPS
    return load_file(folder / "final" / "model.safetensors")


def same(a, b) -> bool:
    return a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


# ---------------------------------------------------------------------- labels, loss, order


def test_labels_of_the_real_tokenizer_start_after_the_start_of_transcript():
    tokenizer = real_tokenizer()
    assert len(tokenizer) == 51_865
    items = [{"samples": torch.zeros(16_000).numpy(), "labels": label_ids(tokenizer, text),
              "bands": []} for text in ("Dzień dobry.", "Tak")]  # fmt: skip
    labels = collate(items)["labels"]
    start = tokenizer.convert_tokens_to_ids("<|startoftranscript|>")
    assert start == 50258 and not (labels == start).any()
    assert labels[:, :3].tolist() == [[50269, 50359, 50363]] * 2
    config = type("Config", (), {"decoder_start_token_id": start, "pad_token_id": 50257})
    inputs = decoder_inputs(labels, config)
    assert (inputs[:, 0] == start).all() and (inputs == start).sum() == 2
    assert inputs[0, 1:].tolist() == labels[0, :-1].tolist()
    assert not (inputs == IGNORED).any()


def test_a_batch_is_what_transformers_own_parts_make_of_it():
    """Labels, inputs of the decoder and log-mel of three padded clips."""
    tokenizer, rng = real_tokenizer(), np.random.default_rng(0)
    texts = ["Zażółć gęślą jaźń.", "Tak", "Dwadzieścia pięć minut po ósmej"]
    sounds = [rng.standard_normal(n).astype(np.float32) / 9 for n in (80_000, 17_000, 48_123)]
    items = [{"samples": sound, "labels": label_ids(tokenizer, text), "bands": []}
             for sound, text in zip(sounds, texts, strict=True)]  # fmt: skip
    ours = collate(items, window_seconds=30)
    theirs = WhisperFeatureExtractor()(sounds, sampling_rate=16_000, return_tensors="pt")
    torch.testing.assert_close(ours["input_features"], theirs.input_features, atol=1e-5, rtol=0)
    tokenizer.pad_token = tokenizer.eos_token
    written = tokenizer(texts, padding=True, return_tensors="pt")
    labels = written.input_ids.masked_fill(written.attention_mask == 0, IGNORED)[:, 1:]
    assert torch.equal(ours["labels"], labels)
    config = WhisperConfig(decoder_start_token_id=50258, pad_token_id=50257)
    expected = shift_tokens_right(labels, config.pad_token_id, config.decoder_start_token_id)
    assert torch.equal(decoder_inputs(labels, config), expected)


def test_the_real_tokenizer_is_that_of_whisper():
    tokenizer, known = real_tokenizer(), ranks()
    pattern = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
    reference = tiktoken.Encoding("w", pat_str=pattern, mergeable_ranks=known, special_tokens={})
    for text in ("Zażółć gęślą jaźń, 5% z 20 °C!", " It's   fine ", "你好, Привет", "\n\nraz"):
        ours = tokenizer(text, add_special_tokens=False).input_ids
        assert ours == reference.encode(text)


def test_the_loss_is_that_of_transformers(made, store, run, tmp_path):
    model, tokenizer = load_whisper(run.model)
    clips = TrainingClips(open_corpus(store, "nano_pl", "train"), tokenizer)
    settings = arguments(tmp_path, run, presets.choose(10_000), 4)
    trainer = WhisperTrainer(run, tokenizer, model=model, args=settings, train_dataset=clips,
                             eval_dataset=clips, data_collator=collate_sound)  # fmt: skip
    batch = collate([clips[i] for i in range(4)], window_seconds=30)
    with torch.no_grad():
        expected = model.eval()(**batch).loss
        torch.testing.assert_close(trainer.compute_loss(model, dict(batch)), expected)


def test_batches_are_whole_of_like_length_and_no_clip_comes_twice(store, run):
    _, tokenizer = load_whisper(run.model)
    clips = TrainingClips(open_corpus(store, "nano_pl", "train"), tokenizer)
    order = ByLength(clips, 8, 16, seed=1)
    first, seconds = list(order), clips.seconds
    assert len(first) == len(order) == 288 and len(set(first)) == 288
    spread = [seconds[first[i : i + 8]].max() - seconds[first[i : i + 8]].min()
              for i in range(0, 288, 8)]  # fmt: skip
    assert sum(spread) / len(spread) < 0.3
    order.set_epoch(1)
    assert list(order) != first
    order.set_epoch(0)
    assert list(order) == first


def test_whole_windows_are_the_last_steps_before_each_evaluation(run):
    def whole(**changes) -> list[int]:
        plan = replace(run, **changes)
        at = [
            SimpleNamespace(run=plan, state=TrainerState(global_step=i)) for i in range(plan.steps)
        ]
        return [i for i, trainer in enumerate(at) if WhisperTrainer._full_window(trainer)]

    assert whole(steps=10, full_windows=0.25) == [3, 7, 9]  # it is evaluated at 4, 8 and the end
    assert whole(steps=8, full_windows=0.5) == [2, 3, 6, 7]
    assert whole(steps=8, full_windows=0.0) == []
    assert whole(steps=3, short_audio_context=False) == [0, 1, 2]


def test_everything_is_learned_but_the_table_of_positions(made, whole):
    before = load_file(made / "tiny" / "model.safetensors")
    same_still = {name for name in whole if torch.equal(before[name], whole[name])}
    assert "model.encoder.embed_positions.weight" in same_still
    assert not same_still - {"model.encoder.embed_positions.weight"}


def test_one_long_transcript_ends_no_training(store, run, tmp_path, monkeypatch, capsys):
    def one_long(*arguments):
        clips = open_corpus(*arguments)
        texts = ["sto " * 448, *clips["text"][1:]]
        return clips.remove_columns("text").add_column("text", texts)

    monkeypatch.setattr("lab2_whisper.training.loop.open_corpus", one_long)
    short = replace(run, steps=1, batch=16)
    assert train(store, short, folder=tmp_path).finished
    assert capsys.readouterr().out.count("1 of ") == 2  # of train clips, and of validation


# ------------------------------------------------------------------------------ interruptions


def test_killed_at_random_moments_the_weights_are_the_same(made, store, run, whole, tmp_path):
    """SIGKILL, three times; benchmarks/training.py does it twenty times."""
    script = (
        "import sys, json\nfrom lab2_whisper.training.run import Run\n"
        "from lab2_whisper.training.loop import train\n"
        "from labstore import open_store\n"
        f"run = Run('r', {run.model!r}, steps={STEPS}, evaluate_every=4, validation_clips=4,"
        " batch=8, full_windows=0.2, dropout=0.1)\n"
        "print('ready', flush=True)\n"
        f"train(open_store({str(store.root)!r}), run, folder={str(tmp_path / 'work')!r})\n"
    )
    rng, kills = random.Random(0), 0
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # as `whole` had
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
        process.stdout.readline()
        if kills < 3:
            time.sleep(rng.uniform(1, 6))
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:
            break
    assert process.returncode == 0 and kills >= 1
    assert len(store.list_files("checkpoint_r")) == checkpoints.GENERATIONS
    assert same(final_weights(store, tmp_path), whole)


def test_a_time_budget_saves_and_stops_and_the_next_run_goes_on(store, run, whole, tmp_path):
    outcome = train(store, run, minutes=1e-9, folder=tmp_path / "work")
    assert (outcome.finished, outcome.step) == (False, 1)
    with pytest.raises(LabError, match="step 1 of 12"):
        evaluate_before_after(store, outcome)
    outcome = train(store, run, folder=tmp_path / "work")
    assert outcome.finished and same(final_weights(store, tmp_path), whole)
    assert outcome.history["eval_wer"].notna().sum() == 4  # the baseline once, then three times


def test_it_also_saves_between_evaluations_and_goes_on_from_there(
    store, run, whole, tmp_path, monkeypatch
):
    """It is evaluated at 4, 8 and 12, and here breaks off after it has saved step 6."""
    monkeypatch.setattr(training, "SAVE_MINUTES", 0)
    monkeypatch.setattr(training, "MINUTES_PER_GB", 0)
    save, steps = store.save_files, []

    def breaks_off(name, folder, metadata):
        save(name, folder, metadata)
        steps.append(metadata["step"])
        if steps == [1, 2, 3, 4, 5, 6]:
            raise KeyboardInterrupt

    monkeypatch.setattr(store, "save_files", breaks_off)
    with pytest.raises(KeyboardInterrupt):
        train(store, run, folder=tmp_path / "work")
    train(store, run, folder=tmp_path / "elsewhere")
    assert steps == list(range(1, STEPS + 1)) and same(final_weights(store, tmp_path), whole)


@pytest.mark.parametrize("full", [1, 2])
def test_a_checkpoint_that_found_no_room_is_published_by_the_next_run(
    full, store, run, whole, monkeypatch
):
    """The store is full for so many tries; at the second, the run goes on from its own folder."""
    save, tries, steps, home = store.save_files, [], [], store.root.parent

    def full_at_first(name, folder, metadata):
        tries.append(name)
        if len(tries) <= full:
            raise NotWritable("No space left on device.")
        steps.append(metadata["step"])
        return save(name, folder, metadata)

    monkeypatch.setattr(store, "save_files", full_at_first)
    train(store, run, minutes=1e-9, folder=home / "work")
    assert not store.list_files("checkpoint_r")
    outcome = train(store, run, folder=home / "work")
    assert outcome.finished and steps == ([1, 4, 8, 12] if full == 1 else [4, 8, 12])
    assert same(final_weights(store, home), whole)


def test_what_was_not_published_is_taken_only_where_it_is_right(store, run, tmp_path, monkeypatch):
    """Not with other settings, beside a newer one, damaged, or where nothing is left over."""
    save, home = store.save_files, tmp_path / "r"

    def full(*_):
        raise NotWritable("No space left on device.")

    monkeypatch.setattr(store, "save_files", full)
    train(store, run, minutes=1e-9, folder=tmp_path)
    monkeypatch.setattr(store, "save_files", save)
    settings = json.loads((home / checkpoints.UNPUBLISHED).read_text())["settings"]
    assert checkpoints.unpublished(store, "r", home, settings) == home / "checkpoint-1"
    assert checkpoints.unpublished(store, "r", home, settings | {"seed": 1}) is None
    newer = store.save_files("checkpoint_r", home, {"settings": settings, "step": 2})
    assert checkpoints.unpublished(store, "r", home, settings) is None
    store.remove("files", "checkpoint_r", newer.version)
    assert checkpoints.unpublished(store, "r", home, settings)
    (home / "checkpoint-1" / "model.safetensors").write_bytes(b"short")
    assert checkpoints.unpublished(store, "r", home, settings) is None


@pytest.mark.parametrize("file", [checkpoints.ARCHIVE, "manifest.json"])
def test_a_damaged_checkpoint_is_passed_over_and_said(file, trained, run, tmp_path, capsys):
    store = open_store(shutil.copytree(trained, tmp_path / "store"))
    newest = store.open_files("checkpoint_r").path / file
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    store = open_store(store.root)
    capsys.readouterr()
    outcome = train(store, run, folder=tmp_path / "work")
    said = capsys.readouterr().out
    assert said.count("passed over") == 1 and "Going on from step 8" in said
    whole = final_weights(open_store(trained), tmp_path / "whole")
    assert outcome.step == STEPS and same(final_weights(store, tmp_path), whole)


def test_a_checkpoint_without_its_optimizer_is_refused_by_name(store, run, tmp_path):
    train(store, run, minutes=1e-9, folder=tmp_path / "work")
    folder = tmp_path / "work" / "r" / "checkpoint-1"
    saved = store.open_files("checkpoint_r").metadata["settings"]
    (folder / "optimizer.pt").unlink()
    checkpoints.publish(store, "r", folder, saved)
    with pytest.raises(LabError, match="checkpoint-1 was saved without its optimizer"):
        train(store, run, folder=tmp_path / "again")


def test_where_no_checkpoint_can_be_read_it_does_not_begin_anew(trained, run, tmp_path):
    store = open_store(shutil.copytree(trained, tmp_path / "store"))
    for version in store.list_files("checkpoint_r"):
        (store.root / "files" / "checkpoint_r" / version / checkpoints.ARCHIVE).write_bytes(b"x")
    with pytest.raises(LabError, match=r"None of the 2 checkpoints.*run this again"):
        train(open_store(store.root), run, folder=tmp_path / "work")


@pytest.mark.parametrize("early", [False, True])
def test_a_finished_run_stays_as_it_is(early, trained, run, store, tmp_path):
    if early:  # nothing is learned, so it stops for want of patience
        run = replace(run, learning_rate=1e-12, patience=1)
        train(store, run, folder=tmp_path / "work")
    else:
        store = open_store(shutil.copytree(trained, tmp_path / "again"))
    before = store.list_files("checkpoint_r")
    outcome = train(store, run, folder=tmp_path / "work")
    assert outcome.finished and outcome.step == (4 if early else STEPS)
    assert store.list_files("checkpoint_r") == before
    assert load_whisper(outcome.best)


def test_on_another_kind_of_machine_it_says_how_to_go_on(store, run, tmp_path):
    train(store, run, minutes=1e-9, folder=tmp_path / "work")
    with pytest.raises(LabError, match=r"begun on a machine of the kind 'cpu'.*machine = 'cpu'"):
        train(store, replace(run, machine="t4"), folder=tmp_path / "work")


@pytest.mark.parametrize("name", ["../up", "/absolute", "", "With Capitals"])
def test_a_name_that_is_none_makes_no_run(run, name):
    with pytest.raises(StoreError, match="not a valid name in a store"):
        replace(run, name=name)


def test_training_removes_nothing_of_others(store, run, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine.txt").write_text("mine")
    train(store, run, minutes=1e-9, folder=tmp_path)
    assert (tmp_path / "r" / "mine.txt").read_text() == "mine"


def test_checkpoints_of_other_settings_are_refused(store, run, tmp_path):
    train(store, run, minutes=1e-9, folder=tmp_path / "work")
    with pytest.raises(LabError, match=r"made with seed = 0, not 1"):
        train(store, replace(run, seed=1), folder=tmp_path / "work")


def test_nano_goes_on_where_the_project_was_moved(store, run, tmp_path, monkeypatch):
    for model in (run.model, str(shutil.copytree(run.model, tmp_path / "moved"))):
        monkeypatch.setattr(training, "NANO_MODEL", Path(model))
        run = replace(run, model=model, steps=2, evaluate_every=1)
        outcome = train(store, run, minutes=1e-9, folder=tmp_path / "work")
    assert outcome.finished


@pytest.mark.parametrize("what", ["header", "short", "state", "empty"])
def test_broken_checkpoints_are_incomplete(store, run, tmp_path, what):
    train(store, run, minutes=1e-9, folder=tmp_path / "work")
    folder = tmp_path / "work" / "r" / "checkpoint-1"
    weights = folder / "model.safetensors"
    match what:
        case "header":
            weights.write_bytes(b"\xff" * 100)
        case "short":
            os.truncate(weights, weights.stat().st_size - 1)
        case "state":
            (folder / "trainer_state.json").write_text('{"global_')
        case "empty":
            os.truncate(folder / "scheduler.pt", 0)
    with pytest.raises(checkpoints.Incomplete):
        checkpoints.check(folder)


def test_two_generations_are_kept(store, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    for step in range(4):
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        checkpoints.publish(store, "x", folder, {})
    versions = store.list_files("checkpoint_x")
    assert [store.open_files("checkpoint_x", v).metadata["step"] for v in versions] == [2, 3]
    assert len(list((store.root / "files" / "checkpoint_x").iterdir())) == 2


# --------------------------------------------------------------------- methods, presets, tables


def test_it_stops_when_validation_gets_no_better(store, run, tmp_path):
    """A learning rate of nothing: the baseline stays the best."""
    outcome = train(store, replace(run, learning_rate=1e-12, patience=1), folder=tmp_path)
    assert outcome.finished and outcome.step == 4
    before, best = (load_file(Path(p) / "model.safetensors") for p in (run.model, outcome.best))
    assert all(torch.equal(before[name], best[name]) for name in before)


@pytest.fixture
def falling(monkeypatch):
    """Error rates that fall at every evaluation."""
    rates = staticmethod(lambda state: [-e["step"] for e in state.log_history if "eval_wer" in e])
    monkeypatch.setattr("lab2_whisper.training.callbacks.Best.rates", rates)


@pytest.mark.usefixtures("falling")
def test_the_best_weights_are_the_latest_while_the_rate_falls(store, run, tmp_path):
    outcome = train(store, replace(run, steps=8), folder=tmp_path / "work")
    saved = store.open_files("checkpoint_r")
    shutil.unpack_archive(saved.path / checkpoints.ARCHIVE, tmp_path / "final")
    last, best = (load_file(p / "model.safetensors") for p in (tmp_path / "final", outcome.best))
    assert same(last, best)


@pytest.mark.usefixtures("falling")
def test_lora_is_merged_and_goes_on_after_a_stop(store, run, tmp_path):
    lora = replace(presets.choose(10_000), method="lora", gradient_checkpointing=True)
    run = replace(run, preset=lora, steps=4, learning_rate=1e-2)
    cut = replace(run, name="cut")
    train(store, cut, minutes=1e-9, folder=tmp_path)
    best = [train(store, some, folder=tmp_path).best for some in (run, cut)]
    before, after, resumed = (load_file(Path(p) / "model.safetensors") for p in (run.model, *best))
    assert before.keys() == after.keys() and same(after, resumed)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("q_proj" in name or "v_proj" in name for name in changed)
    saved = store.open_files("checkpoint_cut")
    shutil.unpack_archive(saved.path / checkpoints.ARCHIVE, tmp_path / "final")
    assert len(list((tmp_path / "final").rglob("adapter_model.safetensors"))) == 2  # and the best


@pytest.mark.parametrize("preset", presets.PRESETS, ids=lambda p: f"{p.machine}-{p.size}")
def test_every_preset_takes_a_step(run, preset):
    assert preset.reason
    if preset.precision != "float32":  # what a CPU can do of half precision
        preset = replace(preset, precision="bfloat16")
    model = adapt(load_whisper(run.model)[0], preset)
    weights, grown = [w for w in model.parameters() if w.requires_grad], []
    for weight in weights:
        weight.register_hook(lambda gradient: grown.append(bool(gradient.isfinite().all())))
    dry_step(model, preset, clips=1, seconds=2, tokens=8)
    assert len(grown) >= len(weights) and all(grown)


def test_a_dry_step_has_gradients_beside_its_activations(run):
    """As a real one from its second batch on; afterwards there are none."""
    preset = presets.choose(10_000)
    model = adapt(load_whisper(run.model)[0], preset)
    trained, there = [w for w in model.parameters() if w.requires_grad], []
    model.register_forward_hook(lambda *_: there.extend(w.grad is not None for w in trained))
    dry_step(model, preset, clips=1, seconds=2, tokens=8)
    assert there and all(there) and not any(w.grad is not None for w in trained)


def test_in_8_bits_the_tables_of_tokens_and_positions_keep_four_bytes(run):
    model = adapt(load_whisper(run.model)[0], presets.choose(10_000))
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


def test_the_largest_batch_is_found_without_dying():
    def runs(clips):
        if clips > 11:
            raise torch.OutOfMemoryError

    assert presets.largest_batch(runs, 64) == 8
    assert presets.largest_batch(runs, 4) == 4
    assert presets.largest_batch(runs, 30) == 10  # three make up a step
    with pytest.raises(LabError, match="Not even one clip"):
        presets.largest_batch(lambda clips: runs(100), 64)
    said = presets.forecast(3.6, 10_000, scoring=1.5 * 3600)
    assert said.startswith("10000 steps of 3.60 s and 1.5 hours of scoring: 11.5 hours, 3 session")


def test_longer_windows_are_heard_fewer_at_once():
    assert [max_batch_size(32, seconds) for seconds in (5, 10, 20, 30)] == [32, 32, 16, 10]
    assert max_batch_size(1, 30) == 1


def test_a_step_in_parts_is_the_same_step(store, run, tmp_path):
    """Full windows are heard a few clips at a time; the gradient is that of all at once."""
    model, tokenizer = load_whisper(run.model)
    clips = TrainingClips(open_corpus(store, "nano_pl", "train"), tokenizer)
    gradients = []
    for batch in (4, 12):  # 12: four clips of 30 s at once
        settings = arguments(tmp_path, run, presets.choose(10_000), batch)
        trainer = WhisperTrainer(replace(run, short_audio_context=False), tokenizer, model=model,
                                 args=settings, train_dataset=clips, eval_dataset=clips,
                                 data_collator=collate_sound)  # fmt: skip
        items = collate_sound([clips[i] for i in range(4)])
        labels = (items["labels"] != IGNORED).sum()
        model.zero_grad()
        trainer.training_step(model, items, labels)
        gradients.append([w.grad.clone() for w in model.parameters() if w.grad is not None])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other)


def test_a_rehearsal_tells_hours_sessions_and_room(store, run):
    said = estimate(store, replace(run, steps=1000))
    steps = r"1000 steps of [\d.]+ s and [\d.]+ hours of scoring"
    assert re.search(steps + r": [\d.]+ hours, \d+ session\(s\) of 4 hours", said)
    assert re.search(r"GB on the store, and two are kept: [\d.]+ GB are free\.", said)


def test_a_rehearsal_counts_the_baseline_and_hears_in_the_presets_precision(
    store, run, monkeypatch
):
    precise = []

    def an_hour_a_clip(*_):
        precise.append(torch.is_autocast_enabled("cpu"))
        return 3600.0

    monkeypatch.setattr(estimating, "_seconds_heard", an_hour_a_clip)
    clips = 3 * 4 + 2 * len(open_corpus(store, "nano_pl", "test"))
    run = replace(run, steps=8)  # evaluated at 0, 4 and 8
    assert f"{clips}.0 hours of scoring" in estimate(store, run)
    half = replace(presets.choose(10_000), precision="bfloat16")
    said = estimate(store, replace(run, preset=half), minutes=200)
    assert "of 3.33 hours" in said and precise == [False, True]


def test_a_rehearsal_says_where_two_checkpoints_will_not_fit(store, run, monkeypatch):
    usage = type(shutil.disk_usage("/"))
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage(10, 9, 15 * 10**9))
    monkeypatch.setattr(estimating, "checkpoint_gb", lambda *_: 8.0)
    assert "8.0 GB on the store, and two are kept, but only 15.0 GB are free" in estimate(
        store, run
    )
    store.save_files("checkpoint_r", NANO_TOKENIZER, {})  # one that is there will make room
    assert "two are kept: 15.0 GB are free." in estimate(store, run)


def test_without_bitsandbytes_the_8_bit_optimizer_is_named(store, run, monkeypatch):
    monkeypatch.setattr("lab2_whisper.training.run.find_spec", lambda name: None)
    eight = next(row for row in presets.PRESETS if "8bit" in row.optimizer)
    with pytest.raises(LabError, match="pip install bitsandbytes"):
        estimate(store, replace(run, preset=eight))


def test_runs_that_differ_in_model_or_data_are_compared_in_one_table(store, run, tmp_path):
    build_corpus(store, nano(), "other_pl", processes=1)
    mixed = (("nano_pl", 1.0), ("other_pl", 0.5))
    runs = [replace(run, name="slow", steps=4, learning_rate=1e-5),
            replace(run, name="mixed", steps=4, corpora=mixed)]  # fmt: skip
    table = compare(store, runs, folder=tmp_path)
    assert set(table["corpora"]) == {"nano_pl x1", "nano_pl x1, other_pl x0.5"}
    assert table["wer"].is_monotonic_increasing and table["finished"].all()
    assert pictures.experiments(table).axes


def test_presets_are_compared_and_their_checkpoints_are_not_mixed(store, run, tmp_path):
    adam = replace(presets.choose(10_000), machine="t4", clips_per_step=8)
    other = replace(adam, method="frozen encoder", optimizer="adafactor", clips_per_step=24)
    short = replace(run, steps=2, evaluate_every=2, batch=None)
    runs = [replace(short, name="adam", preset=adam), replace(short, name="other", preset=other)]
    table = compare(store, runs, folder=tmp_path).set_index("run")
    assert dict(table.loc["other", ["method", "optimizer", "clips_per_step"]]) == {
        "method": "frozen encoder", "optimizer": "adafactor", "clips_per_step": 24}  # fmt: skip
    assert table.loc["adam", "optimizer"] == "adamw_torch"
    with pytest.raises(LabError, match=r"made with preset = .*'clips_per_step': 8"):
        train(store, replace(runs[0], preset=other), folder=tmp_path)


def test_judging_hears_the_test_splits_before_and_after(store, run, tmp_path, monkeypatch):
    outcome = train(store, replace(run, steps=4), folder=tmp_path)
    build_corpus(store, nano(), "other_pl", processes=1)
    few = lambda *a, **k: open_corpus(*a, **k).select(range(4))  # noqa: E731
    monkeypatch.setattr("lab2_whisper.training.loop.open_corpus", few)
    comparisons = evaluate_before_after(
        store, outcome, ("other_pl",), cache_dir=tmp_path / "copies"
    )
    assert [comparison.corpus for comparison in comparisons] == ["nano_pl", "other_pl"]
    for comparison in comparisons:
        assert comparison.before.score.clips == comparison.after.score.clips == 4
        assert len(comparison.after.worst(2)) == 2
        assert "before WER" in str(comparison)
    assert list((tmp_path / "copies").iterdir())


def test_a_damaged_clip_does_not_end_the_scoring(run, store):
    clips = open_corpus(store, "nano_pl", "test").select(range(2)).to_list()
    clips[1]["audio"] = b"no sound at all"
    assert evaluate(run.model, datasets.Dataset.from_list(clips)).score.clips == 2


def test_a_checkpoint_that_cannot_be_published_does_not_end_the_training(
    store, run, whole, monkeypatch, capsys
):
    save, folder, calls = store.save_files, store.root.parent, []

    def full_at_first(*arguments):
        calls.append(arguments)
        if len(calls) == 1:
            raise NotWritable("No space left on device.")
        return save(*arguments)

    monkeypatch.setattr(store, "save_files", full_at_first)
    outcome = train(store, run, folder=folder / "work")
    assert outcome.finished and len(calls) == 3 and same(final_weights(store, folder), whole)
    assert "was not published, the next one will be tried: No space" in capsys.readouterr().out


def test_a_wav2vec2_is_scored_on_the_same_clips(store, tmp_path):
    from transformers import (
        Wav2Vec2Config,
        Wav2Vec2CTCTokenizer,
        Wav2Vec2FeatureExtractor,
        Wav2Vec2ForCTC,
        Wav2Vec2Processor,
    )

    letters = ["<pad>", "<s>", "</s>", "<unk>", "|", *"aąbcćdeęfghijklłmnńoóprsśtuwyzźż"]
    vocabulary = tmp_path / "vocab.json"
    vocabulary.write_text(json.dumps({letter: i for i, letter in enumerate(letters)}))
    processor = Wav2Vec2Processor(Wav2Vec2FeatureExtractor(), Wav2Vec2CTCTokenizer(vocabulary))
    config = Wav2Vec2Config(
        vocab_size=len(letters), hidden_size=16, num_hidden_layers=1, num_attention_heads=2,
        intermediate_size=16, conv_dim=(16,) * 7, num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=2,
    )  # fmt: skip
    for part in (Wav2Vec2ForCTC(config), processor):
        part.save_pretrained(tmp_path / "ctc")
    clips = open_corpus(store, "nano_pl", "test").select(range(4))
    heard = evaluate(tmp_path / "ctc", clips)
    assert heard.score.clips == 4 and heard.score.wer.value > 0
    extractor = tmp_path / "ctc" / "preprocessor_config.json"  # as of those with a language model
    (tmp_path / "ctc" / "processor_config.json").unlink()
    settings = Wav2Vec2FeatureExtractor().to_dict()
    extractor.write_text(json.dumps(settings | {"processor_class": "Wav2Vec2ProcessorWithLM"}))
    assert evaluate(tmp_path / "ctc", clips).table["heard"].equals(heard.table["heard"])


def test_what_is_no_model_is_said(store):
    with pytest.raises(LabError, match="no Whisper that could be loaded"):
        load_whisper("no/such-model")
    with pytest.raises(LabError, match="There is no model"):
        evaluate("no/such-model", open_corpus(store, "nano_pl", "test"))


# -------------------------------------------------------------------------- several processes


def test_two_processes_do_the_same_as_one(made, tmp_path):
    """16 clips a step as 1 x 16 and as 2 x 8: gradients within 1e-4 of their size, losses 1e-3."""
    script = str(Path(__file__).parents[2] / "helpers" / "gradients.py")
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    on_cpu = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--num_machines", "1", "--num_cpu_threads_per_process", "1"]
    kept = {}
    for processes, batch in ((1, "16"), (2, "8")):
        folder = tmp_path / str(processes)
        shutil.copytree(made / "store", folder / "store")
        several = ["--multi_gpu"] if processes > 1 else []  # means: several, here without a GPU
        command = [*launch, *several, "--num_processes", str(processes), script]
        command += [str(made), str(folder), batch]
        ran = subprocess.run(command, env=on_cpu, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        losses = json.loads((folder / "losses.json").read_text())["loss"]
        kept[processes] = list(losses.values()), torch.load(folder / "gradients.pt")
    (one, one_gradients), (two, two_gradients) = kept[1], kept[2]
    assert one_gradients.keys() == two_gradients.keys()
    for name, gradient in one_gradients.items():
        apart = (two_gradients[name] - gradient).norm()
        assert apart <= 1e-4 * gradient.norm() + 1e-8, name
    assert [(tmp_path / n / "processes.txt").read_text() for n in "12"] == ["1", "2"]
    assert len(one) == 20 and one == pytest.approx(two, abs=1e-3)
