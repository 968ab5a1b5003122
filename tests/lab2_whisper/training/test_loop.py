"""Training: an interruption costs nothing, and nothing is resumed that should not be."""

import json
import os
import random
import shutil
import signal
import subprocess
import sys
import time
import zipfile
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from helpers.models import STEPS, equal, last_weights, tiny_run, tiny_whisper
from safetensors.torch import load_file

from lab2_whisper import pictures
from lab2_whisper.features.stored import open_corpus
from lab2_whisper.schema import LabError
from lab2_whisper.training import checkpoints, presets
from lab2_whisper.training import loop as training
from lab2_whisper.training.evaluation import evaluate_before_after, load_whisper
from lab2_whisper.training.loop import compare_runs, train
from lab2_whisper.training.run import Run
from labstore import NotWritable, open_store

TESTS = Path(__file__).parents[2]
OLD_STORE = TESTS / "fixtures" / "store_2026_11.zip"


# ------------------------------------------------------------------------------ interruptions


@pytest.mark.slow
def test_killed_at_random_moments_the_weights_are_the_same(store, run, final_weights, tmp_path):
    """SIGKILL, three times; benchmarks/training.py does it twenty times."""
    script = (
        "from helpers.models import tiny_run\nfrom lab2_whisper.training.loop import train\n"
        "from labstore import open_store\n"
        "print('ready', flush=True)\n"
        f"train(open_store({str(store.root)!r}), tiny_run({run.model!r}),"
        f" folder={str(tmp_path / 'work')!r})\n"
    )
    rng, kills = random.Random(0), 0
    environment = os.environ | {"OMP_NUM_THREADS": str(torch.get_num_threads())}  # as `trained` had
    environment["PYTHONPATH"] = os.pathsep.join([str(TESTS.parent), str(TESTS)])
    for _ in range(20):
        process = subprocess.Popen([sys.executable, "-c", script], stdout=subprocess.PIPE,
                                   stderr=subprocess.DEVNULL, env=environment)  # fmt: skip
        process.stdout.readline()
        if kills < 3:
            time.sleep(rng.uniform(0.5, 3))
            kills += process.poll() is None
            process.send_signal(signal.SIGKILL)
        process.communicate()
        if process.returncode == 0:
            break
    assert process.returncode == 0 and kills >= 1
    assert len(store.list_files("checkpoint_r")) == checkpoints.GENERATIONS
    assert equal(last_weights(store, tmp_path), final_weights)


def test_a_time_budget_saves_and_stops_and_the_next_call_resumes(stopped, run, final_weights):
    store = open_store(stopped / "store")
    outcome = train(store, run, folder=stopped / "work")
    assert outcome.finished and equal(last_weights(store, stopped), final_weights)
    assert outcome.history["eval_wer"].notna().sum() == 3  # the baseline once, then at 4 and 8


def test_the_test_split_is_not_used_before_the_end(stopped, run):
    store = open_store(stopped / "store")
    outcome = train(store, run, minutes=1e-9, folder=stopped / "work")
    with pytest.raises(LabError, match=r"step 2 of 8.*again to resume"):
        evaluate_before_after(store, outcome)


def test_it_also_saves_between_evaluations_and_resumes_from_there(
    store, run, final_weights, tmp_path, monkeypatch
):
    """It is evaluated at 4 and 8, and here breaks off after it has saved step 6."""
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
    assert steps == list(range(1, STEPS + 1))
    assert equal(last_weights(store, tmp_path), final_weights)


def fills_up(store, monkeypatch, tries: int) -> tuple[list[int], list[int]]:
    """Let the store be full for so many tries. Returns the steps tried and those saved."""
    save, tried, saved = store.save_files, [], []

    def save_files(name, folder, metadata):
        tried.append(metadata["step"])
        if len(tried) <= tries:
            raise NotWritable("No space left on device.")
        saved.append(metadata["step"])
        return save(name, folder, metadata)

    monkeypatch.setattr(store, "save_files", save_files)
    return tried, saved


