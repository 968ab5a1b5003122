"""The notebooks: their form, and a run of each lab's in order on one store."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest

from lab2_whisper.features.stored import open_corpus
from labstore import open_store

ROOT = Path(__file__).resolve().parent.parent
NOTEBOOKS = sorted(ROOT.glob("notebooks/*/*.ipynb"))


@pytest.fixture(params=NOTEBOOKS, ids=lambda p: f"{p.parent.name}/{p.stem}")
def notebook(request):
    return request.param, nbformat.read(request.param, as_version=4)


def code_cells(notebook):
    return [cell for cell in notebook.cells if cell.cell_type == "code"]


def test_a_labs_notebooks_are_its_stages_in_order():
    stages = ["1_feature_pipeline", "2_training_pipeline", "3_inference_pipeline"]
    for folder in {path.parent for path in NOTEBOOKS}:
        names = sorted(p.stem for p in folder.glob("[1-9]*.ipynb"))
        assert names and names == stages[: len(names)]


def test_form(notebook):
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


def test_badge_and_install_cell_carry_the_projects_address(notebook):
    import address

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
    import address

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


def test_parameters_of_the_demo_exist_in_some_notebook_of_their_lab():
    import demo
    import papermill

    for folder, parameters, _ in demo.LABS.values():
        notebooks = (ROOT / "notebooks" / folder).glob("*.ipynb")
        known = [set(papermill.inspect_notebook(str(path))) for path in notebooks]
        assert all("STORE" in names for names in known)
        assert set(parameters) <= set().union(*known)


DEMO = f"""
import sys
sys.path.insert(0, {str(ROOT / "tools")!r})
import demo
demo.LABS["whisper"][1].update(STEPS=2, CLIPS=16)  # of 150 and 100, which take minutes
demo.main()
"""


@pytest.mark.parametrize("lab", ["iris", "wine", "whisper"])
def test_the_demo_runs_a_labs_notebooks_in_order(lab, tmp_path):
    """`make demo` for one lab, offline, in its own process: the notebooks, the table, results.json."""
    offline = {
        "HTTPS_PROXY": "http://127.0.0.1:9",
        "XDG_CACHE_HOME": str(tmp_path),
        "LABS_DATA": "",
    }
    run = subprocess.run(
        [sys.executable, "-c", DEMO, lab, "--into", str(tmp_path / "demo")],
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
    cells = nbformat.read(executed, as_version=4).cells
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    return sum("image/png" in output.get("data", {}) for output in outputs)


def test_the_demo_names_the_labs_there_are():
    run = subprocess.run(
        [sys.executable, str(ROOT / "tools/demo.py"), "rose"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 1 and "Choose from: iris, wine, whisper" in run.stderr
