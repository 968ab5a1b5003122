"""What every store promises (the contract suite), and what the store in a folder survives."""

from __future__ import annotations

import errno
import importlib
import json
import os
import shutil
import subprocess
import sys
import tempfile
import types
from contextlib import contextmanager
from datetime import UTC, date, datetime, timedelta
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from helpers.stores import (
    DAY,
    FLOWERS,
    HIGH_SCORE,
    LOW_ERROR,
    SECOND_VERSION,
    SPECIES,
    START,
    STORES,
    contents,
    flower,
    folder_of,
    frame,
    group,
    ids,
    kept,
    new_store,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import labstore
from labstore import (
    UTC_TIME,
    Damaged,
    InvalidRows,
    Model,
    NotFound,
    NotWritable,
    StoreError,
    default_address,
    open_store,
)
from labstore.files import FileStore

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(params=STORES)
def store(request, tmp_path):
    return new_store(request.param, tmp_path)


# ------------------------------------------------------------------------ contract: rows


def test_rows_come_back_with_their_values_and_dtypes(store):
    rows = frame(flower("b", 1.25, 0.1), flower("a", 0, 12.0, species="virginica", petals=9))
    store.insert(FLOWERS, rows)
    found = store.read(FLOWERS)
    expected = rows.sort_values("measured_at", ignore_index=True)
    expected["measured_at"] = expected["measured_at"].astype(UTC_TIME)
    pd.testing.assert_frame_equal(found, expected)


def test_columns_and_index_of_the_inserted_frame_do_not_matter(store):
    rows = frame(flower("a"), flower("b", 1))
    store.insert(FLOWERS, rows[rows.columns[::-1]].set_axis([7, 7]))
    found = store.read(FLOWERS)
    assert list(found.columns) == FLOWERS.columns and list(found.index) == [0, 1]


def test_insert_leaves_the_callers_frame_alone(store):
    rows = frame(flower("a"))
    before = rows.copy(deep=True)
    store.insert(FLOWERS, rows)
    pd.testing.assert_frame_equal(rows, before)


def test_rows_are_ordered_by_event_time_then_key(store):
    store.insert(FLOWERS, frame(flower("z", 1), flower("b", 0)))
    store.insert(FLOWERS, frame(flower("a", 1), flower("c", 0), flower("y", 0.5)))
    assert ids(store.read(FLOWERS)) == ["b", "c", "y", "a", "z"]


def test_times_of_any_zone_become_utc(store):
    rows = frame(flower("a"))
    rows["measured_at"] = pd.to_datetime(["2026-01-01T09:00+09:00"]).tz_convert("Asia/Tokyo")
    store.insert(FLOWERS, rows)
    found = store.read(FLOWERS)
    assert found["measured_at"].dtype == UTC_TIME and found["measured_at"][0] == START


def test_reading_an_empty_group_gives_its_columns_and_dtypes(store):
    nothing = store.read(FLOWERS)
    store.insert(FLOWERS, frame(flower("a")))
    outside = store.read(FLOWERS, since=START + DAY)
    store_types = store.read(FLOWERS).dtypes
    for empty in (nothing, outside):
        assert empty.empty
        pd.testing.assert_series_equal(empty.dtypes, store_types)


def test_inserting_no_rows_changes_nothing(store):
    store.insert(FLOWERS, FLOWERS.empty())
    assert store.read(FLOWERS).empty


def test_newest_insert_of_a_key_wins(store):
    store.insert(FLOWERS, frame(flower("a", 0, 1.0), flower("b", 0, 2.0)))
    store.insert(FLOWERS, frame(flower("a", 0, 3.0)))
    assert store.read(FLOWERS)["petal_cm"].tolist() == [3.0, 2.0]


def test_inserting_the_same_rows_twice_changes_nothing(store):
    rows = frame(flower("a"), flower("b", 1))
    store.insert(FLOWERS, rows)
    once = store.read(FLOWERS)
    store.insert(FLOWERS, rows)
    pd.testing.assert_frame_equal(store.read(FLOWERS), once)


def test_a_row_for_an_earlier_day_that_arrives_late_is_read_in_its_place(store):
    store.insert(FLOWERS, frame(flower("late", 5)))
    store.insert(FLOWERS, frame(flower("early", 1)))
    assert ids(store.read(FLOWERS)) == ["early", "late"]


@pytest.mark.parametrize(
    ("since", "until", "expected"),
    [
        (1, None, "bcd"),
        (None, 1, "a"),
        (1, 2, "b"),
        (1, 1, ""),
        (0, 3.01, "abcd"),
        (4, None, ""),
        (None, 0, ""),
        (2, 1, ""),
    ],
)
def test_windows_include_their_start_and_exclude_their_end(store, since, until, expected):
    store.insert(FLOWERS, frame(*(flower(name, day) for day, name in enumerate("abcd"))))
    since, until = (None if day is None else START + day * DAY for day in (since, until))
    assert ids(store.read(FLOWERS, since=since, until=until)) == list(expected)


def test_windows_may_be_given_as_pandas_times_of_any_zone(store):
    store.insert(FLOWERS, frame(flower("a", 0), flower("b", 1)))
    since = pd.Timestamp(START + DAY).tz_convert("America/New_York").as_unit("ns")
    assert ids(store.read(FLOWERS, since=since)) == ["b"]


def test_a_moved_row_is_shown_in_its_new_window_only(store):
    store.insert(FLOWERS, frame(flower("a", 0), flower("b", 0)))
    store.insert(FLOWERS, frame(flower("a", 9)))
    assert ids(store.read(FLOWERS, until=START + DAY)) == ["b"]
    assert ids(store.read(FLOWERS, since=START + 9 * DAY)) == ["a"]


def test_as_of_shows_the_rows_of_that_moment(store):
    before = datetime.now(UTC)
    store.insert(FLOWERS, frame(flower("a", 0, 1.0)))
    first = datetime.now(UTC)
    store.insert(FLOWERS, frame(flower("a", 7, 2.0), flower("b", 0)))
    assert store.read(FLOWERS, as_of=before).empty
    assert store.read(FLOWERS, as_of=first)["petal_cm"].tolist() == [1.0]
    assert ids(store.read(FLOWERS, until=START + DAY, as_of=first)) == ["a"]
    assert ids(store.read(FLOWERS, as_of=datetime.now(UTC))) == ["b", "a"]


def test_as_of_reaches_behind_a_merge(store, monkeypatch):
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 4)
    moments = []
    for number in range(1, 15):
        store.insert(FLOWERS, frame(flower("a", 0, float(number % 11 + 1))))
        moments.append((datetime.now(UTC), float(number % 11 + 1)))
    for moment, petal_cm in moments:
        assert store.read(FLOWERS, as_of=moment)["petal_cm"].tolist() == [petal_cm]


