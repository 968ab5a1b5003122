"""Whatever pandas types hold a value: the store keeps it as its group declares it, or refuses it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tempfile
from pathlib import Path

import pandas as pd
import pandera.pandas as pa
import pyarrow
import pyarrow.parquet as pq
import pytest
from helpers.stores import FLOWERS, START, flower, frame, group, new_store
from hypothesis import given, settings
from hypothesis import strategies as st

from labstore import UTC_TIME, InvalidRows
from labstore.files import FileStore
from labstore.versions import manifest_text

ARROW = pd.ArrowDtype
TEXT = [
    "category",
    "string",
    "string[pyarrow]",
    ARROW(pyarrow.large_string()),
    ARROW(pyarrow.dictionary(pyarrow.int8(), pyarrow.string())),
]
SAME_KIND = {  # the dtypes that a column may come in
    "flower_id": [object, *TEXT],
    "measured_at": [
        UTC_TIME,
        "datetime64[ns, UTC]",
        "datetime64[s, Asia/Tokyo]",
        ARROW(pyarrow.timestamp("ms", "UTC")),
        ARROW(pyarrow.timestamp("us", "America/New_York")),
    ],
    "petal_cm": ["float64", "float32", "Float32", "Float64", ARROW(pyarrow.float64()), "category"],
    "petals": ["int64", "int8", "uint16", "Int64", "UInt8", object, ARROW(pyarrow.int32())],
    "species": [object, *TEXT],
}
OTHER_KIND = {
    "flower_id": ["bytes", ARROW(pyarrow.binary())],
    "measured_at": [ARROW(pyarrow.timestamp("us")), ARROW(pyarrow.date32()), str],
    "petal_cm": ["int64", "Int64", "complex128", str, ARROW(pyarrow.decimal128(9, 3))],
    "petals": ["float64", "Float64", "bool", str, ARROW(pyarrow.float32())],
    "species": ["bytes", ARROW(pyarrow.binary())],
}
ROWS = frame(flower("a", 0, 1.0), flower("b", 1, 2.0, petals=7, species="virginica"))
ROWS["measured_at"] = ROWS["measured_at"].astype(UTC_TIME)


def changed(column: str, dtype) -> pd.DataFrame:
    rows = ROWS.copy()
    source = rows[column]
    if dtype == "bytes" or "binary" in str(dtype):
        source = source.str.encode("utf-8")
    if column == "measured_at" and ("timestamp[us][" in str(dtype) or "date32" in str(dtype)):
        source = source.dt.tz_localize(None)
    rows[column] = source if dtype == "bytes" else source.astype(dtype)
    return rows


@settings(max_examples=60, deadline=None)
@given(
    dtypes=st.lists(st.fixed_dictionaries({c: st.sampled_from(t) for c, t in SAME_KIND.items()}))
)
def test_a_group_stays_readable_whatever_types_its_values_come_in(dtypes):
    with tempfile.TemporaryDirectory() as folder:
        store = FileStore(folder)
        for of_columns in dtypes:
            store.insert(FLOWERS, ROWS.astype(of_columns))
        if dtypes:
            pd.testing.assert_frame_equal(store.read(FLOWERS), ROWS)
        schemas = {pq.read_schema(p).remove_metadata() for p in Path(folder).rglob("*.parquet")}
        assert len(schemas) <= 1


@pytest.mark.parametrize(
    ("column", "dtype"),
    [(column, dtype) for column, dtypes in SAME_KIND.items() for dtype in dtypes],
    ids=str,
)
def test_each_type_of_the_same_kind_is_read_back_as_declared(store, column, dtype):
    store.insert(FLOWERS, changed(column, dtype))
    pd.testing.assert_frame_equal(store.read(FLOWERS), ROWS)


@pytest.mark.parametrize(
    ("column", "dtype"),
    [(column, dtype) for column, dtypes in OTHER_KIND.items() for dtype in dtypes],
    ids=str,
)
def test_each_type_of_another_kind_is_refused_by_column_and_type(store, column, dtype):
    with pytest.raises(InvalidRows, match=f"Nothing was written to flowers v1.*{column}"):
        store.insert(FLOWERS, changed(column, dtype))
    assert store.read(FLOWERS).empty


@pytest.mark.parametrize("column", ["flower_id", "measured_at", "petal_cm", "petals", "species"])
@pytest.mark.parametrize("number", range(7))
def test_a_null_in_any_type_is_refused_by_column(store, column, number):
    dtypes = SAME_KIND[column]
    dtype = dtypes[number % len(dtypes)]
    rows = ROWS.astype({column: dtype})
    rows[column] = rows[column].where([True, False])
    with pytest.raises(InvalidRows, match=column):
        store.insert(FLOWERS, rows)


@pytest.mark.parametrize("text", ["\ud800", "a\udfff"])
def test_text_that_is_no_text_is_refused_by_column(tmp_path, text):
    store = new_store("files", tmp_path)
    with pytest.raises(InvalidRows, match="flower_id"):
        store.insert(FLOWERS, frame(flower(text)))
    assert store.read(FLOWERS).empty


def test_a_value_that_does_not_fit_its_type_is_refused_by_column(store):
    small = group(petals=pa.Column("int32"))
    with pytest.raises(InvalidRows, match="petals"):
        store.insert(small, frame(flower("a", petals=2**40)))
    wide = group(petals=pa.Column("int64"))
    rows = frame(flower("a")).astype({"petals": "uint64"}).assign(petals=[2**63])
    with pytest.raises(InvalidRows, match="petals"):
        store.insert(wide, rows)


def rewritten(root: Path, number: int, change) -> None:
    """Write a commit's file with other types, and sign its manifest again."""
    manifest_path = sorted((root / "groups/flowers_v1").glob("*.json"))[number]
    sink = io.BytesIO()
    pq.write_table(change(pq.read_table(manifest_path.with_suffix(".parquet"))), sink)
    manifest_path.with_suffix(".parquet").write_bytes(sink.getvalue())
    manifest = json.loads(manifest_path.read_bytes())
    del manifest["manifest_sha256"]
    manifest |= {
        "bytes": len(sink.getvalue()),
        "sha256": hashlib.sha256(sink.getvalue()).hexdigest(),
    }
    manifest_path.write_bytes(manifest_text(manifest))


