"""The roads out of the laptop, as far as seconds can check them: schedules, settings, secrets, imports.

What needs clean environments is rehearsed in tests/rehearse.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
import types
from datetime import date
from pathlib import Path
from unittest import mock

import deploy_modal
import doctor
import find_secrets
import hopsworks
import modal
import pytest
import yaml
from croniter import croniter
from helpers.hopsworks_double import Cluster
from helpers.pages import ROOT
from modal.cli import run as modal_run

from lab1_iris import daily as iris_daily
from lab1_iris import inference as iris_inference
from lab1_wine import daily as wine_daily
from lab1_wine import inference as wine_inference
from lab2_whisper import modal_app as whisper_app
from labstore import default_address, open_store
from labstore.files import FileStore
from labstore.ledger import missing_dates

# ---------------------------------------------------------------------- Modal, before Modal


@pytest.mark.parametrize("lab", deploy_modal.LABS)
def test_a_labs_modal_app_is_in_order(lab):
    assert deploy_modal.problems(deploy_modal.LABS[lab]) == []


BREAKS = {
    "cron": ('CRON = "0 6 * * *"', 'CRON = "0 25 * * *"', "'0 25 .*no cron expression"),
    "six fields": ('CRON = "0 6 * * *"', 'CRON = "0 0 6 * * *"', "no cron expression"),
    "period": ('modal.Cron(CRON, timezone="UTC")', "modal.Period(days=1)", "use modal.Cron"),
    "time zone": ('timezone="UTC"', 'timezone="Mars"', "time zone 'Mars', which there is not"),
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
    "no keys": (', required_keys=["HF_TOKEN", "SNAPSHOT_REPO"]', "", "does not say which keys"),
}


@pytest.fixture
def copy_of_app(tmp_path, monkeypatch):
    """The first lab's Modal app that has a text, in a copy that lacks it, under a name of its own."""

    def spoil(old: str, new: str) -> Path:
        texts = [path.read_text() for path in deploy_modal.LABS.values()]
        text = next(text for text in texts if old in text)
        package = tmp_path / f"spoilt_{abs(hash((old, new)))}"
        package.mkdir()
        (package / "__init__.py").touch()
        (package / "modal_app.py").write_text(text.replace(old, new))
        monkeypatch.syspath_prepend(tmp_path)
        return package / "modal_app.py"

    return spoil


@pytest.mark.parametrize("name", BREAKS)
def test_what_is_wrong_is_said_before_modal_is_called(name, copy_of_app):
    old, new, words = BREAKS[name]
    found = deploy_modal.problems(copy_of_app(old, new))
    assert len(found) == 1 and re.search(words, found[0]), found


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


def runs_told() -> set[str]:
    """Each `modal run ...` of the docs and of the apps' own texts."""
    files = [ROOT / "README.md", *ROOT.glob("docs/*.md"), *deploy_modal.LABS.values()]
    texts = [path.read_text().replace("\\\n", " ") for path in files]
    found = [re.findall(r"modal run ([^`#\n]*modal_app[^`#\n]*)", text) for text in texts]
    return {" ".join(command.split()) for commands in found for command in commands}


@pytest.mark.parametrize("told", sorted(runs_told()))
def test_modals_own_command_line_understands_what_is_told(told, monkeypatch):
    """It finds one function to run, and that takes the options; nothing is run."""
    monkeypatch.chdir(ROOT)
    monkeypatch.setattr(sys, "path", [*sys.path])  # Modal puts the app's folder there,
    monkeypatch.setitem(sys.modules, "modal_app", None)  # and the app under this name
    context = modal_run.run.make_context("modal run", shlex.split(told))
    name, command, options = modal_run.run.resolve_command(
        context, [*context._protected_args, *context.args]
    )
    command.make_context(name, options)


