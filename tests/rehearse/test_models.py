"""What one version writes, another reads: models between Colab's libraries and those of requirements.txt."""

from __future__ import annotations

import json
import shutil
import subprocess
from itertools import product
from pathlib import Path

import numpy as np
import pytest

from lab1_iris.schema import MODEL as IRIS
from lab1_wine.schema import MODEL as WINE
from labstore import open_store
from rehearse.conftest import PINNED, Clean
from rehearse.test_colab import COLAB
from tools.imports import ROOT

pytestmark = pytest.mark.rehearse

LISTS = {"colab": COLAB, "requirements": PINNED}
STAGES = [
    "scikit-learn",
    "numpy",
    "pandas",
    "scipy",
    "skops",
    "pyarrow",
    "pandera",
    "jinja2",
    "joblib",
    "threadpoolctl",
    "tqdm",
    "pooch",
]


def colab_python(otherwise: Path) -> Path:
    """A Python 3.12, as Colab has, where there is one that starts; otherwise the one given."""
    found = [shutil.which("python3.12"), *Path.home().glob(".pyenv/versions/3.12*/bin/python3.12")]
    for python in filter(None, found):
        run = subprocess.run([python, "-c", ""], capture_output=True, check=False)
        if run.returncode == 0:
            return Path(python)
    return otherwise


@pytest.fixture(scope="module")
def environments(python, workplace):
    """A clean environment for each list of versions."""
    made = {}
    for name, versions in LISTS.items():
        chosen = colab_python(python) if name == "colab" else python
        made[name] = Clean(chosen, workplace / f"models-{name}")
        made[name].pip("install", "--prefer-binary", "-c", versions, *STAGES)
    return made


@pytest.fixture(scope="module")
def run(environments, workplace):
    """run(environment, save or load, lab, store) returns each version's predictions."""

    def start(name: str, what: str, lab: str, folder: Path) -> dict[str, list]:
        environment = environments[name]
        script = ROOT / "tests/rehearse/models.py"
        command = [environment.home / "bin/python", script, what, lab, folder]
        done = subprocess.run(
            command,
            cwd=workplace,
            env=environment.environment(workplace, PYTHONPATH=str(ROOT)),
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return json.loads(done.stdout.splitlines()[-1])

    return start


@pytest.fixture(scope="module")
def saved(run, workplace):
    """saved(list, lab) is a store written with that list's versions, and what its models predicted."""
    kept = {}

    def save(name: str, lab: str) -> tuple[Path, dict[str, list]]:
        if (name, lab) not in kept:
            folder = workplace / f"models-store-{name}-{lab}"
            kept[name, lab] = folder, run(name, "save", lab, folder)
        return kept[name, lab]

    return save


@pytest.mark.parametrize(("writer", "reader", "lab"), product(LISTS, LISTS, ["iris", "wine"]))
def test_a_model_saved_with_one_list_predicts_the_same_with_another(
    writer, reader, lab, run, saved
):
    folder, expected = saved(writer, lab)
    model = {"iris": IRIS, "wine": WINE}[lab]
    recorded = open_store(folder).load_model(model).metadata["libraries"]
    for library in ("scikit-learn", "numpy"):
        assert f"\n{library}=={recorded[library]}\n" in LISTS[writer].read_text()
    found = run(reader, "load", lab, folder)
    assert len(found) == {"iris": 7, "wine": 1}[lab] and list(found) == list(expected)
    for version, values in found.items():
        np.testing.assert_allclose(values, expected[version], rtol=0, atol=1e-9)
