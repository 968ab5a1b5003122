"""The daily jobs with only what their Modal images contain: the pins and the project's added code."""

from __future__ import annotations

import ast
import json
import re
import shutil
import subprocess

import pytest

from rehearse.conftest import PINNED
from tools import deploy_modal
from tools.imports import ROOT

pytestmark = pytest.mark.rehearse

# What needs an account is replaced by autospecs of the real client's classes.
RUN = """
import json, sys
from importlib import import_module
from unittest import mock
import huggingface_hub, modal
app = import_module(f"{sys.argv[1]}.modal_app")
app.STORE, app.volume = sys.argv[2], mock.create_autospec(modal.Volume, instance=True)
huggingface_hub.HfApi = mock.create_autospec(huggingface_hub.HfApi)
done = app.daily.local()
sent = huggingface_hub.HfApi.return_value
page = open(f"{sent.upload_folder.call_args.kwargs['folder_path']}/index.html").read()
print(json.dumps([done, app.__file__, sent.upload_file.call_count, len(page)]))
"""


@pytest.mark.parametrize("lab", ["iris", "wine"])
def test_the_daily_job_runs_in_its_image(lab, clean, workplace, trained_iris, trained_wine):
    path = deploy_modal.LABS[lab]
    tree = ast.parse(path.read_text())
    environment, root = clean(), workplace / f"root-{lab}"
    client = re.search(r"^modal==\S+$", PINNED.read_text(), re.M)[0]
    environment.pip(
        "install", *deploy_modal.image_pins(tree), client
    )  # Modal puts its client into every container
    kept = shutil.ignore_patterns("app", "__pycache__")
    for package in deploy_modal.image_packages(tree):
        shutil.copytree(ROOT / package, root / package, ignore=kept)
    store = shutil.copytree(
        {"iris": trained_iris, "wine": trained_wine}[lab], workplace / f"volume-{lab}"
    )
    secret = {
        "HF_TOKEN": "not-a-token",
        "SNAPSHOT_REPO": "someone/labs",
        "MONITOR_SPACES": "someone/labs",
    }
    run = subprocess.run(
        [environment.home / "bin/python", "-c", RUN, path.parent.name, store],
        cwd=root,
        env=environment.environment(root, **secret),
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    done, file, uploads, size = json.loads(run.stdout.splitlines()[-1])
    assert len(done) == 1 and file.startswith(str(root)) and uploads == 1 and size > 10_000