@pytest.mark.parametrize("file", ["README.md", "docs/deploy.md"])
def test_modals_client_is_installed_before_it_is_called(file):
    text = (ROOT / file).read_text()
    assert -1 < text.find("make .venv/modal.done") < text.index(".venv/bin/modal ")
    assert "modal deploy" not in text  # the target checks first
    command = ["make", "--dry-run", "--always-make", ".venv/modal.done"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
    assert "--editable '.[modal]'" in run.stdout


def test_a_training_on_modal_says_where_it_can_be_watched(monkeypatch, capsys):
    """An app that was run and not deployed goes by its id."""
    double = mock.create_autospec(modal.App, instance=True, app_id="ap-123")
    double.get_dashboard_url.return_value = "https://modal.example.org/ap-123"
    monkeypatch.setattr(whisper_app, "app", double)
    monkeypatch.setattr(whisper_app, "train_some", mock.create_autospec(modal.Function))
    whisper_app.training("common_voice_pl", "openai/whisper-small", "small_pl")
    whisper_app.train_some.spawn.assert_called_once()
    said = capsys.readouterr().out
    assert "`modal app logs ap-123`" in said and "https://modal.example.org/ap-123" in said


# --------------------------------------------------------------------- other schedulers

WORKFLOW = ROOT / ".github/workflows/daily.yml"


@pytest.fixture
def workflow():
    return yaml.safe_load(WORKFLOW.read_text())


def test_the_workflow_is_daily_alone_and_may_write(workflow):
    [entry] = workflow[True]["schedule"]  # YAML reads the key "on" as true
    assert croniter.is_valid(entry["cron"]) and entry["cron"].endswith(" * * *")
    assert workflow["concurrency"] == {"group": "daily"}  # one waits for the other
    assert workflow["permissions"] == {"contents": "write"}


def test_the_workflow_calls_what_there_is(workflow):
    text, makefile = WORKFLOW.read_text(), (ROOT / "Makefile").read_text()
    for target in re.findall(r"\bmake ([\w.*/ -]+?)(?= \w+=|\n|$)", text):
        for name in [word for word in target.split() if not word.startswith("--")]:
            rule = re.sub(r"^(push-space|\.venv)(-|/)[\w-]+", r"\1\2%", name)
            assert re.search(rf"^{re.escape(rule)}", makefile, re.M), name
    for name in re.findall(r"(?:vars|secrets)\.([A-Z_]+)", text):
        assert name in doctor.SETTINGS
    for folder in re.findall(r"train (lab\w+)", text):
        assert (ROOT / "notebooks" / folder / "1_feature_pipeline.ipynb").exists()


NOBODY = {  # git on GitHub's machine knows no name to commit with
    "GIT_CONFIG_GLOBAL": "/dev/null",
    "GIT_CONFIG_SYSTEM": "/dev/null",
    "GIT_CONFIG_COUNT": "1",
    "GIT_CONFIG_KEY_0": "user.useConfigOnly",
    "GIT_CONFIG_VALUE_0": "true",
}


def step_of(workflow, name: str) -> dict:
    [step] = [s for s in workflow["jobs"]["daily"]["steps"] if s.get("name") == name]
    return step


def shell(workflow, name: str, folder: Path, fails: bool = False, **more: str) -> None:
    """One of the workflow's steps, as GitHub runs it."""
    step = step_of(workflow, name)
    command = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", step["run"]]
    env = os.environ | NOBODY | step.get("env", {}) | more
    run = subprocess.run(command, cwd=folder, env=env, capture_output=True, text=True, check=False)
    assert bool(run.returncode) == fails, run.stderr


def git(*words: str, cwd: Path) -> str:
    who = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", *who, *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout


@pytest.fixture
def clone(tmp_path):
    """clone(name) is a fresh checkout, as actions/checkout makes one, of a repository made here."""
    git("init", "--quiet", "--initial-branch=main", "origin", cwd=tmp_path)
    (tmp_path / "origin/README.md").write_text("The project.\n")
    (tmp_path / "origin/.gitignore").write_text("store/\n")
    git("add", ".", cwd=tmp_path / "origin")
    git("commit", "--quiet", "-m", "Start", cwd=tmp_path / "origin")

    def make(name: str) -> Path:
        git("clone", "--quiet", "--depth=1", f"file://{tmp_path}/origin", name, cwd=tmp_path)
        return tmp_path / name

    return make


def test_the_workflow_keeps_the_store_between_runs_even_when_two_overlap(workflow, clone):
    first = clone("first")
    shell(workflow, "fetch the store", first)
    assert not list((first / "store").glob("[!.]*"))  # the project's files are not in it
    (first / "store/rows.parquet").write_text("1")
    shell(workflow, "keep the store", first)
    second, third = clone("second"), clone("third")
    for checkout in (second, third):
        shell(workflow, "fetch the store", checkout)
        assert (checkout / "store/rows.parquet").read_text() == "1"
        (checkout / f"store/{checkout.name}.parquet").write_text("2")
    for checkout in (second, third):  # the third pushes onto what the second has pushed
        shell(workflow, "keep the store", checkout)
    last = clone("last")
    shell(workflow, "fetch the store", last)
    names = {path.name for path in (last / "store").glob("*.parquet")}
    assert names == {"rows.parquet", "second.parquet", "third.parquet"}
    shell(workflow, "keep the store", last)  # nothing new is no failure


def test_a_store_that_cannot_be_asked_for_is_not_taken_for_an_empty_one(workflow, clone, tmp_path):
    checkout = clone("first")
    (tmp_path / "origin").rename(tmp_path / "away")
    shell(workflow, "fetch the store", checkout, fails=True)
    assert not (checkout / "store").exists()


def test_one_labs_failure_leaves_the_other_labs_monitor_published(workflow, tmp_path):
    name = "publish the monitors"
    assert step_of(workflow, "run what is due")["id"] == "due"
    assert "steps.due.outcome == 'failure'" in step_of(workflow, name)["if"]
    make = tmp_path / "make"
    make.write_text('#!/bin/sh\necho "$*" >> called\ncase "$1" in *iris*) exit 2; esac\n')
    make.chmod(0o755)
    more = {"PATH": f"{tmp_path}:{os.environ['PATH']}", "MONITOR_SPACES": "someone/labs"}
    shell(workflow, name, tmp_path, fails=True, **more)
    assert (tmp_path / "called").read_text().splitlines() == [
        f"push-space-{lab}-monitor-static STORE=store SPACE=someone/labs-{lab}"
        for lab in ("iris", "wine")
    ]


def test_a_daily_run_installs_no_ctgan_and_the_wine_notebooks_do():
    """It would bring torch, which a daily run has no use for."""
    wanted = {
        target: subprocess.run(
            ["make", "--dry-run", "--always-make", target],
            cwd=ROOT,
            capture_output=True,
            text=True,
            check=True,
        ).stdout
        for target in (".venv/iris.done", "daily-wine", "push-space-wine-monitor-static", "wine")
    }
    assert "[wine,notebook]" in wanted["daily-wine"]
    assert [target for target, said in wanted.items() if "ctgan" in said] == ["wine"]


@pytest.mark.parametrize(
    ("there", "trained"),
    [
        ([], ["lab1_iris", "lab1_wine"]),
        (["iris_species", "wine_quality"], ["lab1_wine"]),
        (["iris_species", "wine_quality", "wine_generator"], []),
    ],
)
def test_the_workflow_trains_what_has_no_whole_model(workflow, there, trained, tmp_path):
    """A first training that broke off, between wine's two models or in the middle of one."""
    for name in ("iris_species", "wine_quality", "wine_generator"):
        (tmp_path / f"store/models/{name}/1").mkdir(parents=True)
    for name in there:
        (tmp_path / f"store/models/{name}/1/manifest.json").touch()
    papermill = tmp_path / ".venv/bin/papermill"
    papermill.parent.mkdir(parents=True)
    papermill.write_text('#!/bin/sh\necho "$1" >> called\n')
    papermill.chmod(0o755)
    shell(workflow, "train, the first time", tmp_path)
    called = (tmp_path / "called").read_text() if trained else ""
    assert re.findall(r"notebooks/(\w+)/2_", called) == trained


@pytest.mark.parametrize("lab", ["iris", "wine"])
def test_daily_runs_that_overlap_leave_one_row_a_day(lab, request, tmp_path):
    daily, inference = {
        "iris": (iris_daily, iris_inference),
        "wine": (wine_daily, wine_inference),
    }[lab]
    folder = shutil.copytree(request.getfixturevalue(f"trained_{lab}"), tmp_path / "store")
    daily.run_daily(FileStore(folder), date(2026, 1, 1))
    run = (
        f"from datetime import date; from lab1_{lab} import daily; from labstore import open_store\n"
        f"daily.run_daily(open_store({str(folder)!r}), date(2026, 1, 6))"
    )
    command, quiet = [sys.executable, "-c", run], {"stderr": subprocess.PIPE, "text": True}
    runs = [subprocess.Popen(command, cwd=ROOT, **quiet) for _ in range(3)]
    said = [process.communicate()[1] for process in runs]
    assert not any(process.returncode for process in runs), said
    store = FileStore(folder)
    history = inference.history(store)
    assert len(history) == 6 and history["prediction_id"].is_unique
    assert not missing_dates(store, daily.LEDGER, date(2026, 1, 6))


def test_the_crontab_line_of_the_docs_is_one():
    text = (ROOT / "docs/deploy.md").read_text()
    [(cron, command)] = re.findall(r"^((?:[\d*/,-]+ ){5})(cd .*)$", text, re.M)
    assert croniter.is_valid(cron.strip())
    for target in re.search(r"make -k ([\w -]+) STORE=", command)[1].split():
        assert re.search(rf"^{target}:", (ROOT / "Makefile").read_text(), re.M)


# ------------------------------------------------------------------------------- Colab


def opened_on_colab(tmp_path: Path, **more: str) -> str:
    """The default store's folder, in a process that has google.colab."""
    code = "import colab_double, labstore; print(labstore.open_store().root)"
    env = {k: v for k, v in os.environ.items() if k != "LABS_STORE"}
    env |= {"PYTHONPATH": str(ROOT / "tests/rehearse"), "REHEARSED_DRIVE": str(tmp_path), **more}
    command = [sys.executable, "-c", code]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True)
    return run.stdout.strip()


