"""Daily runs outside Modal: the GitHub workflow step by step, the crontab line, overlapping runs."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from datetime import date
from pathlib import Path

import pytest
import yaml
from croniter import croniter
from helpers.git import git

from lab1_iris import daily as iris_daily
from lab1_iris import inference as iris_inference
from lab1_wine import daily as wine_daily
from lab1_wine import inference as wine_inference
from labstore.files import FileStore
from labstore.ledger import missed_dates
from tools.imports import ROOT
from tools.settings import SETTINGS

WORKFLOW = ROOT / ".github/workflows/daily.yml"


@pytest.fixture
def workflow():
    return yaml.safe_load(WORKFLOW.read_text())


def test_the_workflow_runs_daily_one_at_a_time_and_may_write(workflow):
    [entry] = workflow[True]["schedule"]  # YAML reads the key "on" as true
    assert croniter.is_valid(entry["cron"]) and entry["cron"].endswith(" * * *")
    assert workflow["concurrency"] == {"group": "daily"}  # overlapping runs wait for each other
    assert workflow["permissions"] == {"contents": "write"}


def test_targets_settings_and_notebooks_of_the_workflow_exist(workflow):
    text, makefile = WORKFLOW.read_text(), (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([\w.*/ -]+?)(?= \w+=|\n|$)", text):
        for name in [word for word in target.split() if not word.startswith("--")]:
            rule = re.sub(r"^(push-space|\.venv)(-|/)[\w-]+", r"\1\2%", name)
            assert re.search(rf"^{re.escape(rule)}", makefile, re.M), name
    for name in re.findall(r"(?:vars|secrets)\.([A-Z_]+)", text):
        assert name in SETTINGS
    for folder in re.findall(r"train (lab\w+)", text):
        assert (ROOT / "notebooks" / folder / "1_feature_pipeline.ipynb").exists()


NO_GIT_NAME = {  # as on GitHub's machine, where git has no name to commit with
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "user.useConfigOnly",
    "GIT_CONFIG_VALUE_0": "true",
}


def step_of(workflow, name: str) -> dict:
    """The one step with this name."""
    [step] = [s for s in workflow["jobs"]["daily"]["steps"] if s.get("name") == name]
    return step


def run_step(workflow, name: str, folder: Path, fails: bool = False, **more: str) -> None:
    """Run one of the workflow's steps as GitHub does."""
    step = step_of(workflow, name)
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    env = os.environ | NO_GIT_NAME | step.get("env", {}) | more
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert bool(run.returncode) == fails, run.stderr


@pytest.fixture
def clone(tmp_path):
    """clone(name) makes a fresh checkout of a new repository, as actions/checkout does."""
    git("init", "--quiet", "--initial-branch=main", "origin", cwd=tmp_path)
    (tmp_path / "origin/README.md").write_text("The project.\n")
    (tmp_path / "origin/.gitignore").write_text("store/\n")
    git("add", ".", cwd=tmp_path / "origin")
    git("commit", "--quiet", "-m", "Start", cwd=tmp_path / "origin")

    def make(name: str) -> Path:
        git("clone", "--quiet", "--depth=1", f"file://{tmp_path}/origin", name, cwd=tmp_path)
        return tmp_path / name

    return make


def test_the_workflow_keeps_the_store_between_runs_that_overlap(workflow, clone):
    first = clone("first")
    run_step(workflow, "fetch the store", first)
    assert not list((first / "store").glob("[!.]*"))  # it does not contain the project's files
    (first / "store/rows.parquet").write_text("1")
    run_step(workflow, "keep the store", first)
    second, third = clone("second"), clone("third")
    for checkout in (second, third):
        run_step(workflow, "fetch the store", checkout)
        assert (checkout / "store/rows.parquet").read_text() == "1"
        (checkout / f"store/{checkout.name}.parquet").write_text("2")
    for checkout in (second, third):  # the third pushes on top of the second
        run_step(workflow, "keep the store", checkout)
    last = clone("last")
    run_step(workflow, "fetch the store", last)
    names = {path.name for path in (last / "store").glob("*.parquet")}
    assert names == {"rows.parquet", "second.parquet", "third.parquet"}
    run_step(workflow, "keep the store", last)  # with nothing new, the step still passes


