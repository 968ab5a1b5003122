"""Both Wine pages in a real browser, each served by its own process."""

from __future__ import annotations

import json
import re
import shutil

import pytest
from helpers.pages import ROOT, free_port
from matplotlib.figure import Figure

from lab1_wine import monitor_page, pictures
from labstore import StoreError, open_store
from labstore.monitor import snapshot

APP = ROOT / "lab1_wine/app/app.py"
MONITOR = ROOT / "lab1_wine/monitor/app.py"


def streamlit(serve, script, **env):
    port = free_port()
    command = ["-m", "streamlit", "run", str(script), "--server.port", str(port)]
    command += ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
    return serve(command, env, port)


def fill(page, label: str, value: str) -> None:
    box = page.get_by_label(re.compile(f"^{re.escape(label)}")).first
    box.fill(value)
    box.press("Enter")


def test_predict_presets_and_bad_input_once_there_is_a_model(
    serve, visit, screenshot, trained_wine, tmp_path
):
    page = visit(streamlit(serve, APP, LABS_STORE=str(tmp_path / "store")))
    page.get_by_text("No prediction can be made yet").wait_for(timeout=60_000)
    assert "Traceback" not in page.content()
    shutil.copytree(trained_wine, tmp_path / "store")
    page.reload()
    page.get_by_text("Predicted quality").wait_for(timeout=60_000)
    page.get_by_text("Offline sample: this model was trained on synthetic wines.").wait_for()
    value = page.get_by_test_id("stMetricValue")
    first = float(value.inner_text())
    assert 3 <= first <= 9
    picture = page.get_by_alt_text("what moved it")
    assert picture.evaluate("image => image.naturalWidth") > 300
    page.get_by_text("Nine times in ten between").wait_for()
    assert page.get_by_label(re.compile("^Alcohol .* 8 to 14.9")).count() >= 1

    page.get_by_role("combobox").first.click()
    page.get_by_text("A red turning to vinegar").click()
    page.wait_for_function(
        "old => document.querySelector('[data-testid=stMetricValue]')?.innerText !== old",
        arg=f"{first:.1f}",
    )
    assert float(value.inner_text()) < first
    screenshot(page, "wine")

    fill(page, "Alcohol", "99")
    page.get_by_text("Alcohol cannot be 99: give a value from 4 to 22 % vol.").wait_for()
    assert value.count() == 0
    fill(page, "Alcohol", "20")
    page.get_by_text("this is a guess: Alcohol 20").wait_for()
    fill(page, "Alcohol", "11")
    fill(page, "Free sulfur dioxide", "200")
    page.get_by_text("it cannot be less than that").wait_for()
    assert "Traceback" not in page.content()


def test_the_monitor_before_and_after_the_first_runs(
    serve, visit, screenshot, wine_history, tmp_path
):
    page = visit(streamlit(serve, MONITOR, LABS_STORE=str(tmp_path / "store")))
    page.get_by_text("There is nothing to show yet").wait_for(timeout=60_000)
    shutil.copytree(wine_history, tmp_path / "store")
    page.reload()
    page.get_by_text("Data through 2026-02-09").wait_for(timeout=60_000)
    for alt in ("confusion matrix", "error over time", "drift"):
        picture = page.get_by_alt_text(alt)
        assert picture.evaluate("image => image.naturalWidth") > 300
    assert page.locator("table.rows tbody tr").count() == 11 + 10
    page.get_by_text("Offline sample: no figure here is about real wines.").wait_for()
    page.set_viewport_size({"width": 1200, "height": 2100})
    screenshot(page, "wine-monitor")


@pytest.fixture
def content(wine_history):
    return json.loads(json.dumps(snapshot.read(open_store(wine_history), "wine_monitor")))


def test_a_few_days_in_which_most_qualities_are_missing(content, monkeypatch):
    content["rows"] = content["rows"][:1]
    assert "n = 1 days" in monitor_page.render(content)
    content["rows"][0].update(quality=10, rounded=2)  # and qualities that nobody has given yet
    drawn = []
    monkeypatch.setattr(pictures, "confusion", lambda *counts: drawn.append(counts) or Figure())
    monitor_page.render(content)
    [(counts, title)] = drawn
    assert counts.index.tolist() == counts.columns.tolist() == list(range(2, 11))
    assert title == "all days, n = 1"


@pytest.mark.parametrize(
    "spoil",
    [
        lambda c: c.pop("rows"),
        lambda c: c.update(rows=[]),
        lambda c: c["rows"][0].update(wine_type="<script>"),
        lambda c: c["rows"][0].update(alcohol=float("inf")),
        lambda c: c["rows"][0].update(quality="<b>"),
        lambda c: c.update(model={}),
        lambda c: c.update(training={}),
        lambda c: c["training"].update(alcohol=[float("nan"), 1]),
        lambda c: c.pop("generator"),
        lambda c: c["model"].pop("algorithm"),
        lambda c: c["model"].update(version=3),
        lambda c: c["model"].update(mse="0.4"),
        lambda c: c["model"].update(mse=10**400),
        lambda c: c["training"].update(alcohol=["a", "b"]),
        lambda c: c.update(data=None),
        lambda c: c["rows"][0].update(date=None),
        lambda c: c["rows"][0].update(quality=10**30),
        lambda c: c["rows"][0].update(quality=150),
    ],
)
def test_a_broken_snapshot_is_refused_in_a_sentence(content, spoil):
    spoil(content)
    with pytest.raises(StoreError, match="not a snapshot that the page can show"):
        monitor_page.render(content)


def test_text_from_a_snapshot_is_escaped(content):
    bad = "<script>alert(1)</script>"
    content["model"].update(algorithm=bad, version=bad)
    content.update(data=bad, generator=bad)
    content["rows"][-1]["model_version"] = bad
    assert "<script>" not in monitor_page.render(content)
