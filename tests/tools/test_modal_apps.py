"""The daily jobs on Modal: schedule, secrets, volume, and what they publish; without an account.

The real clients' objects are inspected, or replaced by autospecs; no network is used.
"""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from functools import partial
from pathlib import Path
from unittest import mock

import huggingface_hub
import modal
import pytest
from croniter import croniter

from lab1_iris import daily as iris_daily
from lab1_iris import modal_app as iris_app
from lab1_iris import training as iris_training
from lab1_wine import daily as wine_daily
from lab1_wine import features
from lab1_wine import modal_app as wine_app
from lab1_wine import training as wine_training
from labstore import open_store
from labstore.monitor import snapshot

pytestmark = pytest.mark.filterwarnings("ignore:.*executing locally.*")


@pytest.fixture(params=["iris", "wine"])
def lab(request, trained_iris, trained_wine):
    """A lab's Modal app, its daily module, and the folder of a store with its model."""
    if request.param == "iris":
        return iris_app, iris_daily, trained_iris
    return wine_app, wine_daily, trained_wine


def test_the_schedule_is_once_a_day_in_utc(lab):
    app = lab[0]
    assert croniter.is_valid(app.CRON)
    times = croniter(app.CRON, datetime(2026, 1, 1, tzinfo=UTC))
    first, second = times.get_next(datetime), times.get_next(datetime)
    assert (second - first).total_seconds() == 86_400
    assert app.daily.info().schedule == f"Cron('{app.CRON}', UTC)"


def test_the_daily_function_has_its_secret_volume_and_retries(lab):
    app = lab[0]
    info = app.daily.info()
    assert info.secrets == ["modal.Secret.from_name('labs')"]
    assert list(info.volumes) == [app.STORE]
    assert info.max_retries == 3 and info.timeout == 600
    assert 'required_keys=["HF_TOKEN", "SNAPSHOT_REPO"]' in Path(app.__file__).read_text()
    assert app.train.info().schedule is None


@pytest.fixture
def volume(lab, monkeypatch, tmp_path):
    """The app's volume as a local folder with a model; calls of reload and commit are recorded."""
    app, _, trained = lab
    double = mock.create_autospec(modal.Volume, instance=True)
    monkeypatch.setattr(app, "volume", double)
    monkeypatch.setattr(app, "STORE", str(shutil.copytree(trained, tmp_path / "volume")))
    return double


@pytest.fixture
def hub(monkeypatch):
    """The Hub's client as an autospec of the real class; the secrets are in the environment."""
    api = mock.create_autospec(huggingface_hub.HfApi, instance=True)
    monkeypatch.setattr(huggingface_hub, "HfApi", mock.Mock(return_value=api))
    monkeypatch.setenv("HF_TOKEN", "not-a-token")
    monkeypatch.setenv("SNAPSHOT_REPO", "someone/labs")
    return api


def test_the_daily_job_uploads_the_snapshot_to_the_hub(lab, volume, hub, capsys):
    app, module, _ = lab
    done = app.daily.local()
    assert done == [datetime.now(UTC).date().isoformat()]
    assert [call[0] for call in volume.method_calls] == ["reload", "commit"]
    hub.create_repo.assert_called_once_with("someone/labs", repo_type="dataset", exist_ok=True)
    sent = hub.upload_file.call_args.kwargs
    assert sent["path_in_repo"] == f"{module.SNAPSHOT}/snapshot.json"
    assert snapshot.fetch(sent["path_or_fileobj"])["through"] == done[0]
    address = (
        f"https://huggingface.co/datasets/someone/labs/resolve/main/{module.SNAPSHOT}/snapshot.json"
    )
    assert address in capsys.readouterr().out
    hub.upload_folder.assert_not_called()
    assert app.daily.local() == []


def test_the_static_monitor_is_published_to_the_space_in_the_secret(
    lab, volume, hub, monkeypatch, capsys
):
    app = lab[0]
    monkeypatch.setenv("MONITOR_SPACES", "someone/labs")
    app.daily.local()
    name = f"someone/labs-{app.app.name}"
    hub.create_repo.assert_called_with(name, repo_type="space", space_sdk="static", exist_ok=True)
    sent = hub.upload_folder.call_args.kwargs
    assert sent["repo_id"] == name and sent["repo_type"] == "space"
    assert "Data through" in (sent["folder_path"] / "index.html").read_text()
    assert f"https://huggingface.co/spaces/{name}" in capsys.readouterr().out


def test_what_was_done_before_a_failure_is_committed(lab, volume, hub, monkeypatch):
    app, module, _ = lab

    def fail(*_):
        raise RuntimeError("fails on purpose")

    monkeypatch.setattr(module.inference, "predict", fail)
    with pytest.raises(RuntimeError):
        app.daily.local()
    volume.commit.assert_called_once()
    hub.upload_file.assert_not_called()
    entries = open_store(app.STORE).read(module.LEDGER)
    assert sorted(entries["status"]) == ["failed", "pending"]


def test_training_on_modal_fills_an_empty_volume(monkeypatch, tmp_path):
    double = mock.create_autospec(modal.Volume, instance=True)
    monkeypatch.setattr(iris_app, "volume", double)
    monkeypatch.setattr(iris_app, "STORE", str(tmp_path / "volume"))
    monkeypatch.setattr(iris_training, "run", partial(iris_training.run, repeats=1))  # of 10
    version = iris_app.train.local()
    assert open_store(iris_app.STORE).load_model(iris_daily.inference.MODEL).version == version
    assert [call[0] for call in double.method_calls] == ["reload", "commit"]


def test_training_the_wine_lab_on_modal_registers_model_and_generator(monkeypatch, tmp_path):
    monkeypatch.setattr(wine_app, "volume", mock.create_autospec(modal.Volume, instance=True))
    monkeypatch.setattr(wine_app, "STORE", str(tmp_path / "volume"))
    monkeypatch.setattr(features, "load_wines", features.offline_sample)
    small = partial(wine_training.register, trees=10)  # of several hundred
    monkeypatch.setattr(wine_training, "register", small)
    version = wine_app.train.local()
    store = open_store(wine_app.STORE)
    assert store.load_model(wine_daily.inference.MODEL).version == version
    assert wine_daily.run_daily(store, date(2026, 1, 1)) == [date(2026, 1, 1)]
