"""The house's rules, read off the source: who imports whom, and what a file may not do."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from itertools import chain
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
LABS = sorted(p.name for p in ROOT.glob("lab[0-9]*_*") if (p / "__init__.py").exists())
PACKAGES = ["labstore", *LABS]
SOURCES = [p for name in PACKAGES for p in sorted((ROOT / name).rglob("*.py"))]

# Stage -> the stages of its own lab that it may use. Files not listed here are a lab's edges
# (pages, notebooks' pictures, modal_app) or helpers without a stage; only the lab is their limit.
STAGES = {
    "schema": set(),
    "features": {"schema"},
    "training": {"schema"},
    "inference": {"schema"},
    "daily": {"schema", "features", "inference"},
}


def imports(path: Path) -> set[str]:
    """Project modules a file imports, as dotted names."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    projects = (*PACKAGES, "notebooks", "tests", "tools", "benchmarks")
    return {name for name in names if name.split(".")[0] in projects}


@pytest.mark.parametrize("path", SOURCES, ids=lambda p: str(p.relative_to(ROOT)))
def test_imports_go_one_way(path):
    home = path.relative_to(ROOT).parts[0]
    allowed = {"labstore"} | ({home} if home != "labstore" else set())
    for name in imports(path):
        assert name.split(".")[0] in allowed, f"{path.relative_to(ROOT)} imports {name}"


@pytest.mark.parametrize("lab", LABS)
@pytest.mark.parametrize("stage", STAGES)
def test_a_stage_uses_only_the_stages_before_it(lab, stage):
    path = ROOT / lab / f"{stage}.py"
    if not path.exists():
        pytest.skip(f"{lab} has no {stage}.py")
    used = {part for name in imports(path) if name.startswith(lab) for part in name.split(".")[1:2]}
    forbidden = (set(STAGES) - STAGES[stage]) & used
    assert not forbidden, f"{lab}/{stage}.py uses {forbidden}"


NOT_NEEDED = {  # by the labs' own modules: what is for development, for pages, Modal and Hopsworks
    *("pytest", "hypothesis", "playwright", "nbformat", "croniter", "papermill", "jupyterlab"),
    *("gradio", "streamlit", "modal", "hopsworks", "hsfs", "hsml"),
}


@pytest.mark.parametrize("package", PACKAGES)
def test_importing_a_package_writes_and_fetches_nothing(package, tmp_path):
    """Every module but the pages, in a process whose network and writes are watched.

    What only pages, Modal, Hopsworks and development need is there as if it were not installed.
    """
    modules = [
        ".".join(p.relative_to(ROOT).with_suffix("").parts)
        for p in sorted((ROOT / package).rglob("*.py"))
        if p.stem != "__init__" and p.parent.name not in ("app", "monitor")
    ]
    watch = """
import json, sys, importlib.machinery
def refuse(event, args):
    if event in ("socket.connect", "socket.getaddrinfo"):
        raise SystemExit(f"{event} {args[1:]}")
    if event == "open" and isinstance(args[1], str) and set(args[1]) & set("wax+"):
        if not str(args[0]).startswith("/dev/"):
            raise SystemExit(f"writes {args[0]}")
Found, absent = importlib.machinery.PathFinder, json.loads(sys.argv[1])
class Installed(Found):
    @classmethod
    def find_spec(cls, name, path=None, target=None):
        return None if name.split(".")[0] in absent else super().find_spec(name, path, target)
sys.meta_path = [Installed if finder is Found else finder for finder in sys.meta_path]
sys.dont_write_bytecode = True
import numpy, pandas, sklearn, matplotlib.pyplot  # third parties may fill their caches
sys.addaudithook(refuse)
for name in sys.argv[2:]:
    importlib.import_module(name)
"""
    absent = json.dumps(sorted(NOT_NEEDED))
    run = subprocess.run(
        [sys.executable, "-c", watch, absent, *(m for m in modules if "modal_app" not in m)],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.iterdir())


def test_the_top_level_keeps_its_names():
    for name in (
        "notebooks",
        "lab1_iris",
        "lab1_wine",
        "lab2_whisper",
        "requirements.txt",
        "README.md",
    ):
        assert (ROOT / name).exists()


def test_the_iris_lab_alone_never_needs_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    iris = " ".join([*project["dependencies"], *project["optional-dependencies"]["iris"]])
    assert not re.search(r"torch|transformers|ctgan|streamlit|hopsworks", iris)
    code = """
import sys
class Refuse:  # these are now as if they were not installed
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "modal", "hopsworks", "streamlit", "gradio", "ctgan"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import lab1_iris.daily, lab1_iris.training, lab1_iris.monitor_page
"""
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert run.returncode == 0, run.stderr


def test_requirements_pin_every_bound_of_pyproject():
    pins = dict(
        line.split("==")
        for line in (ROOT / "requirements.txt").read_text().lower().split()
        if "==" in line
    )
    pins = {name.replace("_", "-"): version for name, version in pins.items()}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    for requirement in chain(project["dependencies"], *extras):
        name = re.match(r"[\w.-]+", requirement)[0].lower().replace("_", "-")
        assert name == "ml-labs" or name in pins, f"{name} has no pin: make lock"


def test_pins_in_spaces_and_modal_images_are_those_of_requirements():
    pins = set((ROOT / "requirements.txt").read_text().split())
    files = [*ROOT.glob("lab*/*/requirements.txt"), *ROOT.glob("lab*/modal_app.py")]
    assert files
    for path in files:
        for pin in re.findall(r"[\w.-]+==[\w.]+", path.read_text()):
            assert pin in pins, f"{path.relative_to(ROOT)}: {pin}"


def test_the_makefile_lists_every_target_with_its_help():
    run = subprocess.run(["make"], cwd=ROOT, capture_output=True, text=True, check=True)
    text = (ROOT / "Makefile").read_text()
    phony = re.search(r"^\.PHONY: (.*)$", text, re.M)[1].split()
    for target in phony:
        assert re.search(rf"^  make {target} +\w", run.stdout, re.M), target


def test_no_file_holds_what_looks_like_a_secret():
    import find_secrets

    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert list(find_secrets.in_tree()) == []
