"""What several test files need: stores with trained models, a browser, a served page; CPU time."""

from __future__ import annotations

import os
import resource
import shutil
from datetime import date
from pathlib import Path

import pytest
from helpers.pages import CHROMIUM_FLAGS, ROOT, serving

from lab1_iris import daily, features, training
from lab1_wine import daily as wine_daily
from lab1_wine import features as wine_features
from lab1_wine import generator as wine_generator
from lab1_wine import training as wine_training
from lab1_wine.schema import WINES
from labstore import open_store

os.environ.setdefault("HF_HUB_OFFLINE", "1")  # before any import: no test asks the Hub


def pytest_terminal_summary(terminalreporter):
    """Print the CPU time of this process and of all processes that it has waited for."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    seconds = sum(usage.ru_utime + usage.ru_stime for usage in used)
    terminalreporter.write_line(f"{seconds:.0f} CPU seconds (user and system) in all processes")


@pytest.fixture(scope="session")
def trained_iris(tmp_path_factory) -> Path:
    """A store's folder with the flowers and a model; tests copy it and never change it."""
    folder = tmp_path_factory.mktemp("iris") / "store"
    store = open_store(folder)
    features.run(store)
    training.run(store, repeats=1)
    return folder


@pytest.fixture
def iris_store(trained_iris, tmp_path):
    """A store for one test alone, with flowers and a model."""
    return open_store(shutil.copytree(trained_iris, tmp_path / "store"))


@pytest.fixture(scope="session")
def iris_history(trained_iris, tmp_path_factory) -> Path:
    """A store's folder with forty days of predictions as well."""
    folder = shutil.copytree(trained_iris, tmp_path_factory.mktemp("history") / "store")
    store = open_store(folder)
    daily.run_daily(store, date(2026, 1, 1))
    daily.run_daily(store, date(2026, 2, 9))
    return folder


@pytest.fixture(scope="session")
def trained_wine(tmp_path_factory) -> Path:
    """A store's folder with the offline sample, a small model and a generator."""
    folder = tmp_path_factory.mktemp("wine") / "store"
    store = open_store(folder)
    store.insert(WINES, wine_features.offline_sample())
    wines, data = wine_training.load_training_rows(store)
    wine_training.register(store, wines, data, trees=10)
    fits = {"Gaussian copula": wine_generator.Copula.fit}
    report = wine_generator.compare(wines, fits, seeds=[0])
    wine_generator.register(store, wines, data, fits, report)
    return folder


@pytest.fixture
def wine_store(trained_wine, tmp_path):
    """A store for one test alone, with wines, a model and a generator."""
    return open_store(shutil.copytree(trained_wine, tmp_path / "store"))


@pytest.fixture(scope="session")
def wine_history(trained_wine, tmp_path_factory) -> Path:
    """A store's folder with forty days of predictions as well."""
    folder = shutil.copytree(trained_wine, tmp_path_factory.mktemp("history") / "store")
    store = open_store(folder)
    wine_daily.run_daily(store, date(2026, 1, 1))
    wine_daily.run_daily(store, date(2026, 2, 9))
    return folder


@pytest.fixture(scope="session")
def real_wines():
    """The UCI tables from LABS_DATA; skips the test where they are missing."""
    if not (Path(os.environ.get("LABS_DATA", "absent")) / "wine").is_dir():
        pytest.skip("the UCI wine tables are not in LABS_DATA")
    return wine_features.load_wines()


@pytest.fixture(scope="session")
def published_nano(tmp_path_factory) -> Path:
    """The nano model as training publishes it: with a CTranslate2 copy, for a short audio context.

    Tests copy it and never change it.
    """
    from lab2_whisper.schema import NANO_MODEL
    from lab2_whisper.training.publish import convert

    folder = shutil.copytree(NANO_MODEL, tmp_path_factory.mktemp("whisper") / "nano")
    convert(folder, short_audio_context=True)
    return folder


@pytest.fixture(scope="session")
def browser():
    """A headless Chromium; without one, the test is skipped, or fails when LABS_NEED_BROWSER is set."""
    from playwright.sync_api import sync_playwright

    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    if found is None:
        give_up = pytest.fail if os.environ.get("LABS_NEED_BROWSER") else pytest.skip
        give_up("no Chromium on this machine: apt-get install chromium")
    with sync_playwright() as playwright:
        chromium = playwright.chromium.launch(executable_path=found, args=CHROMIUM_FLAGS)
        yield chromium
        chromium.close()


@pytest.fixture
def visit(browser):
    """visit(url) opens a page; errors in its scripts fail the test."""
    errors, context = [], browser.new_context(viewport={"width": 1200, "height": 900})

    def open_page(url: str):
        page = context.new_page()
        page.on("pageerror", lambda error: errors.append(str(error)))
        page.goto(url)
        return page

    yield open_page
    context.close()
    assert not errors, errors


@pytest.fixture
def serve(tmp_path):
    """serve(command, env, port) starts a page in its own process and returns its address."""
    with serving(tmp_path) as start:
        yield start


@pytest.fixture
def screenshot():
    """screenshot(page, name) saves a picture of the page in build/screenshots, for the README."""
    folder = ROOT / "build" / "screenshots"
    folder.mkdir(parents=True, exist_ok=True)
    return lambda page, name: page.screenshot(path=folder / f"{name}.png", full_page=True)
