"""Pipelines as files: what loads, and what is refused."""

from __future__ import annotations

import importlib
import platform
import tempfile
import zipfile
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from helpers.stores import (
    DAMAGE,
    HIGH_SCORE,
    flip,
    folder_of,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labstore import Damaged, StoreError


@pytest.fixture(scope="module")
def pipeline():
    linear = pytest.importorskip("sklearn.linear_model")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    points = np.random.default_rng(0).normal(size=(60, 3))
    labels = np.where(points[:, 0] > 0, "up", "down")
    return make_pipeline(StandardScaler(), linear.LogisticRegression()).fit(points, labels)


@pytest.fixture
def sklearn_files():
    pytest.importorskip("skops")
    return importlib.import_module("labstore.skops_io")


def test_a_pipeline_predicts_the_same_after_a_round_trip(store, sklearn_files, pipeline, tmp_path):
    sklearn_files.save_pipeline(pipeline, tmp_path)
    source = folder_of(tmp_path / "source")
    source.mkdir()
    sklearn_files.save_pipeline(pipeline, source)
    store.save_model(HIGH_SCORE, source, {"score": 1.0}, {})
    again = sklearn_files.load_pipeline(store.load_model(HIGH_SCORE).path)
    points = np.random.default_rng(1).normal(size=(500, 3))
    np.testing.assert_array_equal(again.predict_proba(points), pipeline.predict_proba(points))
    assert (again.predict(points) == pipeline.predict(points)).all()


class Trap:
    """Touches a file when it is restored from a stored state or called."""

    def __init__(self, path):
        self.path = path

    def __setstate__(self, state):
        Path(state["path"]).touch()
        self.__dict__ = state

    def __call__(self, values):
        Path(self.path).touch()
        return values


def test_a_type_that_is_not_trusted_is_refused_and_does_not_run(sklearn_files, tmp_path):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    touched = tmp_path / "touched"
    sklearn_files.save_pipeline(preprocessing.FunctionTransformer(Trap(str(touched))), tmp_path)
    touched.unlink(missing_ok=True)
    with pytest.raises(Damaged, match=r"model\.skops.*Trap.*not loaded.*Train the model again"):
        sklearn_files.load_pipeline(tmp_path)
    assert not touched.exists()


def test_an_untrusted_type_is_reported_with_the_recorded_and_the_present_versions(
    sklearn_files, tmp_path
):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    sklearn_files.save_pipeline(preprocessing.FunctionTransformer(Trap("")), tmp_path)
    made_with = {"python": "3.12.12", "scikit-learn": "1.6.1", "numpy": "2.0.2"}
    with pytest.raises(Damaged) as refused:
        sklearn_files.load_pipeline(tmp_path, made_with=made_with)
    here = f"here are python {platform.python_version()}, scikit-learn {metadata.version('scikit-learn')}, "
    assert "made with python 3.12.12, scikit-learn 1.6.1, numpy 2.0.2; " + here in str(
        refused.value
    )


class Forgetful:
    """An estimator that loses its number when it is saved."""

    def __init__(self, number: float):
        self.number = number

    def predict(self, rows):
        return np.full(len(rows), self.number)

    def __getstate__(self):
        return {"number": 0.0}


def test_a_model_that_its_own_file_does_not_give_back_is_reported_before_it_is_registered(
    sklearn_files, tmp_path
):
    name = f"{__name__}.Forgetful"
    with pytest.raises(StoreError, match=r"not registered.*refused.*Forgetful.*here are python"):
        sklearn_files.save_verified(Forgetful(1.0), tmp_path, [], [1, 2])
    with pytest.raises(StoreError, match=r"not registered.*predicts otherwise.*requirements\.txt"):
        sklearn_files.save_verified(Forgetful(1.0), tmp_path, [name], [1, 2])
    path = sklearn_files.save_verified(Forgetful(0.0), tmp_path, [name], [1, 2])
    assert path == tmp_path / sklearn_files.FILE


GARBAGE = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(1000)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(1000)),
    "truncated": DAMAGE["truncated"],
    "a pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x00."),
    "another zip": lambda path: rezip(path, {"a.txt": b""}),
    "no schema": lambda path: rezip(path, {"schema.json": b"{"}),
    "empty schema": lambda path: rezip(path, {"schema.json": b"{}"}),
    "listed schema": lambda path: rezip(path, {"schema.json": b"[]"}),
}


def rezip(path: Path, files: dict[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("damage", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_file_that_is_not_a_model_is_named(sklearn_files, pipeline, tmp_path, damage):
    damage(sklearn_files.save_pipeline(pipeline, tmp_path))
    with pytest.raises(Damaged, match=r"model\.skops.*Train the model again"):
        sklearn_files.load_pipeline(tmp_path)


@pytest.fixture(scope="module")
def pipeline_bytes(pipeline, tmp_path_factory):
    from labstore.skops_io import save_pipeline

    return save_pipeline(pipeline, tmp_path_factory.mktemp("pipeline")).read_bytes()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_model_with_a_changed_byte_is_refused_or_harmless(
    sklearn_files, pipeline_bytes, where, bits
):
    """Even where no manifest's checksum was compared first, the only error is Damaged."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / sklearn_files.FILE
        path.write_bytes(pipeline_bytes)
        flip(path, int(where * len(pipeline_bytes)), bits)
        try:
            sklearn_files.load_pipeline(Path(folder))
        except Damaged as error:
            assert "model.skops" in str(error)


class Fussy:
    """A type of our own whose code has a bug when it is loaded."""

    def __init__(self, error):
        self.error = error

    def __setstate__(self, state):
        raise {"TypeError": TypeError, "KeyError": KeyError}[state["error"]]("a bug of ours")


@pytest.mark.parametrize("error", [TypeError, KeyError])
def test_an_error_in_our_own_code_is_not_reported_as_a_damaged_model(
    sklearn_files, tmp_path, error
):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    fussy = preprocessing.FunctionTransformer(kw_args={"fussy": Fussy(error.__name__)})
    sklearn_files.save_pipeline(fussy, tmp_path)
    with pytest.raises(error, match="a bug of ours"):
        sklearn_files.load_pipeline(tmp_path, trusted=[f"{__name__}.Fussy"])


def test_a_type_that_the_installed_library_lacks_is_named(sklearn_files, tmp_path, monkeypatch):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    sklearn_files.save_pipeline(preprocessing.StandardScaler(), tmp_path)
    monkeypatch.delattr("sklearn.preprocessing._data.StandardScaler")
    with pytest.raises(Damaged, match=r"model\.skops.*StandardScaler.*Train the model again"):
        sklearn_files.load_pipeline(tmp_path)


def test_the_cause_of_a_refusal_is_kept(sklearn_files, tmp_path):
    (tmp_path / sklearn_files.FILE).write_bytes(b"noise")
    with pytest.raises(Damaged) as refused:
        sklearn_files.load_pipeline(tmp_path)
    assert isinstance(refused.value.__cause__, zipfile.BadZipFile)
