"""Static pages: the same content as the live monitor, and a light that follows the visitor's clock."""

from __future__ import annotations

import sys
from datetime import UTC, date, datetime, timedelta
from unittest import mock

import pytest

from lab1_iris import daily as iris_daily
from lab1_iris import monitor_page as iris_page
from lab1_wine import monitor_page as wine_page
from labstore import StoreError, ledger, open_store
from labstore.monitor import snapshot, static
from labstore.monitor.freshness import freshness, freshness_html
from tools import space

ONE_DAY = {
    "through": "2026-02-09",
    "dates": ["2026-02-09"],
    "last_run": "2026-02-09T06:00:00+00:00",
}


@pytest.fixture(params=["iris", "wine"])
def monitor(request, iris_history, wine_history, tmp_path):
    """A lab's monitor_page, its snapshot, and the static page made of it."""
    folder, module = {"iris": (iris_history, iris_page), "wine": (wine_history, wine_page)}[
        request.param
    ]
    content = snapshot.read(open_store(folder), f"{request.param}_monitor")
    return module, content, module.write_static(content, tmp_path / "page") / "index.html"


def test_a_static_page_shows_the_monitor_and_requests_nothing_else(monitor, visit):
    module, content, page_file = monitor
    html = page_file.read_text()
    now = datetime(2026, 2, 10, 7, tzinfo=UTC)
    page = visit("about:blank")
    page.clock.set_fixed_time(now)
    requests = []
    page.on("request", lambda request: requests.append(request.url))
    page.goto(page_file.as_uri())
    assert [url for url in requests if not url.startswith("data:")] == [page_file.as_uri()]
    assert "http" not in html.replace("http-equiv", "")
    static = page.locator(".monitor").inner_text()
    assert page.locator("h1").inner_text() == module.TITLE
    for picture in page.locator("img").all():
        assert picture.evaluate("image => image.naturalWidth") > 200
    page.set_content(module.render(content, now))
    assert page.locator(".monitor").inner_text() == static


HOURS = [1, 48.4, 73, 100, 24 * 40]  # after the last day began


def test_a_static_pages_light_follows_the_visitors_clock(visit, tmp_path):
    """The script in the page follows labstore.monitor.freshness, with and without missing days."""
    first = date(2026, 1, 1)
    page = visit("about:blank")
    for gaps in ([], [3, 20], [38]):
        days = [first + timedelta(days=n) for n in range(40) if n not in gaps]
        content = {"through": f"{days[-1]}", "dates": [f"{day}" for day in days]}
        last = datetime(2026, 2, 9, tzinfo=UTC)
        content["last_run"] = (last + timedelta(minutes=7)).isoformat()
        page_file = tmp_path / "index.html"
        page_file.write_text(static.document("Test", "Test.", static.light(content)))
        for hours in HOURS:
            now = last + timedelta(hours=hours)
            page.clock.set_fixed_time(now)
            page.goto(page_file.as_uri())
            fresh = freshness(content, now)
            light = page.locator(".freshness")
            assert light.get_attribute("data-colour") == fresh.colour
            seen = [mark.get_attribute("title") for mark in light.locator("div span").all()]
            assert seen == [f"{day}{'' if done else ': missing'}" for day, done in fresh.days]
            text = light.inner_text()
            page.set_content(freshness_html(fresh))
            assert page.locator(".freshness").inner_text() == text
    assert fresh.colour == "red"


def test_the_light_of_an_open_page_changes_with_time(visit, tmp_path):
    static.write(tmp_path, "Test", "Test.", static.light(ONE_DAY))
    page = visit("about:blank")
    page.clock.install(time=datetime(2026, 2, 9, 8, tzinfo=UTC))
    page.goto((tmp_path / "index.html").as_uri())
    assert page.locator(".freshness").get_attribute("data-colour") == "green"
    page.clock.fast_forward(4 * 86_400_000)
    page.locator(".freshness[data-colour=red]").wait_for()


def test_without_javascript_the_page_shows_a_date_and_no_light(browser, tmp_path):
    static.write(tmp_path, "Test", "Test.", static.light(ONE_DAY))
    context = browser.new_context(java_script_enabled=False)
    page = context.new_page()
    page.goto((tmp_path / "index.html").as_uri())
    assert "green" not in page.locator("body").inner_text()
    assert "Data through 2026-02-09" in page.locator(".freshness").inner_text()
    context.close()


def test_text_of_a_snapshot_cannot_run_as_a_script(monitor, visit, tmp_path):
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
    # The store is shared between tests, so the run is on a day with nothing left to do.
    monkeypatch.setattr(
        ledger, "datetime", mock.Mock(now=lambda zone: datetime(2026, 2, 9, tzinfo=zone))
    )
    ledger.command(iris_daily.run_daily, iris_daily.write_page)
    assert "every date was done before" in capsys.readouterr().out
    assert static.SCRIPT in (tmp_path / "page/index.html").read_text()
    assert space.header(tmp_path / "page")["sdk"] == "static"