def test_equal_features_with_own_ids_stay_separate_rows(store):
    store.insert(FLOWERS, frame(*(flower(name) for name in "abc")))
    assert ids(store.read(FLOWERS)) == ["a", "b", "c"]


def test_groups_do_not_see_each_others_rows(store):
    store.insert(FLOWERS, frame(flower("a")))
    store.insert(group("weeds"), frame(flower("b")))
    assert ids(store.read(FLOWERS)) == ["a"]


def test_versions_of_a_group_are_told_apart(store):
    assert store.read(SECOND_VERSION).empty
    store.insert(FLOWERS, frame(flower("a")))
    store.insert(SECOND_VERSION, frame(flower("b", petals=5.0)))
    assert ids(store.read(FLOWERS)) == ["a"] and ids(store.read(SECOND_VERSION)) == ["b"]


def test_names_of_columns_keep_their_upper_case(store):
    mixed = group(pH=pa.Column(float))
    store.insert(mixed, frame(flower("a", pH=7.0)))
    found = store.read(mixed)
    assert list(found) == mixed.columns and found["pH"].tolist() == [7.0]


@pytest.mark.parametrize("name", ["since", "until", "as_of"])
def test_a_time_without_zone_is_refused_by_read(store, name):
    with pytest.raises(StoreError, match=f"{name}.*time zone.*tzinfo=UTC"):
        store.read(FLOWERS, **{name: datetime(2026, 1, 1)})


def test_dates_are_not_times_and_are_refused_in_words(store):
    with pytest.raises(StoreError, match="since"):
        store.read(FLOWERS, since=date(2026, 1, 1))


def test_changed_columns_need_a_new_group_version(store):
    store.insert(FLOWERS, frame(flower("a")))
    changed = group(petal_cm=pa.Column(int))
    with pytest.raises(StoreError, match=r"flowers v1.*new version number"):
        store.read(changed)


# ---------------------------------------------------------------- contract: invalid rows

WRONG = {
    "missing column": (lambda r: r.drop(columns="petal_cm"), ["'petal_cm'", "missing"]),
    "extra column": (lambda r: r.assign(smell=1), ["'smell'", "unknown", "petal_cm"]),
    "text for a number": (lambda r: r.assign(petal_cm="wide"), ["petal_cm", "float64"]),
    "whole number for float": (lambda r: r.assign(petal_cm=3), ["petal_cm", "int64", "float64"]),
    "number for text": (lambda r: r.assign(flower_id=[1, 2]), ["flower_id"]),
    "NaN": (lambda r: r.assign(petal_cm=[1.0, np.nan]), ["petal_cm", "no value", "row 1"]),
    "no key": (lambda r: r.assign(flower_id=["a", None]), ["flower_id", "no value", "row 1"]),
    "no time": (lambda r: r.assign(measured_at=[START, pd.NaT]), ["measured_at", "no value"]),
    "infinity": (lambda r: r.assign(petal_cm=[1.0, np.inf]), ["petal_cm", "inf", "0.1 to 12"]),
    "minus infinity": (lambda r: r.assign(petal_cm=-np.inf), ["petal_cm", "-inf", "0.1 to 12"]),
    "too small": (lambda r: r.assign(petal_cm=0.09), ["petal_cm", "0.09", "from 0.1 to 12"]),
    "too large": (lambda r: r.assign(petals=10), ["petals", "10", "from 1 to 9"]),
    "not one of": (lambda r: r.assign(species="rose"), ["species", "rose", *SPECIES]),
    "duplicate key": (lambda r: r.assign(flower_id="a"), ["flower_id", "'a'", "one row per key"]),
    "naive time": (
        lambda r: r.assign(measured_at=datetime(2026, 1, 1)),
        ["measured_at", "UTC"],
    ),
    "a column twice": (lambda r: pd.concat([r, r[["petal_cm"]]], axis=1), ["petal_cm"]),
    "the time twice": (lambda r: pd.concat([r, r[["measured_at"]]], axis=1), ["measured_at"]),
}


@pytest.mark.parametrize("case", WRONG)
def test_invalid_rows_are_named_and_nothing_is_written(store, case):
    store.insert(FLOWERS, frame(flower("old")))
    before = kept(store)
    spoil, words = WRONG[case]
    with pytest.raises(InvalidRows) as refused:
        store.insert(FLOWERS, spoil(frame(flower("a"), flower("b", 1))))
    for word in ["Nothing was written to flowers v1", *words]:
        assert word in str(refused.value)
    assert kept(store) == before


def test_many_wrong_values_make_a_short_message(store):
    wrong = frame(*(flower(str(n), petal_cm=99.0) for n in range(1000)))
    with pytest.raises(InvalidRows) as refused:
        store.insert(FLOWERS, wrong)
    assert "and 995 more" in str(refused.value) and len(str(refused.value)) < 600


VALUES = st.one_of(st.floats(width=64), st.integers(-5, 5).map(float))


