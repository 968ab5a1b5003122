"""The notebooks as on Colab: its packages stay unchanged, Drive is mounted, runs are killed and repeated."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import nbformat
import papermill
import psutil
import pytest

from labstore import open_store
from rehearse.conftest import PINNED, Clean, plain
from tools import address, demo
from tools.imports import ROOT

pytestmark = pytest.mark.rehearse

COLAB = ROOT / "tests/fixtures/colab_2026_01.txt"
NOTEBOOKS = {
    lab: sorted((ROOT / "notebooks" / folder).glob("*.ipynb"))
    for lab, (folder, *_) in demo.LABS.items()
}
KILLED_IN = {  # the notebooks that take long to write their files
    "iris": ["3"],
    "wine": ["3"],
    "whisper": ["1", "2"],
}

IMPORT_ALL = """
import importlib, pkgutil, labstore, {lab}
for package in (labstore, {lab}):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not any(part in module.name for part in ("modal_app", ".nano.", {other!r})):
            importlib.import_module(module.name)
print(labstore.__file__)
"""


def extras(notebook: Path) -> str:
    """The extras that a notebook's install cell names, such as "iris"."""
    cells = nbformat.read(notebook, as_version=4).cells
    install = next(cell.source for cell in cells if cell.cell_type == "code")
    return re.search(r"ml-labs\[([\w,]+)\] @", install)[1]


@pytest.mark.parametrize("wanted", sorted({extras(n) for some in NOTEBOOKS.values() for n in some}))
def test_the_install_cell_changes_no_package_of_colab(wanted, clean, tmp_path):
    """Colab's packages look installed to pip, which must not plan to change torch or numpy."""
    environment = clean()
    site = next(environment.home.glob("lib/python3.*/site-packages"))
    for line in COLAB.read_text().split("\n"):
        name, equals, version = line.partition("==")
        if equals:
            info = site / f"{name.replace('-', '_')}-{version}.dist-info"
            info.mkdir()
            (info / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            (info / "INSTALLER").write_text("pip\n")
            (info / "RECORD").write_text("")
    report = tmp_path / "report.json"
    arguments = ["install", "--dry-run", "--report", report, f"{ROOT}[{wanted}]"]
    environment.pip(*arguments, args="")  # as in the notebook: no constraint, no other index
    chosen = {
        p["metadata"]["name"].lower(): p["metadata"]["version"]
        for p in json.loads(report.read_text())["install"]
    }
    assert "ml-labs" in chosen
    unchanged = {"torch", "torchvision", "torchaudio", "numpy", "pandas", "scipy", "scikit-learn"}
    assert {name: chosen[name] for name in unchanged & set(chosen)} == {}


@pytest.fixture
def colab(clean):
    """A clean environment with a kernel and the double of google.colab, without the project."""
    environment = clean()
    environment.pip("install", "-c", PINNED, "ipykernel", "ipywidgets")
    site = next(environment.home.glob("lib/python3.*/site-packages"))
    shutil.copy(ROOT / "tests/rehearse/colab_double.py", site)
    (site / "colab_double.pth").write_text("import colab_double\n")
    kernel = environment.home / "share/jupyter/kernels/colab/kernel.json"
    kernel.parent.mkdir(parents=True)
    argv = [
        str(environment.home / "bin/python"),
        "-m",
        "ipykernel_launcher",
        "-f",
        "{connection_file}",
    ]
    kernel.write_text(json.dumps({"argv": argv, "display_name": "Colab", "language": "python"}))
    return environment


def variables(environment: Clean, home: Path) -> dict[str, str]:
    """Variables with which git finds the project here instead of at its public address."""
    cache = subprocess.run(
        [sys.executable, "-m", "pip", "cache", "dir"], capture_output=True, text=True, check=True
    ).stdout.strip()
    return plain() | {
        "HOME": str(home),
        "REHEARSED_DRIVE": str(home / "drive"),
        "JUPYTER_PATH": str(environment.home / "share/jupyter"),
        "PIP_CACHE_DIR": cache,
        "PIP_CONSTRAINT": str(PINNED),
        "GIT_CONFIG_COUNT": "1",
        "GIT_CONFIG_KEY_0": f"url.{ROOT}.insteadOf",
        "GIT_CONFIG_VALUE_0": f"https://github.com/{address.current()}",
    }


def papermill_command(notebook: Path, home: Path, parameters: dict) -> list[str]:
    """The command that runs a notebook with those of the parameters that it has."""
    known = papermill.inspect_notebook(str(notebook))
    named = {"STORE": "drive:labs"} if notebook.name[0] == "3" else {}  # the default on Colab
    chosen = {k: v for k, v in (named | parameters).items() if k in known}
    options = [word for k, v in chosen.items() for word in ("-y", f"{k}: {json.dumps(v)}")]
    out = home / notebook.name
    return [
        sys.executable,
        "-m",
        "papermill",
        "-k",
        "colab",
        "--no-progress-bar",
        str(notebook),
        str(out),
        *options,
    ]


def run_and_kill(command: list[str], home: Path, env: dict[str, str]) -> bool:
    """Start a notebook and kill it, kernel and all, as soon as some of its files are on Drive."""
    before = len(list((home / "drive").rglob("*")))
    with (home / "killed.log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=log)
    while process.poll() is None:
        if len(list((home / "drive").rglob("*"))) > before + 3:
            family = psutil.Process(process.pid).children(recursive=True)
            for member in [*family, process]:
                member.kill()
            process.wait()
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("lab", NOTEBOOKS)
def test_all_notebooks_of_a_lab_run_in_order_and_again_after_a_kill(lab, colab, workplace):
    home = workplace / f"content-{lab}"
    home.mkdir()
    _, parameters, figures = demo.LABS[lab]
    env = variables(colab, home)
    for notebook in NOTEBOOKS[lab]:
        # On Colab each notebook runs on a new machine, so each installs the project.
        colab.pip("uninstall", "--yes", "--quiet", "ml-labs")
        command = papermill_command(notebook, home, parameters)
        if notebook.name[0] in KILLED_IN[lab]:
            killed = run_and_kill(command, home, env)
            assert killed, (home / "killed.log").read_text()[-3000:]  # otherwise it ended first
        run = subprocess.run(
            command, cwd=home, env=env, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{notebook.name}\n{run.stderr[-3000:]}"
    other = (
        "skops_io" if lab == "whisper" else "no other"
    )  # Whisper's environment has no scikit-learn
    code = IMPORT_ALL.format(lab=demo.LABS[lab][0], other=other)
    where = subprocess.run(
        [colab.home / "bin/python", "-c", code],
        cwd=home,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert where.returncode == 0, where.stderr
    assert Path(where.stdout.strip()).is_relative_to(colab.home)
    assert (home / "drive/MyDrive/labs").is_dir()
    assert figures(open_store(home / "drive/MyDrive/labs"))
    assert not os.path.exists(home / "store")
