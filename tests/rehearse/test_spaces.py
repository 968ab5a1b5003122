"""Each Space from its own requirements, started as the platform starts it, and visited."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import find_secrets
import pytest
import space as spaces
from helpers.pages import free_port, upload

from lab2_whisper.schema import FOR_PAGES, NANO_CORPUS, NANO_MODEL, model_of
from labstore import open_store
from rehearse.conftest import ROOT, as_user

pytestmark = pytest.mark.rehearse


@pytest.fixture
def live(clean, start, room, monkeypatch):
    """live(name, store) -> the address of a Space that runs from a staged copy elsewhere."""

    def run(name: str, store: Path) -> str:
        monkeypatch.setenv("LABS_STORE", str(store))
        app = room / name / "home/user/app"
        shutil.move(spaces.stage(name, room / "staged"), app)
        assert list(find_secrets.in_folder(app)) == []
        _hand_over(room / name)
        environment = clean()
        environment.pip("install", "-r", app / "requirements.txt")
        head, port = spaces.header(app), free_port()
        if head["sdk"] == "docker":
            words, more = docker_command(app / "Dockerfile", head["app_port"], port)
        else:
            environment.pip(
                "install", f"gradio[oauth]=={head['sdk_version']}"
            )  # as the platform does
            words = ["python", head["app_file"]]
            more = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port)}
        seen = environment.environment(app.parent, **more)
        words = [str(environment.home / "bin" / words[0]), *words[1:]]
        check_it_stands_alone(environment.home, app, seen)
        return start(words, app, seen, port)

    return run


def _hand_over(folder: Path) -> None:
    """To user 1000, as `COPY --chown=user` does."""
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 1000, 1000)


def docker_command(recipe: Path, app_port: str, port: int) -> tuple[list[str], dict[str, str]]:
    """The command and variables of a Dockerfile, its port changed to a free one.

    It fails for steps that cannot be rehearsed here, so that none gets in unseen.
    """
    steps = [line.split(None, 1) for line in recipe.read_text().splitlines() if line.strip()]
    for word, rest in steps:
        assert word in {"FROM", "RUN", "USER", "ENV", "WORKDIR", "COPY", "EXPOSE", "CMD"}
        assert word != "RUN" or re.match(r"useradd -m -u 1000 user$|pip install ", rest), rest
    values = {word: rest for word, rest in steps}
    assert values["USER"] == "user" and values["WORKDIR"] == "/home/user/app"
    assert values["EXPOSE"] == app_port
    set_there = dict(pair.split("=", 1) for pair in shlex.split(values["ENV"]))
    for name in (
        "HOME",
        "PATH",
    ):  # another home and another environment stand in for the container's
        set_there.pop(name)
    words = json.loads(values["CMD"])
    assert any(app_port in word for word in words)
    return [word.replace(app_port, str(port)) for word in words], set_there


def check_it_stands_alone(environment: Path, app: Path, seen: dict[str, str]) -> None:
    """The project comes from the Space's own folder, and nothing on the path from the repository."""
    code = """
import importlib, json, os, sys
sys.path.insert(0, os.getcwd())
found = [p for p in os.listdir() if os.path.exists(os.path.join(p, "__init__.py"))]
print(json.dumps([[importlib.import_module(p).__file__ for p in found], sys.path, os.getuid()]))
"""
    words = [environment / "bin/python", "-c", code]
    run = subprocess.run(
        words, cwd=app, env=seen, capture_output=True, text=True, check=True, **as_user()
    )
    files, path, user = json.loads(run.stdout)
    assert len(files) == 2 and all(Path(file).is_relative_to(app) for file in files)
    assert not any((app / entry).resolve().is_relative_to(ROOT) for entry in path)
    assert user == (1000 if os.geteuid() == 0 else os.geteuid())


def test_iris(live, visit, trained_iris):
    page = visit(live("iris", trained_iris))
    page.locator("#species").get_by_text("setosa").first.wait_for()
    page.locator("#petal_length input").fill("5.6")
    page.locator("#petal_width input").fill("2.1")
    page.locator("#predict").click()
    page.locator("svg[aria-label*='Iris virginica']").wait_for()


def test_iris_monitor(live, visit, iris_history):
    page = visit(live("iris-monitor", iris_history))
    page.get_by_text("Data through 2026-02-09").wait_for()
    assert page.get_by_alt_text("confusion matrix").evaluate("i => i.naturalWidth") > 300


def test_wine(live, visit, trained_wine):
    page = visit(live("wine", trained_wine))
    page.get_by_text("Predicted quality").wait_for()
    page.get_by_text("What moved it").wait_for()
    assert page.get_by_role("alert").filter(has_text="No prediction").count() == 0


def test_wine_monitor(live, visit, wine_history):
    page = visit(live("wine-monitor", wine_history))
    page.get_by_text("Data through 2026-02-09").wait_for()
    assert page.get_by_alt_text("drift").evaluate("i => i.naturalWidth") > 300


@pytest.fixture
def whisper_store(tmp_path):
    """A store's folder with the nano model and its CTranslate2 copy, as training publishes it."""
    from ctranslate2.converters import TransformersConverter

    folder = shutil.copytree(NANO_MODEL, tmp_path / "model")
    files = ["tokenizer.json", "preprocessor_config.json"]
    converter = TransformersConverter(str(folder), copy_files=files)
    converter.convert(str(folder / FOR_PAGES), quantization="int8")
    open_store(tmp_path / "store").save_model(
        model_of("nano_pl"), folder, {"wer": 0.5}, {"data": "nano"}
    )
    return tmp_path / "store"


def test_whisper(live, visit, whisper_store):
    page = visit(live("whisper", whisper_store))
    page.get_by_text(re.compile("^(Transcribe|Zamień na tekst)$")).first.wait_for(timeout=120_000)
    clip = sorted(NANO_CORPUS.glob("pl/clips/*.mp3"))[0]
    upload(page, ("clip.mp3", clip.read_bytes()))
    page.get_by_text(re.compile("^(Done|Gotowe)$")).first.wait_for(timeout=120_000)
    page.get_by_text("Model: whisper_nano_pl").wait_for()