@settings(max_examples=50, deadline=None)
@given(value=VALUES)
def test_a_value_is_stored_exactly_when_it_is_in_its_range(value):
    with tempfile.TemporaryDirectory() as folder:
        stored_exactly_when_in_range(new_store("files", Path(folder)), value)


@settings(max_examples=10, deadline=None)
@given(value=VALUES)
def test_a_value_is_stored_exactly_in_hopsworks_when_it_is_in_its_range(value):
    with tempfile.TemporaryDirectory() as folder:
        stored_exactly_when_in_range(new_store("hopsworks", Path(folder)), value)


def stored_exactly_when_in_range(store, value):
    before = kept(store)
    if 0.1 <= value <= 12:
        store.insert(FLOWERS, frame(flower("a", petal_cm=value)))
        assert store.read(FLOWERS)["petal_cm"].tolist() == [value]
    else:
        with pytest.raises(InvalidRows, match="petal_cm"):
            store.insert(FLOWERS, frame(flower("a", petal_cm=value)))
        assert kept(store) == before


# ----------------------------------------------------------- contract: files and models


def test_a_folder_comes_back_as_it_was(store, tmp_path):
    source = folder_of(tmp_path / "source", **{"a.txt": "1", "deep__b.txt": "2"})
    saved = store.save_files("shards", source, {"clips": 2})
    found = store.open_files("shards")
    assert found == saved and found.metadata == {"clips": 2}
    assert (found.path / "a.txt").read_text() + (found.path / "deep/b.txt").read_text() == "12"
    assert found.created_at.tzinfo is UTC
    assert abs(datetime.now(UTC) - found.created_at) < timedelta(minutes=1)


def test_files_open_as_latest_or_by_id_and_never_change(store, tmp_path):
    versions = []
    for number in range(3):
        source = folder_of(tmp_path / "source", **{"a.txt": str(number)})
        versions.append(store.save_files("shards", source, {}))
    assert store.open_files("shards") == versions[-1]
    for number, version in enumerate(versions):
        again = store.open_files("shards", version.version)
        assert (again.path / "a.txt").read_text() == str(number)


def test_versions_of_files_are_listed_and_old_ones_pruned(store, tmp_path):
    assert store.list_files("checkpoint") == []
    versions = [
        store.save_files(
            "checkpoint", folder_of(tmp_path / "source", **{"weights.bin": str(n)}), {"n": n}
        )
        for n in range(4)
    ]
    assert store.list_files("checkpoint") == [version.version for version in versions]
    store.prune_files("checkpoint", keep=2)
    assert store.list_files("checkpoint") == [version.version for version in versions[2:]]
    assert store.open_files("checkpoint").metadata == {"n": 3}
    assert store.open_files("checkpoint", versions[2].version).metadata == {"n": 2}
    with pytest.raises(NotFound):
        store.open_files("checkpoint", versions[0].version)
    store.prune_files("checkpoint", keep=5)
    assert len(store.list_files("checkpoint")) == 2