def dictionaries(table):
    index = table.schema.get_field_index("species")
    return table.set_column(index, "species", table["species"].dictionary_encode())


def large(table):
    types = {"flower_id": pyarrow.large_string(), "_ingested_at": pyarrow.timestamp("ns", "UTC")}
    fields = [pyarrow.field(f.name, types.get(f.name, f.type)) for f in table.schema]
    return table.cast(pyarrow.schema(fields))


def reversed_columns(table):
    return table.select(table.column_names[::-1])


@pytest.mark.parametrize("change", [dictionaries, large, reversed_columns])
@pytest.mark.parametrize("number", range(3))
def test_a_store_whose_files_differ_in_their_types_is_healed(root, number, change, monkeypatch):
    """As versions until November 2026 wrote them, from a categorical or an Arrow-backed column."""
    monkeypatch.setattr("labstore.files.MERGE_AFTER", 4)
    before = FileStore(root).read(FLOWERS)
    rewritten(root, number, change)
    pd.testing.assert_frame_equal(FileStore(root).read(FLOWERS), before)
    later = FileStore(root).read(FLOWERS, since=START)
    pd.testing.assert_frame_equal(later, before)
    for day in range(3, 6):  # merged on the way
        FileStore(root).insert(FLOWERS, frame(flower(str(day), day)))
    assert len(FileStore(root).read(FLOWERS)) == 6


@pytest.fixture(autouse=True)
def no_waiting_for_disks(monkeypatch):
    monkeypatch.setattr(os, "fsync", lambda _: None)  # this is about types, not about power cuts
