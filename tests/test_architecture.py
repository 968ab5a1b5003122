"""The architecture, read from the sources: who may import whom, and what no file may do."""

from __future__ import annotations

import ast
import json
import re
import subprocess
import sys
import tomllib
from fnmatch import fnmatchcase
from graphlib import CycleError, TopologicalSorter
from itertools import chain
from pathlib import Path

import pytest

from tools import find_secrets, requirements
from tools.imports import ROOT, file_of, imported_names

LABS = sorted(p.name for p in ROOT.glob("lab[0-9]*_*") if (p / "__init__.py").exists())
PACKAGES = ["labstore", *LABS]


def module_paths(*folders: str) -> dict[str, Path]:
    """Files by their path without ".py", such as "lab1_iris/app/app"."""
    files = [path for folder in folders for path in sorted((ROOT / folder).rglob("*.py"))]
    return {path.relative_to(ROOT).with_suffix("").as_posix(): path for path in files}


PRODUCT = module_paths(*PACKAGES)
EVERYTHING = PRODUCT | module_paths("tools", "benchmarks")

# ------------------------------------------------------------------- who may import whom

# Files -> the files of the project that they may import. `*` stands for a name without "/"; no row
# lets a lab import another one. A new file needs a row, or a place that a row already covers.
RULES = {
    "labstore/*": "labstore/*",  # never the monitor, never a lab
    "labstore/monitor/*": "labstore/* labstore/monitor/*",
    # Iris and Wine: the stages share the schema, and what a model is made of
    "lab1_*/__init__": "",
    "lab1_*/schema": "labstore/*",
    "lab1_*/features": "lab1_*/schema labstore/*",
    "lab1_*/model": "lab1_*/schema",
    "lab1_wine/generator": "lab1_*/schema labstore/*",
    "lab1_wine/comparison": "lab1_*/schema lab1_*/model",
    "lab1_*/training": "lab1_*/schema lab1_*/model lab1_wine/comparison labstore/*",
    "lab1_*/inference": "lab1_*/schema lab1_*/model labstore/*",
    "lab1_*/daily": "lab1_*/schema lab1_*/features lab1_wine/generator lab1_*/inference "
    "lab1_*/monitor_page labstore/* labstore/monitor/*",
    # their pictures and pages
    "lab1_iris/flower": "",
    "lab1_wine/explore": "lab1_*/schema",
    "lab1_*/pictures": "lab1_*/schema lab1_*/inference lab1_*/training",
    "lab1_*/monitor_page": "lab1_*/schema lab1_iris/flower lab1_*/pictures labstore/* "
    "labstore/monitor/*",
    "lab1_*/app/app": "lab1_*/schema lab1_*/inference lab1_iris/flower lab1_*/pictures labstore/* "
    "labstore/monitor/*",
    "lab1_*/monitor/app": "lab1_*/schema lab1_*/monitor_page labstore/* labstore/monitor/*",
    # Whisper: what the stages share
    "lab2_whisper/__init__": "",
    "lab2_whisper/schema": "labstore/*",
    "lab2_whisper/audio": "lab2_whisper/schema",
    "lab2_whisper/text": "lab2_whisper/schema",
    # its stages; inference needs neither of the others, and so no torch
    "lab2_whisper/features/*": "lab2_whisper/schema lab2_whisper/audio lab2_whisper/text "
    "lab2_whisper/features/* labstore/*",
    "lab2_whisper/training/*": "lab2_whisper/schema lab2_whisper/audio lab2_whisper/text "
    "lab2_whisper/features/* lab2_whisper/training/* lab2_whisper/inference/segments labstore/*",
    "lab2_whisper/inference/*": "lab2_whisper/schema lab2_whisper/audio lab2_whisper/text "
    "lab2_whisper/inference/* labstore/*",
    # its pictures and page
    "lab2_whisper/pictures": "lab2_whisper/schema lab2_whisper/audio lab2_whisper/inference/subtitles",
    "lab2_whisper/page/*": "lab2_whisper/schema lab2_whisper/inference/* lab2_whisper/page/* "
    "labstore/*",
    "lab2_whisper/app/app": "lab2_whisper/schema lab2_whisper/inference/* lab2_whisper/page/* "
    "labstore/* labstore/monitor/*",
    # the edges: they open the store and call the stages
    "lab*_*/modal_app": "lab*_*/* lab2_whisper/features/* lab2_whisper/training/* "
    "lab2_whisper/inference/* labstore/* labstore/monitor/*",
    "lab1_wine/make_offline_sample": "lab1_*/schema lab1_*/features lab1_wine/generator",
    "lab2_whisper/nano/*": "lab2_whisper/schema lab2_whisper/audio lab2_whisper/text "
    "lab2_whisper/features/* lab2_whisper/training/* lab2_whisper/nano/*",
    # no part of the product
    "tools/*": "tools/* lab*_*/* labstore/* labstore/monitor/*",
    "benchmarks/*": "benchmarks/* lab*_*/* lab2_whisper/*/* labstore/* labstore/monitor/*",
}
# Packages whose __init__ is more than a docstring, and why.
CODE_IN_INIT = {
    "labstore/__init__": "open_store(), the one name that a lab needs to know",
}


