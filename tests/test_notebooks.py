"""The notebooks: their form, their imports, and a run of each lab's in order on one store."""

from __future__ import annotations

import ast
import inspect
import json
import os
import re
import subprocess
import sys
from importlib import import_module
from pathlib import Path

import nbformat
import papermill
import pytest
from IPython.core.inputtransformer2 import TransformerManager

from lab2_whisper.features.stored import open_corpus
from labstore import open_store
from tools import address, demo
from tools.imports import ROOT, file_of

NOTEBOOKS = sorted(ROOT.glob("notebooks/*/*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def notebook(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(content):
    return [cell for cell in content.cells if cell.cell_type == "code"]


def test_a_labs_notebooks_are_its_stages_in_order():
    stages = ["1_feature_pipeline", "2_training_pipeline", "3_inference_pipeline"]
    for folder in {path.parent for path in NOTEBOOKS}:
        names = sorted(p.stem for p in folder.glob("[1-9]*.ipynb"))
        assert names and names[:3] == stages


def test_a_notebook_has_few_cells_no_outputs_and_no_definitions(notebook):
    _, content = notebook
    nbformat.validate(content)
    assert content.metadata.kernelspec.name == "python3"
    assert content.metadata.kernelspec.language == "python"
    cells = code_cells(content)
    assert len(cells) <= 15
    assert all(not cell.outputs and cell.execution_count is None for cell in cells)
    assert sum("parameters" in cell.metadata.get("tags", []) for cell in cells) == 1
    source = "\n".join(cell.source for cell in cells)
    assert not re.search(r"^\s*(def|class) ", source, re.M)
    assert "sys.path" not in source
    assert cells[-1].source.count("assert ") >= 1


def test_every_cell_is_python(notebook):
    _, content = notebook
    for cell in code_cells(content):
        ast.parse(TransformerManager().transform_cell(cell.source))


def test_every_name_that_a_notebook_imports_exists(notebook):
    """In the project's own modules and in others', without running a cell."""
    _, content = notebook
    cells = [TransformerManager().transform_cell(cell.source) for cell in code_cells(content)]
    imports = [n for cell in cells for n in ast.walk(ast.parse(cell)) if is_import(n)]
    assert imports
    for node in imports:
        if isinstance(node, ast.Import):
            for alias in node.names:
                import_module(alias.name)
        else:
            module = import_module(node.module)
            for alias in node.names:
                there = hasattr(module, alias.name) or file_of(f"{node.module}.{alias.name}")
                assert there, f"{node.module} has no {alias.name}"


def is_import(node: ast.AST) -> bool:
    """Whether a node imports something that exists outside Colab too."""
    if isinstance(node, ast.ImportFrom):
        return node.module.split(".")[0] != "google"
    return isinstance(node, ast.Import)


def test_every_call_of_the_project_in_a_notebook_takes_its_keywords(notebook):
    """`lab.module.function(a, word=...)`: a renamed parameter is found without running a cell."""
    _, content = notebook
    cells = [TransformerManager().transform_cell(cell.source) for cell in code_cells(content)]
    tree = ast.parse("\n".join(cells))
    names = imported_objects(tree)
    for call in (node for node in ast.walk(tree) if isinstance(node, ast.Call)):
        function = resolve(call.func, names)
        keywords = [word.arg for word in call.keywords if word.arg]
        if callable(function) and "lab" in str(getattr(function, "__module__", "")) and keywords:
            known = inspect.signature(function).parameters
            if not any(p.kind is p.VAR_KEYWORD for p in known.values()):
                assert set(keywords) <= set(known), f"{ast.unparse(call)}: {list(known)}"


def imported_objects(tree: ast.AST) -> dict[str, object]:
    """The project's modules, functions and classes that a tree imports, by the name they get."""
    found = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.ImportFrom) and node.module.startswith(
            ("lab1_", "lab2_", "labstore")
        ):
            for alias in node.names:
                module = import_module(node.module)
                if not hasattr(module, alias.name):
                    import_module(f"{node.module}.{alias.name}")
                found[alias.asname or alias.name] = getattr(module, alias.name)
    return found


def resolve(node: ast.AST, names: dict[str, object]) -> object:
    """What `name` or `name.attribute` stands for, None where that is not known."""
    if isinstance(node, ast.Name):
        return names.get(node.id)
    if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name):
        owner = names.get(node.value.id)
        if owner is not None:
            assert hasattr(owner, node.attr), f"{node.value.id} has no {node.attr}"
            return getattr(owner, node.attr)
    return None


