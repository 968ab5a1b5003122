"""A store written by the version before: its monitor shows and its model predicts."""

from __future__ import annotations

import zipfile
from datetime import date

import pytest
from helpers.pages import ROOT

from lab1_iris import daily, features, inference, monitor_page
from lab1_iris.schema import SNAPSHOT, SPECIES
from labstore import open_store
from labstore.monitor import snapshot


@pytest.fixture
def old_store(tmp_path):
    with zipfile.ZipFile(ROOT / "tests/fixtures/store_2026_11.zip") as packed:
        packed.extractall(tmp_path)
    return open_store(tmp_path / "store")


def test_its_newest_snapshot_is_shown(old_store, tmp_path):
    content = snapshot.read(old_store, SNAPSHOT)
    page = monitor_page.render(content)
    assert f"{content['rows'][-1]['date']}: predicted" in page
    assert monitor_page.write_static(content, tmp_path / "page") == tmp_path / "page"


def test_its_model_predicts_and_its_days_continue(old_store):
    classifier = inference.load(old_store)
    predicted = inference.predict(classifier, features.synthetic_flower(date(2026, 1, 1)))
    assert predicted["predicted"].isin(SPECIES).all()
    before = snapshot.read(old_store, SNAPSHOT)["through"]
    assert daily.run_daily(old_store, date(2026, 1, 10))[-1] == date(2026, 1, 10)
    assert snapshot.read(old_store, SNAPSHOT)["through"] == "2026-01-10" > before