def test_on_colab_the_default_store_is_on_drive_which_is_mounted(tmp_path):
    assert opened_on_colab(tmp_path) == str(tmp_path / "MyDrive/labs")
    assert (tmp_path / "MyDrive").is_dir()
    assert opened_on_colab(tmp_path, LABS_STORE="/elsewhere") == "/elsewhere"


@pytest.mark.parametrize("google", [None, types.ModuleType("google")])
def test_another_package_named_google_is_not_colab(google, monkeypatch):
    monkeypatch.delenv("LABS_STORE", raising=False)
    monkeypatch.setitem(sys.modules, "google", google)  # none at all, or protobuf's
    if google:
        google.__path__ = []
    assert default_address() == str(ROOT / "store")


def test_the_key_of_hopsworks_may_be_among_colabs_secrets(monkeypatch):
    monkeypatch.setenv("HOPSWORKS_API_KEY", "")
    monkeypatch.delenv("REST_ENDPOINT", raising=False)
    userdata = types.SimpleNamespace(get={"HOPSWORKS_API_KEY": "from colab"}.__getitem__)
    monkeypatch.setitem(sys.modules, "google.colab", types.SimpleNamespace(userdata=userdata))
    cluster = Cluster()
    monkeypatch.setattr(hopsworks, "login", cluster.login)
    open_store("hopsworks:labs")
    assert cluster.login.call_args.kwargs["api_key_value"] == "from colab"


