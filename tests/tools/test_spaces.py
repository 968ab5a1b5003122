"""Spaces as folders, and what is said to the Hub about them; static pages by the visitor's clock.

That a staged folder runs from its own requirements alone is rehearsed in tests/rehearse.
"""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from unittest import mock

import huggingface_hub
import pytest
import space
from huggingface_hub.errors import RepositoryNotFoundError

from lab1_iris import daily as iris_daily
from lab1_iris import inference as iris_inference
from lab1_iris import monitor_page as iris_page
from lab1_wine import inference as wine_inference
from lab1_wine import monitor_page as wine_page
from lab2_whisper.schema import model_of
from labstore import StoreError, ledger, open_store
from labstore.monitor import snapshot, static
from labstore.monitor.freshness import freshness, freshness_html

PAGES = ["iris", "iris-monitor", "wine", "wine-monitor"]
STATIC = ["iris-monitor-static", "wine-monitor-static"]
ONE_DAY = {
    "through": "2026-02-09",
    "dates": ["2026-02-09"],
    "last_run": "2026-02-09T06:00:00+00:00",
}


@pytest.fixture
def store_of(iris_history, wine_history, monkeypatch):
    """store_of(name) makes the lab's store with history the one that is staged from."""
    monkeypatch.delenv("LABS_SNAPSHOT", raising=False)

    def choose(name: str):
        folder = iris_history if name.startswith("iris") else wine_history
        monkeypatch.setenv("LABS_STORE", str(folder))
        return open_store(folder)

    return choose


@pytest.mark.parametrize("name", PAGES)
def test_a_staged_folder_is_the_whole_space_and_no_more(name, store_of, tmp_path):
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
    left_out = {"modal_app.py", "monitor", "app", "nano", "__pycache__", "make_offline_sample.py"}
    assert not left_out & {path.name for path in home.rglob("*")}
    staged = open_store(home / "store")
    if "monitor" in name:
        wanted = f"{name.split('-')[0]}_monitor"
        assert staged.open_files(wanted).version == store.open_files(wanted).version
        assert not (home / "store/models").exists()
    else:
        module = {"iris": iris_inference, "wine": wine_inference}[name]
        assert module.load(staged).record.version == module.load(store).record.version
        assert not (home / "store/groups").exists() and not (home / "store/files").exists()


@pytest.fixture
def whisper_store(tmp_path, monkeypatch):
    """A store with two corpora's models, as files without a meaning."""
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


def test_a_model_on_the_hub_is_named_and_not_sent(whisper_store, monkeypatch, tmp_path):
    monkeypatch.setenv("WHISPER_MODEL", "someone/whisper-small-pl")
    assert not (space.stage("whisper", tmp_path / "staged") / "store").exists()
    monkeypatch.setenv("LABS_STORE", "hopsworks:labs")  # is not opened, so needs no key there
    assert space.variables("whisper") == {"WHISPER_MODEL": "someone/whisper-small-pl"}
    assert space.secrets("whisper") == {}
    monkeypatch.setenv("WHISPER_MODEL", str(tmp_path / "model"))
    with pytest.raises(space.SpaceError, match="a Space does not see"):
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
    hub.get_space_secrets.return_value = {"HF_TOKEN": None}  # put there by hand
    space.push("whisper", "someone/page", tmp_path / "staged")
    hub.delete_space_secret.assert_not_called()
    hub.get_space_secrets.return_value = {}
    hub.model_info.return_value = huggingface_hub.ModelInfo(**info)
    space.push("whisper", "someone/page", tmp_path / "staged")
    hub.add_space_secret.assert_not_called()  # the token that may write stays at home
    assert hub.upload_folder.call_count == 2


def test_a_model_that_is_not_on_the_hub_is_named(hub, whisper_store, monkeypatch, tmp_path):
    monkeypatch.setenv("WHISPER_MODEL", "someone/wisper")
    response = mock.Mock(headers={})
    hub.model_info.side_effect = RepositoryNotFoundError("404", response=response)
    with pytest.raises(space.SpaceError, match="sees no model someone/wisper"):
        space.push("whisper", "someone/page", tmp_path / "staged")


def test_staging_again_leaves_nothing_of_the_last_time(store_of, tmp_path):
    store_of("iris")
    (space.stage("iris", tmp_path) / "left.txt").write_text("over")
    assert not (space.stage("iris", tmp_path) / "left.txt").exists()


