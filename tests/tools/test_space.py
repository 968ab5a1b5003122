"""Spaces as folders, what those folders contain, and how they are pushed to the Hub.

tests/rehearse runs each staged folder from its own requirements.
"""

from __future__ import annotations

from unittest import mock

import huggingface_hub
import pytest
from huggingface_hub.errors import RepositoryNotFoundError

from lab1_iris import inference as iris_inference
from lab1_wine import inference as wine_inference
from lab2_whisper.schema import model_of
from labstore import StoreError, open_store
from tools import space
from tools.imports import ROOT

PAGES = ["iris", "iris-monitor", "wine", "wine-monitor"]
STATIC = ["iris-monitor-static", "wine-monitor-static"]


@pytest.fixture
def store_of(iris_history, wine_history, monkeypatch):
    """store_of(name) makes the lab's store with history the one that Spaces are staged from."""
    monkeypatch.delenv("LABS_SNAPSHOT", raising=False)

    def choose(name: str):
        folder = iris_history if name.startswith("iris") else wine_history
        monkeypatch.setenv("LABS_STORE", str(folder))
        return open_store(folder)

    return choose


@pytest.mark.parametrize("name", PAGES)
def test_a_staged_folder_contains_what_the_space_needs_and_nothing_else(name, store_of, tmp_path):
    store = store_of(name)
    home = space.stage(name, tmp_path)
    head = space.header(home)
    needed = {
        "README.md",
        "app.py",
        "requirements.txt",
        "labstore",
        f"lab1_{name.split('-')[0]}",
        "store",
    }
    needed |= {"Dockerfile"} if head["sdk"] == "docker" else set()
    assert {path.name for path in home.iterdir()} == needed
    lab = home / f"lab1_{name.split('-')[0]}"
    stages = {
        "features.py",
        "training.py",
        "daily.py",
        "modal_app.py",
        "monitor",
        "app",
        "make_*.py",
    }
    assert not [path for stage in stages for path in lab.rglob(stage)]
    assert not list(home.rglob("__pycache__"))
    assert ("monitor_page.py" in files_of(lab)) == ("monitor" in name)
    assert ("inference.py" in files_of(lab)) == ("monitor" not in name)
    staged = open_store(home / "store")
    if "monitor" in name:
        wanted = f"{name.split('-')[0]}_monitor"
        assert staged.open_files(wanted).version == store.open_files(wanted).version
        assert not (home / "store/models").exists()
    else:
        module = {"iris": iris_inference, "wine": wine_inference}[name]
        assert module.load(staged).record.version == module.load(store).record.version
        assert not (home / "store/groups").exists() and not (home / "store/files").exists()


def files_of(folder) -> set[str]:
    """The files in a folder and all folders below it, as paths from there."""
    return {p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file()}


def test_the_whisper_space_has_no_training_and_no_features(whisper_store, tmp_path):
    found = files_of(space.stage("whisper", tmp_path / "staged") / "lab2_whisper")
    shared = {"__init__.py", "schema.py", "audio.py", "text.py"}
    assert shared <= found and "inference/transcribe.py" in found and "page/jobs.py" in found
    assert {path.split("/")[0] for path in found} == shared | {"inference", "page"}


@pytest.fixture
def whisper_store(tmp_path, monkeypatch):
    """A store with the models of two corpora, whose files are not real weights."""
    for name in space.SPACES["whisper"].settings:
        monkeypatch.delenv(name, raising=False)
    (tmp_path / "model").mkdir()
    (tmp_path / "model/model.bin").write_bytes(b"weights")
    store = open_store(tmp_path / "source")
    for corpus in ("nano_pl", "own_pl"):
        store.save_model(model_of(corpus), tmp_path / "model", {"wer": 0.5}, {})
    monkeypatch.setenv("LABS_STORE", str(tmp_path / "source"))
    return store


@pytest.mark.parametrize("corpus", ["", "own_pl"])
def test_the_whisper_space_has_the_model_of_its_corpus(
    corpus, whisper_store, monkeypatch, tmp_path
):
    monkeypatch.setenv("WHISPER_CORPUS", corpus)
    monkeypatch.setenv("WHISPER_QUEUE", "5")
    home = space.stage("whisper", tmp_path / "staged")
    [model] = (home / "store/models").iterdir()
    assert model.name == f"whisper_{corpus or 'nano_pl'}"
    wanted = {"WHISPER_CORPUS": corpus} if corpus else {}
    assert space.variables("whisper") == wanted | {"WHISPER_QUEUE": "5"}
    assert not (home / "lab2_whisper/nano").exists() and (home / "Dockerfile").exists()