# ------------------------------------------------------------------- settings and doctor

READS = re.compile(
    r"(?:environ(?:\.get)?[\[(]|getenv\(|\bsecret\(|_from_environment\()\s*\"([A-Z_]+)\""
    r"|\"([A-Z_]+)\" (?:not )?in os\.environ"
)


def test_the_list_of_settings_is_that_of_the_code():
    read = set()
    for folder in ("labstore", *(p.name for p in ROOT.glob("lab[0-9]*")), "tools", "tests"):
        for path in (ROOT / folder).rglob("*.py"):
            read |= {a or b for a, b in READS.findall(path.read_text(encoding="utf-8"))}
    read |= set(re.findall(r"^([A-Z_]+) \?=", (ROOT / "Makefile").read_text(), re.M))
    test_only = {"REHEARSED_DRIVE"}
    assert read - test_only - set(doctor.SETTINGS) <= {"PYDEVD_DISABLE_FILE_VALIDATION"}
    elsewhere = {"GRADIO_SERVER_NAME"}  # by the library alone
    files = [*ROOT.glob("lab*/**/*.py"), *ROOT.glob("tools/*.py"), *ROOT.glob("tests/**/*.py")]
    files += [*ROOT.glob("labstore/*.py"), ROOT / "Makefile", WORKFLOW]
    text = "\n".join(path.read_text(encoding="utf-8") for path in files)
    for name in set(doctor.SETTINGS) - elsewhere:
        assert re.search(rf"\b{name}\b", text), f"{name} is read nowhere"