def test_badge_and_install_cell_have_the_projects_address(notebook):
    path, content = notebook
    repository = address.current()
    colab = f"https://colab.research.google.com/github/{repository}/blob/main"
    assert f"({colab}/{path.relative_to(ROOT)})" in content.cells[0].source
    install = code_cells(content)[0].source
    assert install.startswith(
        "try:\n    import labstore\nexcept ModuleNotFoundError:\n    %pip install -q"
    )
    assert f"@ git+https://github.com/{repository}" in install


def test_a_fork_rewrites_the_address_everywhere(tmp_path, monkeypatch, capsys):
    copy = tmp_path / "fork"
    for path in address.files():
        target = copy / path.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_bytes(path.read_bytes())
    old = address.current()
    monkeypatch.setattr(address, "ROOT", copy)
    address.main(["some-one/my.labs"])
    assert address.current() == "some-one/my.labs"
    for path in address.files():
        assert old not in path.read_text() and "/some-one/my.labs" in path.read_text()
    with pytest.raises(SystemExit, match="owner/name"):
        address.main(["https://nonsense"])


def test_the_demos_parameters_exist_in_some_notebook_of_their_lab():
    for folder, parameters, _ in demo.LABS.values():
        notebooks = (ROOT / "notebooks" / folder).glob("*.ipynb")
        known = [set(papermill.inspect_notebook(str(path))) for path in notebooks]
        assert all("STORE" in names for names in known)
        assert set(parameters) <= set().union(*known)


SMALL_DEMO = """
from tools import demo
demo.LABS["whisper"][1].update(STEPS=2, CLIPS=16)  # of 150 and 100, which take minutes
demo.main()
"""


@pytest.mark.slow
@pytest.mark.parametrize("lab", ["iris", "wine", "whisper"])
def test_the_demo_runs_a_labs_notebooks_in_order(lab, tmp_path):
    """`make demo` for one lab, offline, in its own process: the notebooks, the table, results.json."""
    offline = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "XDG_CACHE_HOME": str(tmp_path),
        "LABS_DATA": "",
    }
    run = subprocess.run(
        [sys.executable, "-c", SMALL_DEMO, lab, "--into", str(tmp_path / "demo")],
        cwd=ROOT,
        env=os.environ | offline,
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr[-3000:]
    results = json.loads((tmp_path / "demo/results.json").read_text())
    assert set(results) == {lab}
    assert {"seconds", "data"} <= set(results[lab])
    assert lab in run.stdout
    if lab == "iris":
        assert results[lab]["accuracy"] >= 0.96 and results[lab]["data"] == "real"
    elif lab == "whisper":
        assert results[lab]["wer"] <= results[lab]["wer_before"] and results[lab]["data"] == "nano"
        home = tmp_path / "demo/lab2_whisper"
        assert pictures(home / "1_feature_pipeline.ipynb") == 3
        assert len(open_corpus(open_store(home / "store"), "nano_pl", "train")) == 300
    else:
        assert results[lab]["data"] == "offline sample"


def pictures(executed: Path) -> int:
    """The number of pictures in an executed notebook."""
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_demo_lists_the_labs_when_one_is_unknown(monkeypatch):
    monkeypatch.setattr(sys, "argv", ["demo", "rose"])
    with pytest.raises(SystemExit, match="must be one of iris, wine, whisper, not 'rose'"):
        demo.main()