@pytest.mark.parametrize("tries", [1, 2])
def test_a_checkpoint_that_a_full_store_refused_is_published_by_the_next_call(
    tries, store, run, final_weights, monkeypatch
):
    """After two refusals, the run resumes from its own folder."""
    home = store.root.parent
    _, saved = fills_up(store, monkeypatch, tries)
    train(store, run, minutes=1e-9, folder=home / "work")
    assert not store.list_files("checkpoint_r")
    outcome = train(store, run, folder=home / "work")
    assert outcome.finished and saved == ([1, 4, 8] if tries == 1 else [4, 8])
    assert equal(last_weights(store, home), final_weights)


def test_a_full_store_does_not_end_the_training(store, run, final_weights, monkeypatch, capsys):
    home = store.root.parent
    tried, saved = fills_up(store, monkeypatch, 1)
    outcome = train(store, run, folder=home / "work")
    assert outcome.finished and (tried, saved) == ([4, 8], [8])
    assert equal(last_weights(store, home), final_weights)
    assert "not published; training continues to the next one: No space" in capsys.readouterr().out


@pytest.mark.parametrize("file", [checkpoints.ARCHIVE, "manifest.json"])
def test_a_damaged_checkpoint_is_skipped_with_a_message(
    file, trained_store, run, final_weights, capsys
):
    home = trained_store.root.parent
    newest = trained_store.open_files("checkpoint_r").path / file
    damaged = bytearray(newest.read_bytes())
    damaged[len(damaged) // 2] ^= 1
    newest.write_bytes(damaged)
    store = open_store(trained_store.root)
    capsys.readouterr()
    outcome = train(store, run, folder=home / "work")
    printed = capsys.readouterr().out
    assert printed.count("is damaged and skipped") == 1 and "Resuming from step 4" in printed
    assert outcome.step == STEPS and equal(last_weights(store, home), final_weights)


def test_a_checkpoint_of_an_older_version_is_resumed(tmp_path, monkeypatch, capsys):
    """It was written by the code of November 2026, after step 1 of 4."""
    with zipfile.ZipFile(OLD_STORE) as archive:
        archive.extractall(tmp_path)
    monkeypatch.chdir(tmp_path)
    tiny_whisper(Path("tiny"))
    run = Run("old", "tiny", (("few_pl", 1.0),), steps=4, evaluate_every=2, validation_clips=2)
    store = open_store("store")
    outcome = train(store, run, folder="work")
    assert "Resuming from step 1." in capsys.readouterr().out
    assert outcome.finished and outcome.step == 4
    fresh = train(store, replace(run, name="fresh"), folder="work")
    resumed, whole = (load_file(Path(o.best) / "model.safetensors") for o in (outcome, fresh))
    for name, weight in whole.items():
        torch.testing.assert_close(resumed[name], weight)


# -------------------------------------------------------------- what may and may not resume


def test_a_checkpoint_without_its_optimizer_is_refused_by_name(stopped, run, tmp_path):
    store, folder = open_store(stopped / "store"), stopped / "work" / "r" / "checkpoint-1"
    saved = store.open_files("checkpoint_r").metadata["settings"]
    (folder / "optimizer.pt").unlink()
    checkpoints.publish(store, "r", folder, saved)
    with pytest.raises(LabError, match="checkpoint-1 was saved without its optimizer"):
        train(store, run, folder=tmp_path / "again")


def test_where_no_checkpoint_can_be_read_training_does_not_start_again(
    trained_store, run, tmp_path
):
    for version in trained_store.list_files("checkpoint_r"):
        folder = trained_store.root / "files" / "checkpoint_r" / version
        (folder / checkpoints.ARCHIVE).write_bytes(b"x")
    with pytest.raises(LabError, match=r"None of the 2 checkpoints.*run this again"):
        train(open_store(trained_store.root), run, folder=tmp_path / "work")


def test_a_finished_run_stays_as_it_is(trained_store, run, tmp_path):
    before = trained_store.list_files("checkpoint_r")
    outcome = train(trained_store, run, folder=tmp_path / "work")
    assert outcome.finished and outcome.step == STEPS
    assert trained_store.list_files("checkpoint_r") == before
    assert load_whisper(outcome.best)


def test_it_stops_when_validation_no_longer_improves_and_then_stays_as_it_is(store, run, tmp_path):
    """A learning rate of almost nothing: the baseline stays the best."""
    run = replace(run, learning_rate=1e-12, patience=1)
    outcome = train(store, run, folder=tmp_path / "work")
    assert outcome.finished and outcome.step == 4
    before, best = (load_file(Path(p) / "model.safetensors") for p in (run.model, outcome.best))
    assert all(torch.equal(before[name], best[name]) for name in before)
    versions = store.list_files("checkpoint_r")
    again = train(store, run, folder=tmp_path / "work")
    assert again.finished and again.step == 4 and store.list_files("checkpoint_r") == versions


def test_on_another_kind_of_machine_the_error_names_the_preset_to_set(stopped, tiny_model):
    store = open_store(stopped / "store")
    run = tiny_run(tiny_model, preset=None, machine="t4")
    with pytest.raises(LabError, match=r"with the preset for 'cpu'.*set machine = 'cpu'"):
        train(store, run, folder=stopped / "work")


def test_checkpoints_of_other_settings_are_refused(stopped, run):
    store = open_store(stopped / "store")
    with pytest.raises(LabError, match=r"made with seed = 0, not 1"):
        train(store, replace(run, seed=1), folder=stopped / "work")
    with pytest.raises(LabError, match="with short_audio_context = True, not False"):
        train(store, replace(run, short_audio_context=False), folder=stopped / "work")


def test_training_removes_no_files_of_others(store, run, tmp_path):
    (tmp_path / "r").mkdir()
    (tmp_path / "r" / "mine.txt").write_text("mine")
    train(store, run, minutes=1e-9, folder=tmp_path)
    assert (tmp_path / "r" / "mine.txt").read_text() == "mine"


def test_nano_resumes_where_the_project_was_moved(store, run, tmp_path, monkeypatch):
    for model in (run.model, str(shutil.copytree(run.model, tmp_path / "moved"))):
        monkeypatch.setattr(training, "NANO_MODEL", Path(model))
        run = replace(run, model=model, steps=2, evaluate_every=1)
        outcome = train(store, run, minutes=1e-9, folder=tmp_path / "work")
    assert outcome.finished


def test_a_transcript_that_is_too_long_does_not_end_a_training(
    store, run, tmp_path, monkeypatch, capsys
):
    def one_long(*arguments):
        clips = open_corpus(*arguments)
        texts = ["sto " * 448, *clips["text"][1:]]
        return clips.remove_columns("text").add_column("text", texts)

    monkeypatch.setattr("lab2_whisper.training.loop.open_corpus", one_long)
    assert train(store, replace(run, steps=1), folder=tmp_path).finished
    assert capsys.readouterr().out.count("1 of ") == 2  # of train clips, and of validation


# ------------------------------------------------------------------ methods, presets, tables


@pytest.fixture
def falling(monkeypatch):
    """Error rates that fall at every evaluation."""
    rates = staticmethod(lambda state: [-e["step"] for e in state.log_history if "eval_wer" in e])
    monkeypatch.setattr("lab2_whisper.training.callbacks.Best.rates", rates)


@pytest.mark.usefixtures("falling")
def test_the_best_weights_are_the_latest_while_the_rate_falls(store, run, tmp_path):
    outcome = train(store, run, folder=tmp_path / "work")
    best = load_file(outcome.best / "model.safetensors")
    assert equal(last_weights(store, tmp_path), best)


@pytest.mark.usefixtures("falling")
def test_lora_is_merged_and_resumes_after_a_stop(store, run, tmp_path):
    lora = replace(run.preset, method="lora", gradient_checkpointing=True)
    run = replace(run, preset=lora, steps=2, evaluate_every=2, learning_rate=1e-2)
    cut = replace(run, name="cut")
    train(store, cut, minutes=1e-9, folder=tmp_path)
    best = [train(store, some, folder=tmp_path).best for some in (run, cut)]
    before, after, resumed = (load_file(Path(p) / "model.safetensors") for p in (run.model, *best))
    assert before.keys() == after.keys() and equal(after, resumed)
    changed = {name for name in before if not torch.equal(before[name], after[name])}
    assert changed and all("q_proj" in name or "v_proj" in name for name in changed)
    saved = store.open_files("checkpoint_cut")
    shutil.unpack_archive(saved.path / checkpoints.ARCHIVE, tmp_path / "final")
    assert len(list((tmp_path / "final").rglob("adapter_model.safetensors"))) == 2  # and the best


def test_runs_that_differ_in_model_or_data_are_compared_in_one_table(two_corpora, run, tmp_path):
    mixed = (("nano_pl", 1.0), ("other_pl", 0.5))
    short = replace(run, steps=2, evaluate_every=2)
    runs = [replace(short, name="slow", learning_rate=1e-5),
            replace(short, name="mixed", corpora=mixed)]  # fmt: skip
    table = compare_runs(two_corpora, runs, folder=tmp_path)
    assert set(table["corpora"]) == {"nano_pl x1", "nano_pl x1, other_pl x0.5"}
    assert table["wer"].is_monotonic_increasing and table["finished"].all()
    assert pictures.experiments(table).axes


def test_presets_are_compared_and_their_checkpoints_are_not_mixed(store, run, tmp_path):
    adam = replace(presets.choose(10_000), machine="t4", clips_per_step=2)
    other = replace(adam, method="frozen encoder", optimizer="adafactor", clips_per_step=6)
    short = replace(run, steps=2, evaluate_every=2, batch_size=None)
    runs = [replace(short, name="adam", preset=adam), replace(short, name="other", preset=other)]
    table = compare_runs(store, runs, folder=tmp_path).set_index("run")
    assert dict(table.loc["other", ["method", "optimizer", "clips_per_step"]]) == {
        "method": "frozen encoder", "optimizer": "adafactor", "clips_per_step": 6}  # fmt: skip
    assert table.loc["adam", "optimizer"] == "adamw_torch"
    with pytest.raises(LabError, match=r"made with preset = .*'clips_per_step': 2"):
        train(store, replace(runs[0], preset=other), folder=tmp_path)


# -------------------------------------------------------------------------- several processes


@pytest.mark.slow
def test_two_processes_do_the_same_as_one(nano_store, tiny_model, tmp_path):
    """16 clips a step as 1 x 16 and as 2 x 8: gradients within 1e-4 of their size, losses 1e-3."""
    script = str(TESTS / "helpers" / "gradients.py")
    launch = [sys.executable, "-m", "accelerate.commands.launch"]
    on_cpu = os.environ | {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1"}
    launch += ["--mixed_precision", "no", "--dynamo_backend", "no"]
    launch += ["--num_machines", "1", "--num_cpu_threads_per_process", "1"]
    results, printed = {}, {}
    for processes, batch_size in ((1, "16"), (2, "8")):
        folder = tmp_path / str(processes)
        shutil.copytree(nano_store, folder / "store")
        several = ["--multi_gpu"] if processes > 1 else []  # means: several, here without a GPU
        command = [*launch, *several, "--num_processes", str(processes), script]
        command += [str(tiny_model), str(folder), batch_size]
        ran = subprocess.run(command, env=on_cpu, capture_output=True, text=True, check=False)
        assert ran.returncode == 0, ran.stderr[-3000:]
        losses = json.loads((folder / "losses.json").read_text())["loss"]
        results[processes] = list(losses.values()), torch.load(folder / "gradients.pt")
        printed[processes] = ran.stdout.count("cpu, nano: full")
    (one, one_gradients), (two, two_gradients) = results[1], results[2]
    assert one_gradients.keys() == two_gradients.keys()
    for name, gradient in one_gradients.items():
        apart = (two_gradients[name] - gradient).norm()
        assert apart <= 1e-4 * gradient.norm() + 1e-8, name
    assert [(tmp_path / n / "processes.txt").read_text() for n in "12"] == ["1", "2"]
    assert len(one) == 20 and one == pytest.approx(two, abs=1e-3)
    assert printed == {1: 1, 2: 1}  # once, not once per process