def test_a_setting_is_needed_for_a_deployment_that_there_is():
    assert len(doctor.SETTINGS) > 10
    for setting in doctor.SETTINGS.values():
        assert setting.what and setting.read_by
        assert set(setting.needed_for) <= set(doctor.DEPLOYMENTS)


def test_doctor_names_what_is_missing_and_where(trained_iris, monkeypatch, capsys):
    for name in doctor.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABS_STORE", str(trained_iris))
    monkeypatch.setenv("HF_TOKEN", "not-a-token")
    monkeypatch.setitem(doctor.DEPLOYMENTS, "modal", list)
    doctor.main()
    parts = dict(re.findall(r"^(\S[\w ]*?) {2,}(.*(?:\n +- .*)*)", capsys.readouterr().out, re.M))
    assert set(parts) >= set(doctor.DEPLOYMENTS)
    assert "HF_TOKEN" not in parts["spaces"] and "Space wine shows" in parts["spaces"]
    assert "Space iris shows" not in parts["spaces"]
    assert "wine_quality in" in parts["crontab"] and "iris_species" not in parts["crontab"]
    assert "wine_generator in" in parts["crontab"]
    assert "SNAPSHOT_REPO" in parts["modal"] and parts["modal"].startswith("ready")
    assert "MDC_API_KEY" in parts["data collective"]


def test_doctor_takes_any_name_of_a_browser_and_names_what_installs_a_client(monkeypatch):
    named = {"google-chrome": "chromium", "espeak-ng": "espeak-ng", "strace": "strace"}
    for lacking, word in named.items():
        there = dict.fromkeys(named.keys() - {lacking}, "/bin/it")
        monkeypatch.setattr(doctor.shutil, "which", there.get)
        [line] = doctor.missing("tests")
        assert word in line
    assert doctor._client("hopsworks", "hopsworks[python]") == []
    monkeypatch.setitem(sys.modules, "hopsworks", None)
    [line] = [line for line in doctor.missing("hopsworks") if "package" in line]
    assert "'hopsworks[python]'" in line


def test_doctor_lists_what_another_store_or_model_lacks(monkeypatch, tmp_path, capsys):
    for name in doctor.SETTINGS:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("LABS_STORE", "hopsworks:labs")
    monkeypatch.setenv("WHISPER_MODEL", str(tmp_path))
    monkeypatch.setitem(doctor.DEPLOYMENTS, "modal", list)
    doctor.main()
    said = capsys.readouterr().out
    assert "Hopsworks cannot be reached without HOPSWORKS_API_KEY" in said
    assert f"for the Space whisper: WHISPER_MODEL is the folder {tmp_path}" in said


# ------------------------------------------------------------------------------ secrets