def matches(name: str, pattern: str) -> bool:
    parts, patterns = name.split("/"), pattern.split("/")
    return len(parts) == len(patterns) and all(map(fnmatchcase, parts, patterns))


def rows_for(name: str) -> list[str]:
    return [pattern for pattern in RULES if matches(name, pattern)]


def imported_files(name: str, source: str) -> set[str]:
    """The project's files that a source imports; a plain package counts only where no file in it does."""
    roots = [ROOT, ROOT / "tests"] + (
        [ROOT / "benchmarks"] if name.startswith("benchmarks") else []
    )
    found = set()
    for imported in imported_names(source, typing=True):
        assert not imported.startswith("."), f"{name} has a relative import: {imported}"
        files = filter(None, (file_of(imported, root) for root in roots))
        if file := next(files, None):
            found.add(file.relative_to(ROOT).with_suffix("").as_posix())
        elif imported.partition(".")[0] in ("notebooks", "tests"):
            found.add(imported.replace(".", "/"))
    plain = {f for f in found if f.endswith("/__init__") and f not in CODE_IN_INIT}
    inside = {
        p for p in plain if any(f.startswith(p.removesuffix("__init__")) for f in found - {p})
    }
    return found - inside


def broken_rules(name: str, source: str) -> list[str]:
    """The imports of a file that no rule allows, a sentence each."""
    [row] = rows_for(name)
    home = name.split("/", maxsplit=1)[0]
    may_cross = {"labstore"} if home in PACKAGES else {"labstore", *LABS}
    found = []
    for target in sorted(imported_files(name, source)):
        allowed = any(matches(target, pattern) for pattern in RULES[row].split())
        if not allowed or target.split("/")[0] not in {home, *may_cross}:
            found.append(f"{name} must not import {target}")
    return found


@pytest.mark.parametrize("name", EVERYTHING)
def test_every_file_has_exactly_one_row_of_rules(name):
    assert len(rows_for(name)) == 1, f"{name} is covered by {rows_for(name) or 'no row of RULES'}"


@pytest.mark.parametrize("name", EVERYTHING)
def test_a_file_imports_only_what_its_row_allows(name):
    assert broken_rules(name, EVERYTHING[name].read_text()) == []


def test_no_row_of_rules_is_left_over():
    assert [row for row in RULES if not any(matches(name, row) for name in EVERYTHING)] == []


ALWAYS_FORBIDDEN = ["tests.helpers.pages", "helpers.pages", "notebooks", "benchmarks.iris"]


@pytest.mark.parametrize("name", PRODUCT)
def test_a_forbidden_import_in_any_file_is_found_even_in_a_function(name):
    source = PRODUCT[name].read_text()
    other_lab = next(lab for lab in LABS if not name.startswith(lab))
    for module in [*ALWAYS_FORBIDDEN, "tools.space", f"{other_lab}.schema"]:
        spoilt = f"{source}\ndef later():\n    import {module}\n"
        [sentence] = broken_rules(name, spoilt)
        assert sentence.startswith(f"{name} must not import ")


