"""Each Space from its own requirements, started as the platform starts it, and visited."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
from pathlib import Path

import pytest
from helpers.pages import free_port, upload

from lab2_whisper.schema import CT2_FOLDER, NANO_CORPUS, NANO_MODEL, model_of
from labstore import open_store
from rehearse.conftest import as_user
from tools import find_secrets
from tools import space as spaces
from tools.imports import ROOT

pytestmark = pytest.mark.rehearse


@pytest.fixture
def live(clean, start, workplace, monkeypatch):
    """live(name, store) runs a Space from a staged copy outside the project and returns its address."""

    def run(name: str, store: Path) -> str:
        monkeypatch.setenv("LABS_STORE", str(store))
        app = workplace / name / "home/user/app"
        shutil.move(spaces.stage(name, workplace / "staged"), app)
        assert list(find_secrets.in_folder(app)) == []
        give_to_user(workplace / name)
        environment = clean()
        environment.pip("install", "-r", app / "requirements.txt")
        head, port = spaces.header(app), free_port()
        if head["sdk"] == "docker":
            command, more = docker_command(app / "Dockerfile", head["app_port"], port)
        else:
            environment.pip(
                "install", f"gradio[oauth]=={head['sdk_version']}"
            )  # as the platform does
            command = ["python", head["app_file"]]
            more = {"GRADIO_SERVER_NAME": "0.0.0.0", "GRADIO_SERVER_PORT": str(port)}
        variables = environment.environment(app.parent, **more)
        command = [str(environment.home / "bin" / command[0]), *command[1:]]
        check_it_needs_nothing_of_the_repository(environment.home, app, variables)
        return start(command, app, variables, port)

    return run


def give_to_user(folder: Path) -> None:
    """Make user 1000 the owner, as `COPY --chown=user` does."""
    if os.geteuid() == 0:
        for path in [folder, *folder.rglob("*")]:
            os.chown(path, 1000, 1000)


def docker_command(dockerfile: Path, app_port: int, port: int) -> tuple[list[str], dict[str, str]]:
    """The command and the variables of a Dockerfile, with a free port in place of its own.

    It fails for steps that cannot be repeated here, so that no such step is added unnoticed.
    """
    steps = [line.split(None, 1) for line in dockerfile.read_text().splitlines() if line.strip()]
    for word, rest in steps:
        assert word in {"FROM", "RUN", "USER", "ENV", "WORKDIR", "COPY", "EXPOSE", "CMD"}
        assert word != "RUN" or re.match(r"useradd -m -u 1000 user$|pip install ", rest), rest
    values = {word: rest for word, rest in steps}
    assert values["USER"] == "user" and values["WORKDIR"] == "/home/user/app"
    assert values["EXPOSE"] == str(app_port)
    variables = dict(pair.split("=", 1) for pair in shlex.split(values["ENV"]))
    for name in ("HOME", "PATH"):  # the test has its own
        variables.pop(name)
    command = json.loads(values["CMD"])
    assert any(str(app_port) in word for word in command)
    return [word.replace(str(app_port), str(port)) for word in command], variables


def check_it_needs_nothing_of_the_repository(
    environment: Path, app: Path, variables: dict[str, str]
) -> None:
    """The project is imported from the Space's own folder, and no path leads to the repository."""
    code = """
import importlib, json, os, sys
sys.path.insert(0, os.getcwd())
found = [p for p in os.listdir() if os.path.exists(os.path.join(p, "__init__.py"))]
print(json.dumps([[importlib.import_module(p).__file__ for p in found], sys.path, os.getuid()]))
"""
    command = [environment / "bin/python", "-c", code]
    run = subprocess.run(
        command, cwd=app, env=variables, capture_output=True, text=True, check=True, **as_user()
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
    """The folder of a store with the nano model and its CTranslate2 copy, as training publishes it."""
    from ctranslate2.converters import TransformersConverter

    folder = shutil.copytree(NANO_MODEL, tmp_path / "model")
    files = ["tokenizer.json", "preprocessor_config.json"]
    converter = TransformersConverter(str(folder), copy_files=files)
    converter.convert(str(folder / CT2_FOLDER), quantization="int8")
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
