"""Modal apps checked before Modal is called, and the commands of the docs that call it."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path
from unittest import mock

import modal
import pytest
from modal.cli import run as modal_run

from lab2_whisper import modal_app as whisper_app
from tools import deploy_modal
from tools.imports import ROOT


@pytest.mark.parametrize("lab", deploy_modal.LABS)
def test_every_labs_modal_app_passes_the_checks(lab):
    assert deploy_modal.problems(deploy_modal.LABS[lab]) == []


MISTAKES = {
    "cron": ('CRON = "0 6 * * *"', 'CRON = "0 25 * * *"', "'0 25 .*must be a cron expression"),
    "six fields": ('CRON = "0 6 * * *"', 'CRON = "0 0 6 * * *"', "must be a cron expression"),
    "period": ('modal.Cron(CRON, timezone="UTC")', "modal.Period(days=1)", "use modal.Cron"),
    "time zone": ('timezone="UTC"', 'timezone="Mars"', "unknown time zone 'Mars'"),
    "local code": (
        '("labstore", "lab1_iris")',
        '("lab1_iris")',
        "lacks the project's own labstore",
    ),
    "old pin": (
        '"pandas==2.3.3"',
        '"pandas==2.2.0"',
        "pandas==2.2.0, requirements.txt pandas==2.3.3",
    ),
    "no pin": ('"pandas==2.3.3"', '"pandas"', "pandas has no version"),
    "missing package": ('        "skops==0.16.0",\n', "", "lacks skops"),
    "imported by a function": ('        "huggingface_hub==2.4.0",\n', "", "lacks huggingface_hub"),
    "imported by a store": ('        "pyarrow==25.0.1",\n', "", "lacks pyarrow"),
    "imported by wine": ('        "sdmetrics==0.32.0",\n', "", "lacks sdmetrics"),
    "unknown key": ('["HF_TOKEN",', '["HF_TOEKN",', "HF_TOEKN, which docs/settings.md"),
    "no keys": (', required_keys=["HF_TOKEN", "SNAPSHOT_REPO"]', "", "does not list the keys"),
}


@pytest.fixture
def copy_of_app(tmp_path, monkeypatch):
    """copy_of_app(old, new) copies the first Modal app that contains `old`, with `new` in its place."""

    def copy_with_mistake(old: str, new: str) -> Path:
        texts = [path.read_text() for path in deploy_modal.LABS.values()]
        text = next(text for text in texts if old in text)
        package = tmp_path / f"spoilt_{abs(hash((old, new)))}"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "modal_app.py").write_text(text.replace(old, new))
        monkeypatch.syspath_prepend(tmp_path)
        return package / "modal_app.py"

    return copy_with_mistake


@pytest.mark.parametrize("name", MISTAKES)
def test_each_mistake_is_reported_before_modal_is_called(name, copy_of_app):
    old, new, message = MISTAKES[name]
    found = deploy_modal.problems(copy_of_app(old, new))
    assert len(found) == 1 and re.search(message, found[0]), found


def test_nothing_is_deployed_without_credentials(monkeypatch, tmp_path):
    for name in ("MODAL_TOKEN_ID", "MODAL_TOKEN_SECRET"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MODAL_CONFIG_PATH", str(tmp_path / "none.toml"))
    monkeypatch.setattr(sys, "argv", ["deploy_modal", "iris"])
    monkeypatch.setattr(deploy_modal.subprocess, "run", pytest.fail)
    with pytest.raises(SystemExit, match=r"(?s)not deployed.*modal setup"):
        deploy_modal.main()
    monkeypatch.setenv("MODAL_TOKEN_ID", "ak-none")
    monkeypatch.setenv("MODAL_TOKEN_SECRET", "as-none")
    assert deploy_modal.credentials() == []


def documented_runs() -> set[str]:
    """Each `modal run ...` in the docs and in the apps' docstrings."""
    files = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *deploy_modal.LABS.values()]
    texts = [path.read_text().replace("\\\n", " ") for path in files]
    found = [re.findall(r"modal run ([^`#\n]*modal_app[^`#\n]*)", text) for text in texts]
    return {" ".join(command.split()) for commands in found for command in commands}


@pytest.mark.parametrize("command_line", sorted(documented_runs()))
def test_modals_own_command_line_understands_each_documented_run(command_line, monkeypatch):
    """It finds one function to run, which accepts the options; nothing is run."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])  # Modal adds the app's folder to it,
    monkeypatch.setitem(sys.modules, "modal_app", None)  # and imports the app under this name
    context = modal_run.run.make_context("modal run", shlex.split(command_line))
    name, command, options = modal_run.run.resolve_command(
        context, [*context._protected_args, *context.args]
    )
    command.make_context(name, options)


@pytest.mark.parametrize("file", ["README.md", "docs/deploy.md"])
def test_modals_client_is_installed_before_it_is_called(file):
    text = (ROOT / file).read_text()
    assert -1 < text.find("make .venv/modal.done") < text.index(".venv/bin/modal ")
    assert "modal deploy" not in text  # the Make target checks first
    command = ["make", "--dry-run", "--always-make", ".venv/modal.done"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--editable '.[modal]'" in run.stdout


def test_a_training_on_modal_prints_where_to_watch_it(monkeypatch, capsys):
    """An app that was run and not deployed is known by its id."""
    double = mock.create_autospec(modal.App, instance=True, app_id="ap-123")
    double.get_dashboard_url.return_value = "https://modal.example.org/ap-123"
    monkeypatch.setattr(whisper_app, "app", double)
    monkeypatch.setattr(whisper_app, "train_some", mock.create_autospec(modal.Function))
    whisper_app.training("common_voice_pl", "openai/whisper-small", "small_pl")
    whisper_app.train_some.spawn.assert_called_once()
    printed = capsys.readouterr().out
    assert "`modal app logs ap-123`" in printed and "https://modal.example.org/ap-123" in printed
