"""Copies one store to another, and proves that everything arrived.

Versions of files and models keep their ids, ages, metadata and metrics: they are folders with a
manifest, and are copied as such. Of a group's rows, the newest of each key are copied. Earlier
values and ingest times are not: in the target, `as_of` begins with the copy.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from functools import partial
from typing import Literal

import pandas as pd

from labstore.contract import Damaged, FeatureGroup, Kind, PortableStore, StoreError
from labstore.versions import read_manifest


@dataclass(frozen=True)
class Copied:
    """One group, or one version of files or a model, found equal in both stores.

    `amount` counts rows or bytes, `moved` those that the target did not have before. `sha256` is
    over the rows in order, or over the names, sizes and checksums of a version's files.
    """

    name: str
    amount: int
    moved: int
    unit: Literal["rows", "bytes"]
    sha256: str


def copy(
    source: PortableStore,
    target: PortableStore,
    groups: Iterable[FeatureGroup],
    report: Callable[[str], None] = print,
) -> list[Copied]:
    """Copy a whole store. What the target has already is checked, not copied again.

    `groups` declares the groups that the source may hold; `report` gets a line for each group and
    version. Where a key is in both stores, the source's row is kept. Rows and versions that only
    the target has stay as they are. Raises StoreError, before anything is written, for a group
    that is not declared, and Damaged naming what did not arrive as it was sent.
    """
    contents = source.contents()
    declared = {group.label: group for group in groups}
    if unknown := [label for label in contents.groups if label not in declared]:
        raise StoreError(
            f"{source} holds {', '.join(unknown)}, which no lab's schema.py declares (declared: "
            f"{', '.join(sorted(declared)) or 'nothing'}). Nothing was copied. Copy it with the "
            "version of the project that wrote it."
        )
    jobs: list[Callable[[], Copied]] = [
        partial(copy_group, source, target, declared[label]) for label in contents.groups
    ]
    versions: list[tuple[Kind, dict[str, list[str]]]] = [
        ("files", contents.files),
        ("models", contents.models),
    ]
    for kind, names in versions:
        for name, ids in names.items():
            jobs += [partial(copy_version, source, target, kind, name, id_) for id_ in ids]
    done = []
    for number, job in enumerate(jobs, start=1):
        done.append(job())
        report(f"{number}/{len(jobs)}  {_line(done[-1])}")
    return done


def copy_group(source: PortableStore, target: PortableStore, group: FeatureGroup) -> Copied:
    """Copy the newest row of each key, and compare what arrived."""
    rows = source.read(group)
    missing = rows[~_row_hashes(rows).isin(_row_hashes(target.read(group)))]
    target.insert(group, missing.reset_index(drop=True))
    arrived = target.read(group)
    arrived = arrived[arrived[group.primary_key].isin(rows[group.primary_key])]
    sent, found = rows_sha256(rows), rows_sha256(arrived)
    if len(arrived) != len(rows) or found != sent:
        raise Damaged(
            f"{group.label} did not arrive in {target} as it is in {source}: {len(rows)} rows "
            f"(sha256 {sent[:12]}) were sent, {len(arrived)} (sha256 {found[:12]}) are there. "
            "Somebody may be writing to one of them: copy again when nobody is."
        )
    return Copied(f"groups/{group.label}", len(rows), len(missing), "rows", sent)


def copy_version(
    source: PortableStore, target: PortableStore, kind: Kind, name: str, version: str
) -> Copied:
    """Copy a version of files or a model, verify every file in both stores, compare manifests."""
    with source.lend(kind, name, version) as folder:
        sent = read_manifest(folder)
        new = target.adopt(kind, folder)
    with target.lend(kind, name, version) as folder:
        found = read_manifest(folder)
    if found != sent:
        raise Damaged(
            f"{kind}/{name}/{version} differs between {target} and {source}. Remove it from "
            f"{target} and copy again."
        )
    size = sum(facts["bytes"] for facts in sent["files"].values())
    checksum = hashlib.sha256(repr(sorted(sent["files"].items())).encode()).hexdigest()
    return Copied(f"{kind}/{name}/{version}", size, size if new else 0, "bytes", checksum)


def rows_sha256(rows: pd.DataFrame) -> str:
    """Return a checksum of a group's rows as `read` returns them: columns, values and order."""
    hashes = _row_hashes(rows).to_numpy().tobytes()
    return hashlib.sha256(repr(list(rows.columns)).encode() + hashes).hexdigest()


def _row_hashes(rows: pd.DataFrame) -> pd.Series:
    return pd.util.hash_pandas_object(rows, index=False)


def _line(copied: Copied) -> str:
    new = f"{copied.moved:,} new" if copied.moved else "all there already"
    return f"{copied.name}: {copied.amount:,} {copied.unit} ({new}), sha256 {copied.sha256[:12]} in both"