def test_for_a_model_on_the_hub_the_space_gets_its_name_and_no_copy(
    whisper_store, monkeypatch, tmp_path
):
    monkeypatch.setenv("WHISPER_MODEL", "someone/whisper-small-pl")
    assert not (space.stage("whisper", tmp_path / "staged") / "store").exists()
    monkeypatch.setenv("LABS_STORE", "hopsworks:labs")  # not opened, so the Space needs no key
    assert space.variables("whisper") == {"WHISPER_MODEL": "someone/whisper-small-pl"}
    assert space.secrets("whisper") == {}
    monkeypatch.setenv("WHISPER_MODEL", str(tmp_path / "model"))
    with pytest.raises(space.SpaceError, match="a Space cannot read"):
        space.stage("whisper", tmp_path / "staged")


@pytest.mark.parametrize("closed", [{"private": True}, {"gated": "manual"}])
def test_a_model_that_is_not_public_needs_a_token_in_the_space(
    closed, hub, whisper_store, monkeypatch, tmp_path
):
    name = "someone/whisper-small-pl"
    monkeypatch.setenv("WHISPER_MODEL", name)
    info = {"id": name, "private": False, "gated": False}
    hub.model_info.return_value = huggingface_hub.ModelInfo(**info | closed)
    with pytest.raises(
        space.SpaceError, match=r"not public.*/settings.*secret HF_TOKEN.*only read"
    ):
        space.push("whisper", "someone/page", tmp_path / "staged")
    hub.upload_folder.assert_not_called()
    hub.get_space_secrets.return_value = {"HF_TOKEN": None}  # set by hand
    space.push("whisper", "someone/page", tmp_path / "staged")
    hub.delete_space_secret.assert_not_called()
    hub.get_space_secrets.return_value = {}
    hub.model_info.return_value = huggingface_hub.ModelInfo(**info)
    space.push("whisper", "someone/page", tmp_path / "staged")
    hub.add_space_secret.assert_not_called()  # the token that may write stays here
    assert hub.upload_folder.call_count == 2


def test_a_model_that_is_not_on_the_hub_is_reported(hub, whisper_store, monkeypatch, tmp_path):
    monkeypatch.setenv("WHISPER_MODEL", "someone/wisper")
    response = mock.Mock(headers={})
    hub.model_info.side_effect = RepositoryNotFoundError("404", response=response)
    with pytest.raises(space.SpaceError, match="the Hub has no model someone/wisper"):
        space.push("whisper", "someone/page", tmp_path / "staged")


def test_staging_again_removes_the_last_folder(store_of, tmp_path):
    store_of("iris")
    (space.stage("iris", tmp_path) / "left.txt").write_text("over")
    assert not (space.stage("iris", tmp_path) / "left.txt").exists()


def test_an_unknown_space_or_an_empty_store_is_one_sentence(monkeypatch, tmp_path):
    with pytest.raises(space.SpaceError, match=r"must be one of iris.*wine.*, not 'rose'"):
        space.stage("rose", tmp_path)
    monkeypatch.setenv("LABS_STORE", str(tmp_path / "empty"))
    with pytest.raises(StoreError, match="notebooks"):
        space.stage("iris", tmp_path)


@pytest.fixture
def hub(monkeypatch):
    """The Hub's client as an autospec of the real class."""
    api = mock.create_autospec(huggingface_hub.HfApi, instance=True)
    api.get_space_variables.return_value = api.get_space_secrets.return_value = {}
    monkeypatch.setattr(huggingface_hub, "HfApi", mock.Mock(return_value=api))
    monkeypatch.setenv("HF_TOKEN", "not-a-token")
    return api


@pytest.mark.parametrize(
    ("name", "sdk"),
    [
        ("iris", "gradio"),
        ("wine", "docker"),
        ("wine-monitor", "docker"),
        *((n, "static") for n in STATIC),
    ],
)
def test_pushing_creates_the_space_and_uploads_the_folder(name, sdk, hub, store_of, tmp_path):
    store_of(name)
    assert space.push(name, "someone/a-page", tmp_path).endswith("/spaces/someone/a-page")
    hub.create_repo.assert_called_once_with(
        "someone/a-page", repo_type="space", space_sdk=sdk, exist_ok=True
    )
    sent = hub.upload_folder.call_args.kwargs
    assert sent["folder_path"] == tmp_path / name and sent["repo_type"] == "space"
    assert sent["delete_patterns"] == "*"
    hub.add_space_variable.assert_not_called()
    hub.add_space_secret.assert_not_called()
    assert huggingface_hub.HfApi.call_args.kwargs == {"token": "not-a-token"}


def test_settings_of_an_earlier_push_are_removed(hub, store_of, tmp_path):
    """The page would prefer them to the copy that is uploaded now."""
    store_of("iris-monitor")
    earlier = {"LABS_SNAPSHOT": "https://old.example.org/", "LABS_STORE": "hopsworks:a", "OWN": "1"}
    hub.get_space_variables.return_value = earlier
    hub.get_space_secrets.return_value = {"HOPSWORKS_API_KEY": None, "OWN_KEY": None}
    space.push("iris-monitor", "someone/monitor", tmp_path)
    removed = {call.args for call in hub.delete_space_variable.call_args_list}
    assert removed == {("someone/monitor", "LABS_SNAPSHOT"), ("someone/monitor", "LABS_STORE")}
    hub.delete_space_secret.assert_called_once_with("someone/monitor", "HOPSWORKS_API_KEY")


