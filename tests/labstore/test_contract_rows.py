"""What every store promises about rows; test_hopsworks.py runs the same tests with HUDI."""

from __future__ import annotations

import os
import tempfile
from datetime import UTC, date, datetime
from pathlib import Path

import numpy as np
import pandas as pd
import pandera.pandas as pa
import pytest
from helpers.stores import (
    DAY,
    FLOWERS,
    SECOND_VERSION,
    SPECIES,
    START,
    flower,
    frame,
    group,
    ids,
    kept,
    new_store,
)
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from labstore import (
    UTC_TIME,
    InvalidRows,
    StoreError,
)
from labstore.files import FileStore

# -------------------------------------------------------------------------- contract: rows


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


def test_versions_of_a_group_are_separate(store):
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


def test_a_date_instead_of_a_time_is_refused_by_name(store):
    with pytest.raises(StoreError, match="since"):
        store.read(FLOWERS, since=date(2026, 1, 1))


def test_changed_columns_need_a_new_group_version(store):
    store.insert(FLOWERS, frame(flower("a")))
    changed = group(petal_cm=pa.Column(int))
    with pytest.raises(StoreError, match=r"flowers v1.*new version number"):
        store.read(changed)


# ------------------------------------------------------------------ contract: invalid rows

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


@settings(max_examples=40, deadline=None)
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


# -------------------------------------------------------------------- a model of the store

INSERTS = st.lists(
    st.dictionaries(
        st.sampled_from("abcde"), st.tuples(st.integers(0, 3), st.integers(1, 9)), min_size=1
    ),
    min_size=1,
    max_size=10,
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
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(inserts=INSERTS, since=MAYBE_DAY, until=MAYBE_DAY, back=st.integers(0, 9))
def test_any_inserts_read_like_a_dictionary(monkeypatch, inserts, since, until, back):
    """Windows and time travel over small groups that are merged repeatedly."""
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 3)
    monkeypatch.setattr(os, "fsync", lambda _: None)  # this is about order, not about power cuts
    with tempfile.TemporaryDirectory() as folder:
        reads_like_a_dictionary(lambda: FileStore(folder), inserts, since, until, back)


@settings(max_examples=10, deadline=None)
@given(inserts=INSERTS, since=MAYBE_DAY, until=MAYBE_DAY, back=st.integers(0, 9))
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