@pytest.mark.parametrize(
    ("name", "module"),
    [
        ("labstore/files", "labstore.monitor.html"),
        ("labstore/monitor/html", "lab1_iris.schema"),
        ("lab1_iris/schema", "lab1_iris.features"),
        ("lab1_wine/features", "lab1_wine.training"),
        ("lab1_wine/training", "lab1_wine.features"),
        ("lab1_iris/inference", "lab1_iris.training"),
        ("lab1_iris/daily", "lab1_iris.training"),
        ("lab1_wine/app/app", "lab1_wine.features"),
        ("lab1_wine/monitor/app", "lab1_wine.inference"),
        ("lab2_whisper/schema", "lab2_whisper.text"),
        ("lab2_whisper/text", "lab2_whisper.audio"),
        ("lab2_whisper/features/shards", "lab2_whisper.inference.media"),
        ("lab2_whisper/training/loop", "lab2_whisper.inference.transcribe"),
        ("lab2_whisper/inference/vad", "lab2_whisper.features.clips"),
        ("lab2_whisper/inference/engines", "lab2_whisper.training.metrics"),
        ("lab2_whisper/page/jobs", "lab2_whisper.training.run"),
        ("lab2_whisper/app/app", "lab2_whisper.features.stored"),
        ("lab2_whisper/modal_app", "lab2_whisper.page.jobs"),
    ],
)
def test_stages_and_pages_stay_apart(name, module):
    package, _, last = module.rpartition(".")
    for line in (f"import {module}", f"from {module} import x", f"from {package} import {last}"):
        assert broken_rules(name, line), f"{name}: {line}"


def test_imports_form_no_circle():
    graph = {name: imported_files(name, path.read_text()) for name, path in EVERYTHING.items()}
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        pytest.fail(f"a circle of imports: {' <- '.join(error.args[1])}")


@pytest.mark.parametrize("name", [name for name in PRODUCT if name.endswith("__init__")])
def test_a_packages_init_holds_a_docstring_only(name):
    """A worker process or a Space that imports one file of a package loads no other."""
    body = ast.parse(PRODUCT[name].read_text()).body
    only_docstring = len(body) == 1 and ast.get_docstring(ast.Module(body, [])) is not None
    assert only_docstring != (name in CODE_IN_INIT)


# --------------------------------------------------------------- what importing may not do

NOT_NEEDED = {  # by the labs' own modules: packages for development, pages, Modal and Hopsworks
    *("pytest", "hypothesis", "playwright", "nbformat", "croniter", "papermill", "jupyterlab"),
    *("gradio", "streamlit", "modal", "hopsworks", "hsfs", "hsml"),
}
WATCH = """
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
    try:
        importlib.import_module(name)
    except BaseException as error:
        raise SystemExit(f"{name}: {error!r}") from error
"""


def test_importing_a_module_writes_and_fetches_nothing(tmp_path):
    """Every module but the pages and the Modal apps, in one process whose network and writes are watched.

    Packages that only pages, Modal, Hopsworks and development need count as not installed.
    """
    modules = [
        name.replace("/", ".")
        for name in PRODUCT
        if not re.search(r"/__init__$|/modal_app$|/app/|/lab1_\w+/monitor/", f"/{name}")
    ]
    assert len(modules) > 50
    run = subprocess.run(
        [sys.executable, "-c", WATCH, json.dumps(sorted(NOT_NEEDED)), *modules],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    assert not list(tmp_path.iterdir())


NO_TORCH = """
import sys
class Refuse:  # these now behave as if they were not installed
    def find_spec(self, name, path=None, target=None):
        if name in {"torch", "transformers", "modal", "hopsworks", "streamlit", "gradio", "ctgan"}:
            raise ModuleNotFoundError(name)
sys.meta_path.insert(0, Refuse())
import lab1_iris.daily, lab1_iris.training, lab1_iris.monitor_page
import lab2_whisper.inference.transcribe, lab2_whisper.page.jobs, lab2_whisper.page.parts
"""


def test_the_iris_lab_and_transcription_never_need_torch():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    iris = " ".join([*project["dependencies"], *project["optional-dependencies"]["iris"]])
    assert not re.search(r"torch|transformers|ctgan|streamlit|hopsworks", iris)
    run = subprocess.run(
        [sys.executable, "-c", NO_TORCH], capture_output=True, text=True, check=False
    )
    assert run.returncode == 0, run.stderr


# ------------------------------------------------------------------------- names and pins


def test_the_top_level_keeps_its_names():
    for name in ("notebooks", *LABS, "requirements.txt", "README.md"):
        assert (ROOT / name).exists()
    assert LABS == ["lab1_iris", "lab1_wine", "lab2_whisper"]


def test_requirements_pin_every_package_of_pyproject():
    pins = requirements.pins()
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"].values()
    for requirement in chain(project["dependencies"], *extras):
        name = requirements.name_of(requirement)
        assert name == "ml-labs" or name in pins, f"{name} has no pin: make lock"


def test_pins_in_spaces_and_modal_images_are_those_of_requirements():
    pins = set(requirements.PINNED.read_text().split())
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


def test_no_file_contains_what_looks_like_a_secret():
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    assert list(find_secrets.in_tree()) == []
