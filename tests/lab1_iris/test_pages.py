"""Both Iris pages in a real browser, each served by its own process."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from helpers.pages import ROOT, free_port

from lab1_iris import monitor_page
from lab1_iris.app import app
from lab1_iris.schema import MODEL
from labstore import StoreError, open_store
from labstore.monitor import snapshot

APP = [str(ROOT / "lab1_iris/app/app.py")]
MONITOR = [str(ROOT / "lab1_iris/monitor/app.py")]


def gradio(serve, command, **env):
    port = free_port()
    return serve(command, {"GRADIO_SERVER_PORT": str(port), **env}, port)


def fill(page, name: str, value: str) -> None:
    page.locator(f"#{name} input").fill(value)


def test_predict_by_hand_and_by_example_and_bad_input(serve, visit, screenshot, trained_iris):
    page = visit(gradio(serve, APP, LABS_STORE=str(trained_iris)))
    species, notes = page.locator("#species"), page.locator("#notes")
    species.get_by_text("setosa").first.wait_for()  # the page opens with a prediction
    assert "seen: 1 to 6.9 cm" in page.locator("#petal_length").inner_text()

    for name, value in zip(
        ("sepal_length", "sepal_width", "petal_length", "petal_width"),
        ("6.6", "3.0", "5.6", "2.1"),
        strict=True,
    ):
        fill(page, name, value)
    page.wait_for_timeout(
        1000
    )  # long enough for a wrong page to predict before the button is clicked
    assert "Iris setosa" in page.locator("#flower svg").get_attribute("aria-label")
    page.locator("#predict").click()
    page.locator("svg[aria-label*='Iris virginica: sepals 6.6 x 3 cm']").wait_for()
    assert re.search(r"virginica[\s\S]*\d+%", species.inner_text())
    assert notes.inner_text().strip() == ""
    screenshot(page, "iris")

    page.get_by_role("row", name=re.compile(r"6\D+2\.9\D+4\.5\D+1\.5")).click()
    page.locator("svg[aria-label*='Iris versicolor']").wait_for()

    fill(page, "petal_length", "-3")
    page.locator("#predict").click()
    notes.get_by_text("Petal length cannot be -3 cm: give a value from 0.1 to 15 cm.").wait_for()
    fill(page, "petal_length", "")
    page.locator("#predict").click()
    notes.get_by_text("Petal length is missing").wait_for()
    assert page.locator("#flower svg").count() == 0

    fill(page, "petal_length", "14")
    page.locator("#predict").click()
    notes.get_by_text("this is a guess: Petal length 14 cm").wait_for()
    assert "Traceback" not in page.content()


def test_the_page_without_a_model_says_how_to_get_one_and_finds_it_without_a_restart(
    serve, visit, trained_iris, tmp_path
):
    page = visit(gradio(serve, APP, LABS_STORE=str(tmp_path / "store")))
    page.get_by_role("alert").get_by_text("No prediction can be made yet").wait_for()
    assert page.locator("#about").inner_text().strip() == ""
    shutil.copytree(trained_iris, tmp_path / "store")
    page.locator("#predict").click()
    page.locator("svg[aria-label*='Iris setosa']").wait_for()
    assert page.get_by_role("alert").count() == 0
    assert "cross-validated accuracy" in page.locator("#about").inner_text()


def test_the_page_finds_a_newer_model_within_ten_minutes(iris_store, tmp_path):
    now = [0.0]
    answer = app.predictor(app.Model(iris_store, clock=lambda: now[0]))
    old = iris_store.load_model(MODEL)
    assert old.version in answer(*app.EXAMPLES[0])[3]
    shutil.copytree(old.path, tmp_path / "new", ignore=shutil.ignore_patterns("manifest.json"))
    new = iris_store.save_model(
        MODEL, tmp_path / "new", {**old.metrics, "log_loss": 0.0}, old.metadata
    )
    assert old.version in answer(*app.EXAMPLES[0])[3]
    now[0] = app.MAX_AGE_SECONDS + 1
    assert new.version in answer(*app.EXAMPLES[0])[3]


def test_the_monitor_before_and_after_the_first_runs(
    serve, visit, screenshot, iris_history, tmp_path
):
    page = visit(gradio(serve, MONITOR, LABS_STORE=str(tmp_path / "store")))
    page.get_by_role("alert").get_by_text("There is nothing to show yet").wait_for()
    shutil.copytree(iris_history, tmp_path / "store")
    page.reload()
    page.get_by_text("Data through 2026-02-09").wait_for()
    assert page.locator(".freshness").get_attribute("data-colour") in {"green", "amber", "red"}
    assert page.locator(".monitor svg").count() == 2
    for alt in ("confusion matrix", "accuracy over time"):
        picture = page.get_by_alt_text(alt)
        assert picture.evaluate("image => image.naturalWidth") > 300
    assert page.locator("table.rows tbody tr").count() == 10
    assert re.search(r"\d+ of 40 days right", page.locator(".monitor").inner_text())
    screenshot(page, "iris-monitor")


def test_the_monitor_reads_a_file_without_any_store(serve, visit, iris_history, tmp_path):
    content = snapshot.read(open_store(iris_history), "iris_monitor")
    file = tmp_path / "elsewhere.json"
    file.write_text(json.dumps(content))
    page = visit(gradio(serve, MONITOR, LABS_SNAPSHOT=str(file), LABS_STORE=str(tmp_path / "no")))
    page.get_by_text("Data through 2026-02-09").wait_for()


@pytest.fixture
def content(iris_history):
    return snapshot.read(open_store(iris_history), "iris_monitor")


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.pop("rows"),
        lambda c: c.update(rows=[]),
        lambda c: c["rows"][0].update(species="<script>alert(1)</script>"),
        lambda c: c["rows"][0].update(sepal_length="<b>"),
        lambda c: c["rows"][0].update(sepal_length=float("nan")),
        lambda c: c["rows"][0].update(date="<i>"),
        lambda c: c.update(model=None),
        lambda c: c.update(model={**c["model"], "accuracy": "<b>"}),
        lambda c: c["model"].update(accuracy="0.97"),
        lambda c: c["model"].update(accuracy=10**400),
        lambda c: c["model"].update(accuracy=float("nan")),
        lambda c: c["model"].update(accuracy_low=float("-inf")),
        lambda c: c["model"].update(accuracy_high=1e308),
        lambda c: c["model"].pop("algorithm"),
        lambda c: c["model"].update(version=3),
        lambda c: c.update(data=None),
        lambda c: c["rows"][0].update(date=None),
        lambda c: c["rows"][0].update(petal_length=1e9),
    ],
)
def test_a_broken_snapshot_is_refused_in_a_sentence(content, spoil):
    spoil(content)
    with pytest.raises(StoreError, match="not a snapshot that the page can show"):
        monitor_page.render(content)


@pytest.mark.parametrize("value", ["<script>", "2026-13-01", None, 7])
@pytest.mark.parametrize("field", ["through", "last_run", "dates"])
def test_a_snapshot_with_broken_dates_is_refused_in_a_sentence(content, field, value):
    content[field] = [value] if field == "dates" else value
    with pytest.raises(StoreError):
        monitor_page.render(content)


@pytest.mark.parametrize("day", ["0001-01-01", "9999-12-31"])
@pytest.mark.parametrize("field", ["through", "dates"])
def test_a_snapshot_with_absurd_dates_still_shows(content, field, day):
    content[field] = [day] if field == "dates" else day
    assert "freshness" in monitor_page.render(content)


def test_text_from_a_snapshot_is_escaped(content):
    content["model"]["algorithm"] = content["data"] = "<script>alert(1)</script>"
    content["model"]["version"] = "<img src=x>"
    html = monitor_page.render(content)
    assert "<script>" not in html and "<img src=x>" not in html
