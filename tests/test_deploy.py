"""What leaves the laptop: Modal apps, the Hub's data set, Spaces. Without an account.

The real clients' objects are inspected or replaced by autospecs; nothing is called over a network.
"""

from __future__ import annotations

import shutil
from datetime import UTC, date, datetime
from unittest import mock

import huggingface_hub
import pytest
import yaml
from conftest import ROOT
from croniter import croniter

from lab1_iris import daily, modal_app
from lab1_iris.schema import LEDGER, SNAPSHOT
from labstore import open_store, snapshot


def test_the_cron_is_one_daily_expression_in_utc():
    assert croniter.is_valid(modal_app.CRON)
    times = croniter(modal_app.CRON, datetime(2026, 1, 1, tzinfo=UTC))
    first, second = times.get_next(datetime), times.get_next(datetime)
    assert (second - first).total_seconds() == 86_400
    assert modal_app.daily.info().schedule == f"Cron('{modal_app.CRON}', UTC)"


def test_the_daily_function_has_its_secret_volume_and_retries():
    info = modal_app.daily.info()
    assert info.secrets == ["modal.Secret.from_name('labs')"]
    assert list(info.volumes) == [modal_app.STORE]
    assert info.max_retries == 3 and info.timeout == 600
    source = (ROOT / "lab1_iris/modal_app.py").read_text()
    assert 'required_keys=["HF_TOKEN", "SNAPSHOT_REPO"]' in source
    assert modal_app.train.info().schedule is None


@pytest.fixture
def volume(monkeypatch, tmp_path):
    """The app's volume as a folder here, its reload and commit recorded."""
    import modal

    double = mock.create_autospec(modal.Volume, instance=True)
    monkeypatch.setattr(modal_app, "volume", double)
    monkeypatch.setattr(modal_app, "STORE", str(tmp_path / "volume"))
    return double


@pytest.fixture
def hub(monkeypatch):
    """The Hub's client as an autospec of the real class, with its secrets in the environment."""
    api = mock.create_autospec(huggingface_hub.HfApi, instance=True)
    monkeypatch.setattr(huggingface_hub, "HfApi", mock.Mock(return_value=api))
    monkeypatch.setenv("HF_TOKEN", "not-a-token")
    monkeypatch.setenv("SNAPSHOT_REPO", "someone/labs")
    return api


def test_trained_once_and_run_every_day(volume, hub, capsys):
    modal_app.train.local()
    done = modal_app.daily.local()
    assert done == [datetime.now(UTC).date().isoformat()]
    assert [call[0] for call in volume.method_calls] == ["reload", "commit"] * 2
    hub.create_repo.assert_called_once_with("someone/labs", repo_type="dataset", exist_ok=True)
    sent = hub.upload_file.call_args.kwargs
    assert sent["path_in_repo"] == "iris_monitor/snapshot.json"
    assert snapshot.fetch(sent["path_or_fileobj"])["through"] == done[0]
    address = "https://huggingface.co/datasets/someone/labs/resolve/main/iris_monitor/snapshot.json"
    assert address in capsys.readouterr().out
    assert modal_app.daily.local() == []


def test_what_was_done_before_a_failure_is_committed(volume, hub, trained_iris, monkeypatch):
    shutil.copytree(trained_iris, modal_app.STORE)

    def fail(*_):
        raise RuntimeError("made to fail")

    monkeypatch.setattr(daily.inference, "predict", fail)
    with pytest.raises(RuntimeError):
        modal_app.daily.local()
    volume.commit.assert_called_once()
    assert open_store(modal_app.STORE).read(LEDGER)["status"].tolist() == ["failed"]


def test_uploading_needs_a_snapshot_first(iris_store, hub):
    daily.run_daily(iris_store, date(2026, 1, 1))
    address = snapshot.upload(iris_store, SNAPSHOT, "someone/labs", "not-a-token")
    assert address.startswith("https://huggingface.co/datasets/someone/labs/")


pytestmark = pytest.mark.filterwarnings("ignore:.*executing locally.*")

SPACES = sorted(p.parent for p in ROOT.glob("lab*/*/README.md"))


@pytest.mark.parametrize("space", SPACES, ids=lambda p: "-".join(p.parts[-2:]))
def test_a_spaces_header_names_what_is_there(space):
    header = yaml.safe_load((space / "README.md").read_text().split("---")[1])
    assert {"title", "emoji", "colorFrom", "colorTo", "sdk", "license"} <= set(header)
    if header["sdk"] == "gradio":
        pins = (space / "requirements.txt").read_text()
        assert f"gradio=={header['sdk_version']}" in pins
        assert header["python_version"] == "3.11"
        assert (space / header["app_file"]).exists()