def test_a_snapshot_in_a_local_file_is_refused(store_of, monkeypatch, tmp_path):
    store_of("iris-monitor")
    monkeypatch.setenv("LABS_SNAPSHOT", str(tmp_path / "snapshot.json"))
    with pytest.raises(space.SpaceError, match="LABS_SNAPSHOT is the file"):
        space.stage("iris-monitor", tmp_path)


def test_a_snapshots_address_becomes_a_variable_of_the_space(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("LABS_SNAPSHOT", "https://example.org/snapshot.json")
    space.push("iris-monitor", "someone/monitor", tmp_path)
    hub.add_space_variable.assert_called_once_with(
        "someone/monitor", "LABS_SNAPSHOT", "https://example.org/snapshot.json"
    )
    assert not (tmp_path / "iris-monitor/store").exists()


def test_the_space_of_a_remote_store_gets_its_address_key_and_client(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("LABS_STORE", "hopsworks:flowers")
    monkeypatch.setenv("HOPSWORKS_API_KEY", "not-a-key")
    monkeypatch.setenv("HOPSWORKS_HOST", "cluster.example.org")
    monkeypatch.setenv("HOPSWORKS_PORT", "8443")
    space.push("iris", "someone/page", tmp_path)
    assert [call.args[1:] for call in hub.add_space_variable.call_args_list] == [
        ("HOPSWORKS_HOST", "cluster.example.org"),
        ("HOPSWORKS_PORT", "8443"),
        ("LABS_STORE", "hopsworks:flowers"),
    ]
    hub.add_space_secret.assert_called_once_with("someone/page", "HOPSWORKS_API_KEY", "not-a-key")
    packages = (tmp_path / "iris/requirements.txt").read_text().split()
    assert [line for line in packages if "hopsworks" in line] == ["hopsworks[python]==5.2.1"]
    for path in (tmp_path / "iris").rglob("*"):  # the key is in the Space's settings only
        assert path.is_dir() or b"not-a-key" not in path.read_bytes()


def test_a_project_in_the_environment_becomes_part_of_the_address(monkeypatch):
    monkeypatch.setenv("LABS_STORE", "hopsworks:")
    monkeypatch.setenv("HOPSWORKS_PROJECT", "flowers")
    assert space.variables("iris")["LABS_STORE"] == "hopsworks:flowers"
    monkeypatch.delenv("HOPSWORKS_PROJECT")
    with pytest.raises(space.SpaceError, match="HOPSWORKS_PROJECT is not set"):
        space.variables("iris")


@pytest.mark.parametrize("missing", ["HF_TOKEN", "HOPSWORKS_API_KEY"])
def test_a_missing_secret_is_reported_before_anything_is_created(
    missing, hub, monkeypatch, tmp_path
):
    monkeypatch.setenv("LABS_STORE", "hopsworks:flowers")
    monkeypatch.setenv("HOPSWORKS_API_KEY", "not-a-key")
    monkeypatch.delenv(missing)
    with pytest.raises(space.SpaceError, match=rf"{missing} is not set.*export {missing}="):
        space.push("iris", "someone/page", tmp_path)
    assert not hub.method_calls


@pytest.mark.parametrize("repo", ["", "page", "https://huggingface.co/someone/page"])
def test_a_space_must_be_named_as_owner_and_name(repo, hub, tmp_path):
    with pytest.raises(space.SpaceError, match="SPACE=owner/name"):
        space.push("iris", repo, tmp_path)
    assert not hub.method_calls


FOLDERS = sorted(p.parent for p in ROOT.glob("lab*/*/README.md"))


@pytest.mark.parametrize("folder", FOLDERS, ids=lambda p: "-".join(p.parts[-2:]))
def test_a_spaces_header_fits_its_files(folder):
    header = space.header(folder)
    assert {"title", "emoji", "colorFrom", "colorTo", "sdk", "license"} <= set(header)
    if header["sdk"] == "gradio":
        pins = (folder / "requirements.txt").read_text()
        assert f"gradio=={header['sdk_version']}" in pins
        assert header["python_version"] == "3.11"
        assert (folder / header["app_file"]).exists()
    else:
        assert header["sdk"] == "docker" and header["app_port"] == 8501
        recipe = (folder / "Dockerfile").read_text()
        assert "useradd -m -u 1000 user" in recipe and "--server.port=8501" in recipe
        assert "streamlit==" in (folder / "requirements.txt").read_text()
