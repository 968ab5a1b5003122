"""The notebook and the Modal functions: the same code as on one machine."""

import re
from dataclasses import replace
from pathlib import Path

import nbformat
import papermill
import pytest

from lab2_whisper.corpora import nano
from lab2_whisper.features import build_corpus, open_corpus
from lab2_whisper.schema import NANO_CORPUS, LabError, whisper_language
from labstore import open_store

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "lab2_whisper" / "1_feature_pipeline.ipynb"


def test_the_notebook_keeps_the_rules():
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    nbformat.validate(notebook)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert len(cells) <= 15
    assert not any(re.search(r"^\s*def ", cell.source, re.MULTILINE) for cell in cells)
    assert not any(cell.outputs or cell.execution_count for cell in cells)
    assert [c.id for c in cells if "parameters" in c.metadata.get("tags", [])] == ["parameters"]
    assert notebook.metadata.kernelspec.name == "python3"
    assert notebook.metadata.kernelspec.language == "python"


def test_the_notebook_runs(tmp_path, monkeypatch):
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    done = tmp_path / "done.ipynb"
    parameters = {"STORE": str(tmp_path / "store")}
    assert set(parameters) <= set(papermill.inspect_notebook(str(NOTEBOOK)))
    papermill.execute_notebook(str(NOTEBOOK), str(done), parameters, progress_bar=False)
    outputs = [o for c in nbformat.read(done, 4).cells for o in c.get("outputs", [])]
    pictures = [o for o in outputs if "image/png" in o.get("data", {})]
    assert len(pictures) == 3
    assert len(open_corpus(open_store(tmp_path / "store"), "nano_pl", "train")) == 300


@pytest.mark.filterwarnings("ignore")
def test_modal_functions_make_the_same_corpus(tmp_path):
    from lab2_whisper import modal_app

    cloud, here = tmp_path / "cloud", tmp_path / "here"
    plan = modal_app.plan_shards.local(str(NANO_CORPUS), "nano_pl", "pl")
    light = replace(plan, shards=())
    shards = [modal_app.make_shard.local(light, s, str(cloud), 1) for s in plan.shards]
    again = [modal_app.make_shard.local(light, s, str(cloud), 1) for s in plan.shards]
    assert [s.version for s in shards] == [s.version for s in again]  # a retry costs nothing
    made = modal_app.finish.local(light, shards, str(cloud))
    build_corpus(open_store(here), nano(), "nano_pl", processes=1)
    assert made.metadata["clips"] == 440
    stores = [open_corpus(open_store(store), "nano_pl") for store in (cloud, here)]
    assert stores[0].to_list() == stores[1].to_list()


def test_a_container_commits_what_it_made(monkeypatch, tmp_path):
    from lab2_whisper import modal_app

    order = []
    monkeypatch.setattr(modal_app.modal, "is_local", lambda: False)
    monkeypatch.setattr(modal_app, "build_shard", lambda *_: order.append("made") or "version")
    monkeypatch.setattr(modal_app.volume, "commit", lambda: order.append("committed"))
    assert modal_app.make_shard.local(None, None, str(tmp_path), 1) == "version"
    assert order == ["made", "committed"]


def test_whisper_knows_the_locales_language():
    assert [whisper_language(locale) for locale in ("pl", "zh-CN", "sv-SE")] == ["pl", "zh", "sv"]
    with pytest.raises(LabError, match=r"locale 'fy-NL'\. It knows .*pl"):
        whisper_language("fy-NL")