def test_a_store_that_cannot_be_reached_does_not_count_as_empty(workflow, clone, tmp_path):
    checkout = clone("first")
    (tmp_path / "origin").rename(tmp_path / "away")
    run_step(workflow, "fetch the store", checkout, fails=True)
    assert not (checkout / "store").exists()


def test_one_labs_failure_does_not_stop_the_other_labs_monitor(workflow, tmp_path):
    name = "publish the monitors"
    assert step_of(workflow, "run the missing days")["id"] == "due"
    assert "steps.due.outcome == 'failure'" in step_of(workflow, name)["if"]
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "$*" >> called\ncase "$1" in *iris*) exit 2; esac\n')
    make.chmod(0o755)
    more = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MONITOR_SPACES": "someone/labs"}
    run_step(workflow, name, tmp_path, fails=True, **more)
    assert (tmp_path / "called").read_text().splitlines() == [
        f"push-space-{lab}-monitor-static STORE=store SPACE=someone/labs-{lab}"
        for lab in ("iris", "wine")
    ]


def test_only_the_wine_notebooks_install_ctgan_and_so_torch():
    commands = {
        target: subprocess.run(
            ["make", "--dry-run", "--always-make", target],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for target in (".venv/iris.done", "daily-wine", "push-space-wine-monitor-static", "wine")
    }
    assert "[wine,notebook]" in commands["daily-wine"]
    assert [target for target, text in commands.items() if "ctgan" in text] == ["wine"]


@pytest.mark.parametrize(
    ("present", "trained"),
    [
        ([], ["lab1_iris", "lab1_wine"]),
        (["iris_species", "wine_quality"], ["lab1_wine"]),
        (["iris_species", "wine_quality", "wine_generator"], []),
    ],
)
def test_the_workflow_trains_each_lab_without_a_complete_model(
    workflow, present, trained, tmp_path
):
    """Also after a first training that was interrupted, between Wine's two models or during one."""
    for name in ("iris_species", "wine_quality", "wine_generator"):
        (tmp_path / f"store/models/{name}/1").mkdir(parents=True)
    for name in present:
        (tmp_path / f"store/models/{name}/1/manifest.json").touch()
    papermill = tmp_path / ".venv/bin/papermill"
    papermill.parent.mkdir(parents=True)
    papermill.write_text('#!/bin/sh\necho "$1" >> called\n')
    papermill.chmod(0o755)
    run_step(workflow, "train, the first time", tmp_path)
    called = (tmp_path / "called").read_text() if trained else ""
    assert re.findall(r"notebooks/(\w+)/2_", called) == trained


@pytest.mark.slow
@pytest.mark.parametrize("lab", ["iris", "wine"])
def test_daily_runs_that_overlap_leave_one_row_per_day(lab, request, tmp_path):
    daily, inference = {
        "iris": (iris_daily, iris_inference),
        "wine": (wine_daily, wine_inference),
    }[lab]
    folder = shutil.copytree(request.getfixturevalue(f"trained_{lab}"), tmp_path / "store")
    daily.run_daily(FileStore(folder), date(2026, 1, 1))
    code = (
        f"from datetime import date; from lab1_{lab} import daily; from labstore import open_store\n"
        f"daily.run_daily(open_store({str(folder)!r}), date(2026, 1, 6))"
    )
    command, quiet = [sys.executable, "-c", code], {"stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, cwd=ROOT, **quiet) for _ in range(3)]
    errors = [process.communicate()[1] for process in runs]
    assert not any(process.returncode for process in runs), errors
    store = FileStore(folder)
    history = inference.history(store)
    assert len(history) == 6 and history["prediction_id"].is_unique
    assert not missed_dates(store, daily.LEDGER, date(2026, 1, 6))


def test_the_documented_crontab_line_is_valid():
    text = (ROOT / "docs/deploy.md").read_text()
    [(cron, command)] = re.findall(r"^((?:[\d*/,-]+ ){5})(cd .*)$", text, re.M)
    assert croniter.is_valid(cron.strip())
    for target in re.search(r"make -k ([\w -]+) STORE=", command)[1].split():
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)