def test_what_cannot_be_staged_is_said_in_words(monkeypatch, tmp_path):
    with pytest.raises(space.SpaceError, match=r"no Space 'rose'.*iris-monitor.*wine"):
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


def test_what_an_earlier_push_has_set_is_taken_away(hub, store_of, tmp_path):
    """It would go before the copy that is uploaded now."""
    store_of("iris-monitor")
    there = {"LABS_SNAPSHOT": "https://old.example.org/", "LABS_STORE": "hopsworks:a", "OWN": "1"}
    hub.get_space_variables.return_value = there
    hub.get_space_secrets.return_value = {"HOPSWORKS_API_KEY": None, "OWN_KEY": None}
    space.push("iris-monitor", "someone/monitor", tmp_path)
    gone = {call.args for call in hub.delete_space_variable.call_args_list}
    assert gone == {("someone/monitor", "LABS_SNAPSHOT"), ("someone/monitor", "LABS_STORE")}
    hub.delete_space_secret.assert_called_once_with("someone/monitor", "HOPSWORKS_API_KEY")


def test_a_snapshot_in_a_file_is_none_that_a_space_sees(store_of, monkeypatch, tmp_path):
    store_of("iris-monitor")
    monkeypatch.setenv("LABS_SNAPSHOT", str(tmp_path / "snapshot.json"))
    with pytest.raises(space.SpaceError, match="LABS_SNAPSHOT is the file"):
        space.stage("iris-monitor", tmp_path)


def test_a_snapshots_address_goes_along_as_a_variable(hub, monkeypatch, tmp_path):
    monkeypatch.setenv("LABS_SNAPSHOT", "https://example.org/snapshot.json")
    space.push("iris-monitor", "someone/monitor", tmp_path)
    hub.add_space_variable.assert_called_once_with(
        "someone/monitor", "LABS_SNAPSHOT", "https://example.org/snapshot.json"
    )
    assert not (tmp_path / "iris-monitor/store").exists()


def test_a_remote_stores_address_key_and_client_go_along(hub, monkeypatch, tmp_path):
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
    wanted = (tmp_path / "iris/requirements.txt").read_text().split()
    assert [line for line in wanted if "hopsworks" in line] == ["hopsworks[python]==5.2.1"]
    for path in (tmp_path / "iris").rglob("*"):  # the key is in the Space's settings only
        assert path.is_dir() or b"not-a-key" not in path.read_bytes()


def test_a_project_named_in_the_environment_goes_along_in_the_address(monkeypatch):
    monkeypatch.setenv("LABS_STORE", "hopsworks:")
    monkeypatch.setenv("HOPSWORKS_PROJECT", "flowers")
    assert space.variables("iris")["LABS_STORE"] == "hopsworks:flowers"
    monkeypatch.delenv("HOPSWORKS_PROJECT")
    with pytest.raises(space.SpaceError, match="HOPSWORKS_PROJECT is not set"):
        space.variables("iris")


@pytest.mark.parametrize("missing", ["HF_TOKEN", "HOPSWORKS_API_KEY"])
def test_a_missing_secret_is_named_before_anything_is_created(missing, hub, monkeypatch, tmp_path):
    monkeypatch.setenv("LABS_STORE", "hopsworks:flowers")
    monkeypatch.setenv("HOPSWORKS_API_KEY", "not-a-key")
    monkeypatch.delenv(missing)
    with pytest.raises(space.SpaceError, match=rf"{missing} is not set.*export {missing}="):
        space.push("iris", "someone/page", tmp_path)
    assert not hub.method_calls


@pytest.mark.parametrize("repo", ["", "page", "https://huggingface.co/someone/page"])
def test_a_space_is_named_as_owner_and_name(repo, hub, tmp_path):
    with pytest.raises(space.SpaceError, match="SPACE=owner/name"):
        space.push("iris", repo, tmp_path)
    assert not hub.method_calls


# ------------------------------------------------------------------------- static pages


@pytest.fixture(params=["iris", "wine"])
def monitor(request, iris_history, wine_history, tmp_path):
    """A lab's monitor_page, its snapshot, and the static page made of it."""
    folder, module = {"iris": (iris_history, iris_page), "wine": (wine_history, wine_page)}[
        request.param
    ]
    content = snapshot.read(open_store(folder), f"{request.param}_monitor")
    return module, content, module.write_static(content, tmp_path / "page") / "index.html"