PLANTED = {  # put together here, so that this file holds none
    "Hugging Face token": "hf_" + "aB3" * 12,
    "Modal token": "ak-" + "aB3" * 8,
    "Hopsworks key": "aB3d" * 4 + "." + "aB3d" * 16,
    "GitHub token": "ghp_" + "aB3" * 12,
    "AWS key": "AKIA" + "ABCD" * 4,
    "Google key": "AIza" + "aB3-_" * 7,
    "key that starts with sk-": "sk-proj-" + "aB3" * 12,
    "Slack token": "xoxb-" + "123456-abc",
    "JSON web token": ".".join(["eyJ" + "aB3" * 6, "eyJ" + "aB3" * 6, "aB3" * 8]),
    "private key": "-----BEGIN OPENSSH " + "PRIVATE KEY-----",
    "password in an address": "postgres://me:" + "hunter22@db.example.org",
    "key in a setting": "Api_Key = '" + "aB3d" * 7 + "'",
}


@pytest.mark.parametrize("kind", find_secrets.PATTERNS)
def test_a_planted_secret_is_found(kind, tmp_path):
    (tmp_path / "app.py").write_text(f"x = 1\nkey = '{PLANTED[kind]}'\n")
    [line] = find_secrets.in_folder(tmp_path)
    assert line.endswith(f"app.py: {kind}") and PLANTED[kind] not in line


def test_the_value_of_a_secret_that_is_set_is_found(monkeypatch, tmp_path):
    monkeypatch.setenv("HF_TOKEN", "looks-like-nothing")
    (tmp_path / "index.html").write_text("<p>looks-like-nothing</p>")
    [line] = find_secrets.in_folder(tmp_path)
    assert line.endswith("index.html: a secret of this environment")


def test_a_secret_that_was_taken_out_again_is_found_in_the_history(tmp_path):
    git("init", "--quiet", cwd=tmp_path)
    for text in (f"token {PLANTED['GitHub token']}\n", "token from the environment\n"):
        (tmp_path / "notes.txt").write_text(text)
        git("add", ".", cwd=tmp_path)
        git("commit", "--quiet", "-m", "Notes", cwd=tmp_path)
    assert list(find_secrets.in_tree(tmp_path)) == []
    [line] = find_secrets.in_history(tmp_path)
    assert re.fullmatch(r"commit \w{8}: GitHub token", line)


def test_a_secret_in_a_bullet_of_a_message_is_found(tmp_path):
    git("init", "--quiet", cwd=tmp_path)
    message = f"Notes\n\n- the token {PLANTED['GitHub token']} is out\n"
    git("commit", "--quiet", "--allow-empty", "-m", message, cwd=tmp_path)
    [line] = find_secrets.in_history(tmp_path)
    assert line.endswith("GitHub token")


def test_a_secret_that_came_in_with_a_merge_is_found(tmp_path):
    """In a file that neither side has like this: a plain `git log -p` shows nothing of it."""
    git("init", "--quiet", "--initial-branch=main", cwd=tmp_path)
    git("commit", "--quiet", "--allow-empty", "-m", "Start", cwd=tmp_path)
    git("switch", "--quiet", "-c", "side", cwd=tmp_path)
    git("commit", "--quiet", "--allow-empty", "-m", "Side", cwd=tmp_path)
    git("switch", "--quiet", "main", cwd=tmp_path)
    git("merge", "--quiet", "--no-ff", "--no-commit", "side", cwd=tmp_path)
    (tmp_path / "notes.txt").write_text(PLANTED["AWS key"])
    git("add", ".", cwd=tmp_path)
    git("commit", "--quiet", "-m", "Merge", cwd=tmp_path)
    (tmp_path / "notes.txt").unlink()
    git("commit", "--quiet", "-a", "-m", "Out again", cwd=tmp_path)
    [line] = find_secrets.in_history(tmp_path)
    assert line.endswith("AWS key")


def test_what_the_project_is_full_of_is_no_secret():
    harmless = f"sha256 {'ab12' * 16}; 20261123T182421826303Z-370e1111; HF_TOKEN=hf_... token = 'not-a-token'"
    assert find_secrets.in_text(harmless, []) is None