def test_a_version_is_newer_than_any_before_it_whatever_the_clock_says(
    store, tmp_path, monkeypatch
):
    source = folder_of(tmp_path / "source", **{"a.txt": "1"})
    files = store.save_files("shards", source, {})
    (model,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    store.insert(FLOWERS, frame(flower("a", petal_cm=1.0)))
    for module in ("labstore.files.datetime", "labstore.hopsworks.datetime"):
        monkeypatch.setattr(module, Yesterday)
    assert store.save_files("shards", source, {}).version > files.version
    assert store.save_model(HIGH_SCORE, source, {"score": 0.5}, {}).version > model.version
    store.insert(FLOWERS, frame(flower("a", petal_cm=2.0)))
    assert store.read(FLOWERS)["petal_cm"].tolist() == [2.0]


class Yesterday(datetime):
    """A clock that was set back."""

    @classmethod
    def now(cls, tz=None):
        return datetime.now(tz) - DAY


def test_an_empty_folder_is_not_saved(store, tmp_path):
    with pytest.raises(StoreError, match="no files in"):
        store.save_files("shards", tmp_path / "absent", {})


def test_an_opened_version_can_be_saved_again_or_is_refused_in_words(store, tmp_path):
    first = store.save_files("shards", folder_of(tmp_path / "source", **{"a.txt": "1"}), {})
    try:
        again = store.save_files("shards", first.path, {})
    except NotWritable:
        raise
    except StoreError as refused:
        assert "manifest.json" in str(refused)
        again = first
    assert store.open_files("shards") == again


def test_metadata_of_any_plain_kind_is_kept(store, tmp_path):
    metadata = {"by_seed": {10: 0.5, 9: 0.4}, "shape": (2, 3), "note": "ä", "none": None}
    source = folder_of(tmp_path / "source", **{"a.txt": "1"})
    saved = store.save_files("shards", source, metadata)
    found = store.open_files("shards")
    assert found.metadata == saved.metadata
    assert found.metadata["by_seed"] == {"10": 0.5, "9": 0.4} and found.metadata["note"] == "ä"


def save_models(store, folder, model, figures):
    source = folder_of(folder, **{"model.txt": "x"})
    return [store.save_model(model, source, {model.metric: f}, {"rows": 3}) for f in figures]


@pytest.mark.parametrize(("model", "best"), [(LOW_ERROR, 1), (HIGH_SCORE, 2)])
def test_best_model_follows_the_metrics_direction(store, tmp_path, model, best):
    versions = save_models(store, tmp_path / "source", model, [0.5, 0.1, 0.9, 0.3])
    assert store.load_model(model) == versions[best]
    assert store.load_model(model, "latest") == versions[-1]
    for version in versions:
        assert store.load_model(model, version.version) == version


def test_the_latest_model_is_the_last_saved(store, tmp_path):
    for _ in range(6):
        (saved,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
        assert store.load_model(HIGH_SCORE, "latest") == saved


@pytest.mark.parametrize("model", [LOW_ERROR, HIGH_SCORE])
def test_of_equally_good_models_the_newest_is_best(store, tmp_path, model):
    versions = save_models(store, tmp_path / "source", model, [0.5, 0.5])
    assert store.load_model(model) == versions[-1]


@pytest.mark.parametrize("model", [LOW_ERROR, HIGH_SCORE])
def test_a_model_of_real_data_is_better_than_any_other(store, tmp_path, model):
    source = folder_of(tmp_path / "source", **{"model.txt": "x"})
    for data, figure in (("real", 0.5), ("offline sample", 0.0), ("offline sample", 1.0)):
        store.save_model(model, source, {model.metric: figure}, {"data": data})
    assert store.load_model(model).metadata["data"] == "real"


@pytest.mark.parametrize("model", [LOW_ERROR, HIGH_SCORE])
def test_a_model_whose_metric_is_no_number_is_never_best(store, tmp_path, model):
    with pytest.raises(StoreError, match=f"{model.metric}.*nan"):
        save_models(store, tmp_path / "source", model, [float("nan")])


def test_best_passes_over_versions_saved_before_the_metric_changed(store, tmp_path):
    save_models(store, tmp_path / "source", Model("flower_score", "old", "max"), [0.99])
    with pytest.raises(NotFound, match="score"):
        store.load_model(HIGH_SCORE)
    (version,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    assert store.load_model(HIGH_SCORE) == version


def test_a_model_records_what_it_was_made_with(store, tmp_path):
    (version,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    assert version.metrics == {"score": 0.5} and version.metadata["rows"] == 3
    assert version.metadata["libraries"]["pandas"] == pd.__version__
    assert "git_commit" in version.metadata


def test_a_model_without_its_metric_is_refused(store, tmp_path):
    with pytest.raises(StoreError, match=r"flower_score.*'score'.*got loss"):
        store.save_model(HIGH_SCORE, folder_of(tmp_path / "s", a="1"), {"loss": 1.0}, {})


def test_unknown_names_list_those_that_exist(store, tmp_path):
    with pytest.raises(NotFound, match=r"'shards'.*nothing yet"):
        store.open_files("shards")
    save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    with pytest.raises(NotFound, match=r"'flower_error'.*there: flower_score"):
        store.load_model(LOW_ERROR)


def test_unknown_versions_list_the_valid_choices(store, tmp_path):
    (version,) = save_models(store, tmp_path / "source", HIGH_SCORE, [0.5])
    with pytest.raises(NotFound, match=f"'newest'.*best, latest, {version.version}"):
        store.load_model(HIGH_SCORE, "newest")
    store.save_files("shards", tmp_path / "source", {})
    with pytest.raises(NotFound, match=r"'best'.*Choose one of: latest, 2"):
        store.open_files("shards", "best")


@pytest.mark.parametrize("name", ["", "Iris", "../iris", "iris/1", "1iris", "i ris", "x" * 64, "."])
def test_names_that_are_no_folder_everywhere_are_refused(store, tmp_path, name):
    source = folder_of(tmp_path / "source", a="1")
    model = Model(name, "score", "max")
    for attempt in (
        lambda: store.insert(group(name), frame(flower("a"))),
        lambda: store.read(group(name)),
        lambda: store.save_files(name, source, {}),
        lambda: store.open_files(name),
        lambda: store.save_model(model, source, {"score": 1.0}, {}),
        lambda: store.load_model(model),
    ):
        with pytest.raises(StoreError, match="not a valid name in a store"):
            attempt()


# ------------------------------------------------------------------- a model of the store

INSERTS = st.lists(
    st.dictionaries(
        st.sampled_from("abcde"), st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1
    ),
    min_size=1,
    max_size=14,
)
MAYBE_DAY = st.none() | st.integers(0, 4)


def expected_rows(inserts, since, until):
    newest = {}
    for rows in inserts:
        newest.update(rows)
    low, high = -1 if since is None else since, 99 if until is None else until
    rows = [(day, name, petals) for name, (day, petals) in newest.items() if low <= day < high]
    return sorted(rows)


def found_rows(store, since, until, as_of):
    since, until = (None if day is None else START + day * DAY for day in (since, until))
    found = store.read(FLOWERS, since=since, until=until, as_of=as_of)
    days = (found["measured_at"] - START) // DAY
    return list(zip(days, found["flower_id"], found["petals"], strict=True))


@settings(
    max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(inserts=INSERTS, since=MAYBE_DAY, until=MAYBE_DAY, back=st.integers(0, 13))
def test_any_inserts_read_like_a_dictionary(monkeypatch, inserts, since, until, back):
    """Windows and time travel over small groups that are merged again and again."""
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 3)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # about order here, not about power cuts
    with tempfile.TemporaryDirectory() as folder:
        reads_like_a_dictionary(lambda: FileStore(folder), inserts, since, until, back)


@settings(max_examples=10, deadline=None)
@given(inserts=INSERTS, since=MAYBE_DAY, until=MAYBE_DAY, back=st.integers(0, 13))
def test_any_inserts_read_like_a_dictionary_in_hopsworks(inserts, since, until, back):
    with tempfile.TemporaryDirectory() as folder:
        store = new_store("hopsworks", Path(folder))
        reads_like_a_dictionary(lambda: store, inserts, since, until, back)


def reads_like_a_dictionary(opened, inserts, since, until, back):
    moments = []
    for rows in inserts:
        flowers = (flower(k, day, petals=petals) for k, (day, petals) in rows.items())
        opened().insert(FLOWERS, frame(*flowers))
        moments.append(datetime.now(UTC))
    back = min(back, len(inserts) - 1)
    for count, as_of in ((len(inserts), None), (back + 1, moments[back])):
        found = found_rows(opened(), since, until, as_of)
        assert found == expected_rows(inserts[:count], since, until)


# --------------------------------------------------------------------------------- damage


@pytest.fixture
def root(tmp_path):
    """A store with a group of three commits, a model and a folder of files."""
    root = tmp_path / "store"
    store = FileStore(root)
    for day, name in enumerate("abc"):
        store.insert(FLOWERS, frame(flower(name, day)))
    source = folder_of(tmp_path / "source", **{"model.txt": "weights", "deep__more.txt": "more"})
    store.save_model(HIGH_SCORE, source, {"score": 0.5}, {"rows": 3})
    store.save_files("shards", source, {})
    return root


def flip(path: Path, position: int = -1, bits: int = 1) -> None:
    data = bytearray(path.read_bytes())
    data[position] ^= bits
    path.write_bytes(data)


DAMAGE = {
    "deleted": Path.unlink,
    "truncated": lambda path: os.truncate(path, path.stat().st_size // 2),
    "one byte short": lambda path: os.truncate(path, path.stat().st_size - 1),
    "emptied": lambda path: os.truncate(path, 0),
    "zeroed": lambda path: path.write_bytes(bytes(path.stat().st_size)),
    "first bit flipped": lambda path: flip(path, 0),
    "middle bit flipped": lambda path: flip(path, path.stat().st_size // 2),
    "last bit flipped": lambda path: flip(path, -1),
    "a folder instead": lambda path: (path.unlink(), path.mkdir()),
}


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("number", range(3))
def test_damaged_rows_are_an_error_that_names_the_file(root, number, damage):
    file = sorted((root / "groups/flowers_v1").glob("*.parquet"))[number]
    damage(file)
    with pytest.raises(Damaged, match=file.name):
        FileStore(root).read(FLOWERS)


@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
@pytest.mark.parametrize("number", range(2))
def test_a_damaged_manifest_that_a_later_one_names_is_noticed(root, number, damage):
    """By an error, or without harm where its content still holds: no row goes missing."""
    file = sorted((root / "groups/flowers_v1").glob("*.json"))[number]
    damage(file)
    try:
        FileStore(root).insert(FLOWERS, frame(flower("d", 3)))
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c", "d"]
    except Damaged as error:
        assert file.name in str(error)
        with pytest.raises(Damaged, match=file.name):
            FileStore(root).read(FLOWERS)
    else:
        assert damage in (DAMAGE["one byte short"], DAMAGE["last bit flipped"])


def test_a_lost_manifest_is_missed_in_time_travel_too(tmp_path, monkeypatch):
    """Twelve commits and several merges: whichever manifest goes, no moment shows fewer rows."""
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 4)
    store = FileStore(tmp_path)
    moments, expected = [], []
    for number in range(12):
        store.insert(FLOWERS, frame(flower(f"{number:02}", number)))
        moments.append(datetime.now(UTC))
        expected.append([f"{n:02}" for n in range(number + 1)])
    manifests = sorted((tmp_path / "groups/flowers_v1").glob("*.json"))
    assert len(manifests) > 12
    noticed = 0
    for manifest in manifests[:-1]:  # nothing names the last one yet
        text = manifest.read_bytes()
        manifest.unlink()
        for moment, rows in zip(moments, expected, strict=True):
            try:
                assert ids(FileStore(tmp_path).read(FLOWERS, as_of=moment)) == rows
            except Damaged as error:
                assert manifest.name in str(error)
                noticed += 1
        manifest.write_bytes(text)
    assert noticed > 12


def test_each_bit_flipped_in_the_newest_manifest_is_noticed(root):
    """Noticed by an error, or without harm: rows do not go missing silently."""
    file = max((root / "groups/flowers_v1").glob("*.json"))
    whole = file.read_bytes()
    for position in range(len(whole)):
        flip(file, position, 1 << position % 8)
        try:
            assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"], position
        except Damaged as error:
            assert file.name in str(error)
        file.write_bytes(whole)


@pytest.mark.parametrize("kind", ["models", "files"])
@pytest.mark.parametrize("name", ["model.txt", "more.txt"])
@pytest.mark.parametrize("damage", DAMAGE.values(), ids=DAMAGE.keys())
def test_a_damaged_file_of_a_version_is_an_error_that_names_it(root, kind, name, damage):
    file = next((root / kind).rglob(name))
    damage(file)
    with pytest.raises(Damaged, match=name):
        open_version(root, kind)


def open_version(root: Path, kind: str, version: str = "latest"):
    store = FileStore(root)
    if kind == "models":
        return store.load_model(HIGH_SCORE, version)
    return store.open_files("shards", version)


@pytest.mark.parametrize("kind", ["models", "files"])
def test_each_bit_flipped_in_a_versions_manifest_is_noticed(root, kind):
    file = next((root / kind).rglob("manifest.json"))
    version, whole = file.parent.name, file.read_bytes()
    for position in range(len(whole)):
        flip(file, position, 1 << position % 8)
        try:
            assert open_version(root, kind).version == version, position
        except Damaged as error:
            assert str(file) in str(error)
        file.write_bytes(whole)


# ------------------------------------------------------------------ uncommitted is ignored


def test_rows_without_a_manifest_are_ignored(root):
    folder = root / "groups/flowers_v1"
    shutil.copy(next(folder.glob("*.parquet")), folder / "20990101T000000000000Z-00000000.parquet")
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]


def test_a_group_manifest_cut_short_anywhere_is_ignored(root):
    """As when its writer was killed: the rows before it are there, and rows can be added."""
    file = max((root / "groups/flowers_v1").glob("*.json"))
    whole = file.read_bytes()
    for length in range(0, len(whole) - 2, 3):
        file.write_bytes(whole[:length])
        assert ids(FileStore(root).read(FLOWERS)) == ["a", "b"], length
    FileStore(root).insert(FLOWERS, frame(flower("c", 2)))
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]


@pytest.mark.parametrize("kind", ["models", "files"])
def test_a_versions_manifest_cut_short_anywhere_is_ignored(root, tmp_path, kind):
    first = open_version(root, kind)
    store = FileStore(root)
    if kind == "models":
        second = store.save_model(HIGH_SCORE, tmp_path / "source", {"score": 0.9}, {"a": {"b": {}}})
    else:
        second = store.save_files("shards", tmp_path / "source", {"a": {"b": {}}})
    file = second.path / "manifest.json"
    whole = file.read_bytes()
    for length in range(len(whole) - 2):
        file.write_bytes(whole[:length])
        assert open_version(root, kind) == first, length
    file.unlink()
    assert open_version(root, kind) == first


def test_a_model_without_any_manifest_is_not_found(root):
    next((root / "models").rglob("manifest.json")).unlink()
    with pytest.raises(NotFound, match="flower_score"):
        FileStore(root).load_model(HIGH_SCORE)


def test_what_drive_and_others_leave_in_the_folders_is_ignored(root):
    for folder in [root / "groups/flowers_v1", root / "models/flower_score", root / "files/shards"]:
        for path in list(folder.iterdir()):
            for name in (f"{path.stem} (1){path.suffix}", f"Copy of {path.name}", f"._{path.name}"):
                (shutil.copytree if path.is_dir() else shutil.copy)(path, folder / name)
            if path.is_file():
                flip(folder / f"{path.stem} (1){path.suffix}")
        for name in ("desktop.ini", ".tmp", "x.tmp", ".DS_Store", "notes-to-keep.json"):
            (folder / name).write_text("{}")
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]
    assert open_version(root, "models").metrics == {"score": 0.5}
    assert open_version(root, "files").metadata == {}


def test_a_store_that_moved_is_the_same_store(root, tmp_path):
    before = FileStore(root).read(FLOWERS)
    moved = root.rename(tmp_path / "moved")
    pd.testing.assert_frame_equal(FileStore(moved).read(FLOWERS), before)
    assert open_version(moved, "models").path.is_relative_to(moved)


def test_a_manifest_that_points_outside_its_folder_is_refused(root):
    file = next((root / "files").rglob("manifest.json"))
    manifest = json.loads(file.read_bytes())
    del manifest["manifest_sha256"]
    manifest["files"]["../../../secret"] = {"bytes": 0, "sha256": ""}
    file.unlink()
    FileStore(root)._write_manifest(file, manifest)
    with pytest.raises(Damaged, match="outside its folder"):
        open_version(root, "files")


def test_pruning_removes_what_a_killed_writer_left(tmp_path):
    store = FileStore(tmp_path / "store")
    first = store.save_files(
        "checkpoint", folder_of(tmp_path / "source", **{"weights.bin": str(1)}), {}
    )
    dead = store.root / "files" / "checkpoint" / "20200101T000000000000Z-00000000"
    shutil.copytree(first.path, dead)
    (dead / "manifest.json").unlink()
    newer = store.root / "files" / "checkpoint" / "29990101T000000000000Z-00000000"
    shutil.copytree(dead, newer)
    store.prune_files("checkpoint", keep=1)
    assert not dead.exists() and not newer.exists()
    assert store.list_files("checkpoint") == [first.version]


def test_a_damaged_version_is_listed_so_that_it_can_be_named(tmp_path):
    store = FileStore(tmp_path / "store")
    version = store.save_files(
        "checkpoint", folder_of(tmp_path / "source", **{"weights.bin": str(1)}), {}
    )
    manifest = store.root / "files" / "checkpoint" / version.version / "manifest.json"
    manifest.write_bytes(manifest.read_bytes()[:-9] + b"00000000\n")
    store = FileStore(tmp_path / "store")
    assert store.list_files("checkpoint") == [version.version]
    with pytest.raises(Damaged):
        store.open_files("checkpoint", version.version)


# ----------------------------------------------------------- folders that refuse to be written


def writes(root: Path, source: Path):
    store = FileStore(root)
    return [
        lambda: store.insert(FLOWERS, frame(flower("z", 9))),
        lambda: store.save_files("shards", source, {}),
        lambda: store.save_model(HIGH_SCORE, source, {"score": 1.0}, {}),
    ]


def test_a_store_below_a_regular_file_is_not_writable(tmp_path):
    (tmp_path / "file").write_text("")
    source = folder_of(tmp_path / "source", a="1")
    for root in (tmp_path / "file", tmp_path / "file/store"):
        assert FileStore(root).read(FLOWERS).empty
        for attempt in writes(root, source):
            with pytest.raises(NotWritable, match=r"Cannot write .*file.*open_store.*LABS_STORE"):
                attempt()


@contextmanager
def without_privileges():
    """The superuser may write everywhere, so act as somebody else for a while."""
    if os.geteuid() != 0:
        yield
        return
    os.seteuid(65534)
    try:
        yield
    finally:
        os.seteuid(0)


@pytest.fixture
def locked(root):
    """A copy of the store in a folder that everybody may read and nobody may write."""
    with tempfile.TemporaryDirectory() as folder:
        os.chmod(folder, 0o755)
        copy = Path(folder) / "store"
        shutil.copytree(root, copy)
        folders = [p for p in [copy, *copy.rglob("*")] if p.is_dir()]
        for path in folders:
            path.chmod(0o555)
        yield copy
        for path in folders:
            path.chmod(0o755)


def test_a_read_only_store_is_read_but_not_written(locked):
    source = folder_of(locked.parent / "source", a="1")
    before = contents(locked)
    with without_privileges():
        assert ids(FileStore(locked).read(FLOWERS)) == ["a", "b", "c"]
        for attempt in writes(locked, source):
            with pytest.raises(NotWritable, match=r"Permission denied.*Choose a folder"):
                attempt()
    assert contents(locked) == before


def test_a_store_that_may_not_be_listed_is_an_error_not_an_empty_store(locked):
    for folder in ("groups/flowers_v1", "models/flower_score", "files/shards"):
        (locked / folder).chmod(0o000)
    with without_privileges():
        for attempt in (
            lambda: FileStore(locked).read(FLOWERS),
            lambda: open_version(locked, "models"),
            lambda: open_version(locked, "files"),
        ):
            with pytest.raises(StoreError, match="ermission"):
                attempt()


@pytest.fixture
def tiny_disk(tmp_path):
    """A real file system of 256 KiB, where this process may mount one."""
    disk = tmp_path / "disk"
    disk.mkdir()
    options = ["-t", "tmpfs", "-o", "size=256k", "tmpfs", str(disk)]
    try:
        subprocess.run(["mount", *options], check=True, capture_output=True)
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("mounting a small file system takes the superuser")
    yield disk
    subprocess.run(["umount", str(disk)], check=True)


def test_a_full_disk_is_named_and_loses_nothing(tiny_disk, tmp_path):
    """Fill the rest with 0 to 6 pages left, so that each file of an insert is hit once."""
    store = FileStore(tiny_disk / "store")
    store.insert(FLOWERS, frame(flower("a")))
    source = folder_of(tmp_path / "source", **{"large.txt": "x" * 30_000})
    saved, refused = {"a"}, 0
    for pages in range(7):
        ballast = fill(tiny_disk, pages)
        for name, attempt in zip(f"{pages}xx", writes_of(store, pages, source), strict=True):
            try:
                attempt()
                saved |= {f"f{name}"} if name.isdigit() else set()
            except NotWritable as error:
                refused += 1
                assert "No space left" in str(error) and "Free some space" in str(error)
        assert set(ids(FileStore(store.root).read(FLOWERS))) == saved
        ballast.unlink()
    assert refused >= 7
    store.insert(FLOWERS, frame(flower("z")))
    assert set(ids(FileStore(store.root).read(FLOWERS))) == saved | {"z"}


def writes_of(store, pages, source):
    return [
        lambda: store.insert(FLOWERS, frame(flower(f"f{pages}"))),
        lambda: store.save_files("shards", source, {}),
        lambda: store.save_model(HIGH_SCORE, source, {"score": 1.0}, {}),
    ]


def fill(disk: Path, pages: int) -> Path:
    """A file that takes all space but some pages."""
    ballast, page = disk / "ballast", os.sysconf("SC_PAGE_SIZE")
    room = os.statvfs(disk)
    size = room.f_bavail * room.f_bsize - pages * page
    ballast.write_bytes(bytes(max(0, size)))
    return ballast


def test_a_disk_that_fills_up_at_the_last_moment_is_named(root, tmp_path, monkeypatch):
    """Where the space only runs out when written pages are flushed."""

    def fail(_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", fail)
    for attempt in writes(root, tmp_path / "source"):
        with pytest.raises(NotWritable, match=r"No space left.*Free some space"):
            attempt()
    assert ids(FileStore(root).read(FLOWERS)) == ["a", "b", "c"]


# -------------------------------------------------------------------------- killed writers


@pytest.fixture
def race(monkeypatch):
    """The benchmark's own race: writers killed at random, rows compared after each kill."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("store").race


def test_a_writer_killed_at_any_moment_leaves_a_readable_store(race, tmp_path):
    found = race(tmp_path, writers=1, inserts=40, life=0.3)
    assert found["kills"] >= 3
    assert (found["acknowledged"], found["lost"], found["duplicated"]) == (40, 0, 0)


@pytest.mark.parametrize("links", [True, False], ids=["usual folder", "no links, renames or locks"])
def test_killed_writers_together_lose_and_double_nothing(race, tmp_path, links):
    found = race(tmp_path, writers=8, inserts=20, links=links, life=0.6)
    assert found["kills"] >= 3
    assert (found["acknowledged"], found["lost"], found["duplicated"]) == (160, 0, 0)


# ------------------------------------------------------------------------------- addresses


def test_an_address_is_a_folder_and_opening_it_creates_nothing(tmp_path):
    store = open_store(tmp_path / "new/store")
    assert store.read(FLOWERS).empty and not (tmp_path / "new").exists()
    store.insert(FLOWERS, frame(flower("a")))
    assert ids(open_store(str(tmp_path / "new/store")).read(FLOWERS)) == ["a"]


def test_home_is_understood(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_store("~/labs").root == tmp_path / "labs"


@pytest.mark.parametrize("nothing", [None, ""])
def test_default_address_is_the_environments_else_the_projects_store(
    tmp_path, monkeypatch, nothing
):
    inside = tmp_path / "notebooks/lab1"
    inside.mkdir(parents=True)
    monkeypatch.chdir(inside)
    monkeypatch.delenv("LABS_STORE", raising=False)
    assert default_address() == str(inside / "store")
    (tmp_path / "pyproject.toml").write_text("")
    assert open_store(nothing).root == tmp_path / "store"
    monkeypatch.setenv("LABS_STORE", str(tmp_path / "elsewhere"))
    assert open_store(nothing).root == tmp_path / "elsewhere"


@pytest.fixture
def colab_drive(tmp_path, monkeypatch):
    monkeypatch.setattr(labstore, "COLAB_DRIVE", tmp_path / "drive")
    return tmp_path / "drive"


def be_in_colab(monkeypatch, mount):
    """A double of google.colab, which exists on Colab only."""
    google, colab = types.ModuleType("google"), types.ModuleType("google.colab")
    google.colab = colab
    colab.drive = types.SimpleNamespace(mount=mount)
    monkeypatch.setitem(sys.modules, "google", google)
    monkeypatch.setitem(sys.modules, "google.colab", colab)


def test_drive_outside_colab_says_how_to_go_on(colab_drive):
    with pytest.raises(StoreError, match=r"not mounted.*not Colab.*open_store\('store'\)"):
        open_store("drive:labs")


def test_drive_is_mounted_where_colab_can(colab_drive, monkeypatch):
    mounted = []

    def mount(folder):
        mounted.append(folder)
        (Path(folder) / "MyDrive").mkdir(parents=True)

    be_in_colab(monkeypatch, mount)
    store = open_store("drive:labs/iris")
    store.insert(FLOWERS, frame(flower("a")))
    assert (colab_drive / "MyDrive/labs/iris/groups/flowers_v1").is_dir()
    assert ids(open_store("drive:/labs/iris/").read(FLOWERS)) == ["a"]
    assert mounted == [str(colab_drive)]


def refuse_mount(_):
    raise ValueError("mount failed")


@pytest.mark.parametrize("mount", [lambda _: None, refuse_mount], ids=["nothing came", "refused"])
def test_drive_that_does_not_mount_says_how(colab_drive, monkeypatch, mount):
    be_in_colab(monkeypatch, mount)
    with pytest.raises(StoreError, match=r"did not appear.*drive\.mount\(.*run this cell again"):
        open_store("drive:labs")


@pytest.mark.parametrize("address", ["drive:", "drive:/", "drive:..", "drive:labs/../../x"])
def test_drive_addresses_stay_inside_my_drive(colab_drive, address):
    (colab_drive / "MyDrive").mkdir(parents=True)
    with pytest.raises(StoreError, match="is not a folder of My Drive"):
        open_store(address)


# ------------------------------------------------------------------------- pipelines as files


@pytest.fixture(scope="module")
def pipeline():
    linear = pytest.importorskip("sklearn.linear_model")
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    points = np.random.default_rng(0).normal(size=(60, 3))
    labels = np.where(points[:, 0] > 0, "up", "down")
    return make_pipeline(StandardScaler(), linear.LogisticRegression()).fit(points, labels)


@pytest.fixture
def sklearn_files():
    pytest.importorskip("skops")
    return importlib.import_module("labstore.skops_io")


def test_a_pipeline_predicts_the_same_after_a_round_trip(store, sklearn_files, pipeline, tmp_path):
    sklearn_files.save_pipeline(pipeline, tmp_path)
    source = folder_of(tmp_path / "source")
    source.mkdir()
    sklearn_files.save_pipeline(pipeline, source)
    store.save_model(HIGH_SCORE, source, {"score": 1.0}, {})
    again = sklearn_files.load_pipeline(store.load_model(HIGH_SCORE).path)
    points = np.random.default_rng(1).normal(size=(500, 3))
    np.testing.assert_array_equal(again.predict_proba(points), pipeline.predict_proba(points))
    assert (again.predict(points) == pipeline.predict(points)).all()


class Trap:
    """Touches a file when it is made from a stored state or called."""

    def __init__(self, path):
        self.path = path

    def __setstate__(self, state):
        Path(state["path"]).touch()
        self.__dict__ = state

    def __call__(self, values):
        Path(self.path).touch()
        return values


def test_a_type_that_is_not_trusted_is_refused_and_does_not_run(sklearn_files, tmp_path):
    preprocessing = pytest.importorskip("sklearn.preprocessing")
    touched = tmp_path / "touched"
    sklearn_files.save_pipeline(preprocessing.FunctionTransformer(Trap(str(touched))), tmp_path)
    touched.unlink(missing_ok=True)
    with pytest.raises(Damaged, match=r"model\.skops.*Trap.*not loaded.*Train the model again"):
        sklearn_files.load_pipeline(tmp_path)
    assert not touched.exists()


GARBAGE = {
    "deleted": Path.unlink,
    "emptied": lambda path: path.write_bytes(b""),
    "zeroed": lambda path: path.write_bytes(bytes(1000)),
    "noise": lambda path: path.write_bytes(np.random.default_rng(0).bytes(1000)),
    "truncated": DAMAGE["truncated"],
    "a pickle": lambda path: path.write_bytes(b"\x80\x04\x95\x00."),
    "another zip": lambda path: rezip(path, {"a.txt": b""}),
    "no schema": lambda path: rezip(path, {"schema.json": b"{"}),
    "empty schema": lambda path: rezip(path, {"schema.json": b"{}"}),
    "listed schema": lambda path: rezip(path, {"schema.json": b"[]"}),
}


def rezip(path: Path, files: dict[str, bytes]) -> None:
    from zipfile import ZipFile

    with ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(name, data)


@pytest.mark.parametrize("damage", GARBAGE.values(), ids=GARBAGE.keys())
def test_a_file_that_is_no_model_is_named(sklearn_files, pipeline, tmp_path, damage):
    damage(sklearn_files.save_pipeline(pipeline, tmp_path))
    with pytest.raises(Damaged, match=r"model\.skops.*Train the model again"):
        sklearn_files.load_pipeline(tmp_path)


@pytest.fixture(scope="module")
def pipeline_bytes(pipeline, tmp_path_factory):
    from labstore.skops_io import save_pipeline

    return save_pipeline(pipeline, tmp_path_factory.mktemp("pipeline")).read_bytes()


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(where=st.floats(0, 1, exclude_max=True), bits=st.integers(1, 255))
def test_a_model_with_a_changed_byte_is_refused_or_harmless(
    sklearn_files, pipeline_bytes, where, bits
):
    """Without a manifest's checksum before it: no other error than Damaged comes out."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / sklearn_files.FILE
        path.write_bytes(pipeline_bytes)
        flip(path, int(where * len(pipeline_bytes)), bits)
        try:
            sklearn_files.load_pipeline(Path(folder))
        except Damaged as error:
            assert "model.skops" in str(error)


# ----------------------------------------------------------------------------- the benchmark


def test_the_benchmark_runs_alone_and_a_quick_run_keeps_no_results():
    results = BENCHMARKS / "results/store.json"
    before = results.read_bytes()
    command = [sys.executable, str(BENCHMARKS / "store.py"), "--quick"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    figures = json.loads(done.stdout.splitlines()[-1])
    assert figures.keys() - {"quick"} == json.loads(before).keys() - {"machine", "versions", "date"}
    for name in ("lost", "duplicated", "lost_without_links", "duplicated_without_links"):
        assert figures[name] == json.loads(before)[name] == 0
    assert results.read_bytes() == before
