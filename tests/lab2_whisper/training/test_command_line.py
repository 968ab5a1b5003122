"""`python -m lab2_whisper.training`: errors are one sentence, help documents every option."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from helpers.models import tiny_run

from lab2_whisper.training import __main__ as command_line
from lab2_whisper.training.run import Outcome

ROOT = Path(__file__).parents[3]


def test_a_wrong_corpus_is_one_sentence_on_stderr_and_status_1(nano_store, tmp_path):
    """A real process, which fails before it loads the model."""
    command = [sys.executable, "-m", "lab2_whisper.training", str(nano_store), "--run", "r",
               "--corpora", "other_pl", "--model", "no/such-model"]  # fmt: skip
    ran = subprocess.run(command, env=os.environ | {"PYTHONPATH": str(ROOT)}, cwd=tmp_path,
                         capture_output=True, text=True, check=False)  # fmt: skip
    assert ran.returncode == 1 and ran.stdout == ""
    (line,) = ran.stderr.splitlines()
    assert "other_pl" in line and "nano_pl" in line


@pytest.mark.parametrize("options", ["--run No-Name", "--run r --model no/such-model"])
def test_other_errors_are_one_sentence_too(options, nano_store, capsys):
    assert command_line.main([str(nano_store), *options.split()]) == 1
    printed = capsys.readouterr()
    assert printed.out == "" and len(printed.err.splitlines()) == 1


def test_the_options_make_the_run(tmp_path, monkeypatch, capsys):
    calls = []

    def train(store, run, minutes, folder):
        calls.append((store.root, run, minutes, folder))
        return Outcome(run, run.preset, False, 3, tmp_path, None, {}, 0.1)

    monkeypatch.setattr(command_line, "train", train)
    options = "--run r --model tiny --corpora a_pl b_pl --language de --steps 8 --evaluate-every 4"
    options += " --batch 2 --machine t4 --minutes 5 --folder work"
    assert command_line.main([str(tmp_path), *options.split()]) == 0
    ((root, run, minutes, folder),) = calls
    assert (root, minutes, folder) == (tmp_path, 5, "work")
    assert run.corpora == (("a_pl", 1.0), ("b_pl", 1.0)) and run.language == "de"
    assert (run.steps, run.evaluate_every, run.batch_size, run.machine) == (8, 4, 2, "t4")
    assert "step 3, not finished, run the same command again" in capsys.readouterr().out


def test_help_documents_every_option_in_groups(capsys):
    with pytest.raises(SystemExit, match="0"):
        command_line.main(["--help"])
    printed = capsys.readouterr().out
    for words in ("what to train", "how long to train", "the machine", "--corpora CORPUS",
                  "--evaluate-every STEPS", "drive:FOLDER", "which preset to use"):  # fmt: skip
        assert words in printed


@pytest.mark.parametrize("main_process", [True, False])
def test_only_the_main_process_prints(main_process, tmp_path, monkeypatch, capfd):
    devices = command_line.devices()
    monkeypatch.setattr(type(devices), "is_main_process", main_process)
    monkeypatch.setattr(type(devices), "is_local_main_process", main_process)
    assert command_line.main([str(tmp_path), "--run", "No Name"]) == 1
    assert bool(capfd.readouterr().err) == main_process
    monkeypatch.setattr(command_line, "_train", lambda options: Outcome(
        tiny_run("tiny"), None, True, 8, tmp_path, None, {}, 0.1))  # fmt: skip
    assert command_line.main([str(tmp_path), "--run", "r"]) == 0
    assert bool(capfd.readouterr().out) == main_process