def test_a_static_page_shows_the_monitor_and_fetches_nothing(monitor, visit):
    module, content, page_file = monitor
    html = page_file.read_text()
    now = datetime(2026, 2, 10, 7, tzinfo=UTC)
    page = visit("about:blank")
    page.clock.set_fixed_time(now)
    asked = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto(page_file.as_uri())
    assert [url for url in asked if not url.startswith("data:")] == [page_file.as_uri()]
    assert "http" not in html.replace("http-equiv", "")
    static = page.locator(".monitor").inner_text()
    assert page.locator("h1").inner_text() == module.TITLE
    for picture in page.locator("img").all():
        assert picture.evaluate("image => image.naturalWidth") > 200
    page.set_content(module.render(content, now))
    assert page.locator(".monitor").inner_text() == static


AT = [1, 48.4, 73, 100, 24 * 40]  # hours after the last day began


def test_a_static_pages_light_follows_the_visitors_clock(visit, tmp_path):
    """The browser's rule is labstore.monitor.freshness, with and without gaps, from fresh to forgotten."""
    first = date(2026, 1, 1)
    page = visit("about:blank")
    for gaps in ([], [3, 20], [38]):
        days = [first + timedelta(days=n) for n in range(40) if n not in gaps]
        content = {"through": f"{days[-1]}", "dates": [f"{day}" for day in days]}
        last = datetime(2026, 2, 9, tzinfo=UTC)
        content["last_run"] = (last + timedelta(minutes=7)).isoformat()
        page_file = tmp_path / "index.html"
        page_file.write_text(static.document("Test", "Test.", static.light(content)))
        for hours in AT:
            now = last + timedelta(hours=hours)
            page.clock.set_fixed_time(now)
            page.goto(page_file.as_uri())
            fresh = freshness(content, now)
            light = page.locator(".freshness")
            assert light.get_attribute("data-colour") == fresh.colour
            seen = [mark.get_attribute("title") for mark in light.locator("div span").all()]
            assert seen == [f"{day}{'' if there else ': missing'}" for day, there in fresh.days]
            text = light.inner_text()
            page.set_content(freshness_html(fresh))
            assert page.locator(".freshness").inner_text() == text
    assert fresh.colour == "red"


def test_a_page_that_stays_open_does_not_stay_green(visit, tmp_path):
    static.write(tmp_path, "Test", "Test.", static.light(ONE_DAY))
    page = visit("about:blank")
    page.clock.install(time=datetime(2026, 2, 9, 8, tzinfo=UTC))
    page.goto((tmp_path / "index.html").as_uri())
    assert page.locator(".freshness").get_attribute("data-colour") == "green"
    page.clock.fast_forward(4 * 86_400_000)
    page.locator(".freshness[data-colour=red]").wait_for()


def test_without_javascript_the_page_claims_nothing(browser, tmp_path):
    static.write(tmp_path, "Test", "Test.", static.light(ONE_DAY))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    assert "green" not in page.locator("body").inner_text()
    assert "Data through 2026-02-09" in page.locator(".freshness").inner_text()
    context.close()


def test_what_a_snapshot_says_cannot_run_in_the_page(monitor, visit, tmp_path):
    module, content, _ = monitor
    content["data"] = content["model"]["algorithm"] = (
        "</script><script>document.title = 'taken'</script>"
    )
    folder = module.write_static(content, tmp_path / "hostile")
    page = visit((folder / "index.html").as_uri())
    assert page.title() == module.TITLE
    content["last_run"] = "</script>"
    with pytest.raises(StoreError):
        module.write_static(content, tmp_path / "hostile")


def test_the_daily_run_writes_the_page(iris_history, monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("LABS_STORE", str(iris_history))
    monkeypatch.setattr(sys, "argv", ["daily", "--page", str(tmp_path / "page")])
    # The session's store is shared: a day on which nothing is left to do.
    monkeypatch.setattr(
        ledger, "datetime", mock.Mock(now=lambda zone: datetime(2026, 2, 9, tzinfo=zone))
    )
    ledger.command(iris_daily.run_daily, iris_daily.write_page)
    assert "every date was done before" in capsys.readouterr().out
    assert static.SCRIPT in (tmp_path / "page/index.html").read_text()
    assert space.header(tmp_path / "page")["sdk"] == "static"
