"""The notebooks as Colab runs them: its own packages left alone, Drive mounted, killed and run again."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
from pathlib import Path

import address
import demo
import nbformat
import psutil
import pytest

from rehearse.conftest import PINNED, ROOT, Clean, plain

pytestmark = pytest.mark.rehearse

COLAB = ROOT / "tests/fixtures/colab_2026_01.txt"
NOTEBOOKS = {
    lab: sorted((ROOT / "notebooks" / folder).glob("*.ipynb"))
    for lab, (folder, *_) in demo.LABS.items()
}
KILLED_IN = {
    "iris": ["3"],
    "wine": ["3"],
    "whisper": ["1", "2"],
}  # the notebooks that write for long

IMPORT_ALL = """
import importlib, pkgutil, labstore, {lab}
for package in (labstore, {lab}):
    for module in pkgutil.walk_packages(package.__path__, package.__name__ + "."):
        if not any(part in module.name for part in ("modal_app", ".nano.", {other!r})):
            importlib.import_module(module.name)
print(labstore.__file__)
"""


def extras(notebook: Path) -> str:
    """What a notebook's install cell asks for, as in `iris`."""
    cells = nbformat.read(notebook, as_version=4).cells
    install = next(cell.source for cell in cells if cell.cell_type == "code")
    return re.search(r"ml-labs\[([\w,]+)\] @", install)[1]


@pytest.mark.parametrize("wanted", sorted({extras(n) for some in NOTEBOOKS.values() for n in some}))
def test_the_install_cell_leaves_colabs_own_packages_alone(wanted, clean, tmp_path):
    """pip is told that Colab's packages are there; it must not want to change torch or numpy."""
    environment = clean()
    site = next(environment.home.glob("lib/python3.*/site-packages"))
    for line in COLAB.read_text().split("\n"):
        name, equals, version = line.partition("==")
        if equals:
            note = site / f"{name.replace('-', '_')}-{version}.dist-info"
            note.mkdir()
            (note / "METADATA").write_text(
                f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
            )
            (note / "INSTALLER").write_text("pip\n")
            (note / "RECORD").write_text("")
    report = tmp_path / "report.json"
    words = ["install", "--dry-run", "--report", report, f"{ROOT}[{wanted}]"]
    environment.pip(*words, args="")  # as in the notebook: no constraint, no other index
    chosen = {
        p["metadata"]["name"].lower(): p["metadata"]["version"]
        for p in json.loads(report.read_text())["install"]
    }
    assert "ml-labs" in chosen
    kept = {"torch", "torchvision", "torchaudio", "numpy", "pandas", "scipy", "scikit-learn"}
    assert {name: chosen[name] for name in kept & set(chosen)} == {}


@pytest.fixture
def colab(clean, room):
    """A clean environment with a kernel, the double of google.colab, and nothing of the project."""
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
    """The install cell fetches the project from its public address; git finds it here instead."""
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


def words(notebook: Path, home: Path, parameters: dict) -> list[str]:
    import papermill

    known = papermill.inspect_notebook(str(notebook))
    named = {"STORE": "drive:labs"} if notebook.name[0] == "3" else {}  # what is the default, too
    chosen = {k: v for k, v in (named | parameters).items() if k in known}
    given = [word for k, v in chosen.items() for word in ("-y", f"{k}: {json.dumps(v)}")]
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
        *given,
    ]


def run_and_kill(command: list[str], home: Path, env: dict[str, str]) -> bool:
    """Start a notebook and kill it, kernel and all, as soon as some of its files are on Drive."""
    before = len(list((home / "drive").rglob("*")))
    with (home / "killed.log").open("w") as log:
        process = subprocess.Popen(command, cwd=home, env=env, stdout=log, stderr=log)
    while process.poll() is None:
        if len(list((home / "drive").rglob("*"))) > before + 3:
            family = psutil.Process(process.pid).children(recursive=True)
            for one in [*family, process]:
                one.kill()
            process.wait()
            return True
        time.sleep(0.05)
    return False


@pytest.mark.parametrize("lab", NOTEBOOKS)
def test_all_notebooks_of_a_lab_run_in_order_and_again_after_a_kill(lab, colab, room):
    home = room / f"content-{lab}"
    home.mkdir()
    _, parameters, figures = demo.LABS[lab]
    env = variables(colab, home)
    for notebook in NOTEBOOKS[lab]:
        # On Colab each notebook has a machine of its own, so each installs the project.
        colab.pip("uninstall", "--yes", "--quiet", "ml-labs")
        command = words(notebook, home, parameters)
        if notebook.name[0] in KILLED_IN[lab]:
            killed = run_and_kill(command, home, env)
            assert killed, (home / "killed.log").read_text()[-3000:]  # it ended by itself
        run = subprocess.run(
            command, cwd=home, env=env, capture_output=True, text=True, check=False
        )
        assert run.returncode == 0, f"{notebook.name}\n{run.stderr[-3000:]}"
    other = "sklearn_files" if lab == "whisper" else "no other"  # it has no scikit-learn's files
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
    from labstore import open_store

    assert figures(open_store(home / "drive/MyDrive/labs"))
    assert not os.path.exists(home / "store")
