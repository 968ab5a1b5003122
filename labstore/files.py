"""The store as a folder, on a local disk or on a mounted Google Drive.

    groups/<name>_v<version>/<commit>.parquet    rows, never changed afterwards
                             <commit>.json       its manifest, written last: the commit
    files/<name>/<commit>/...  manifest.json
    models/<name>/<commit>/... manifest.json

A commit's name is its UTC time and a random part, so names sort by age and never collide.
There are no locks, links or renames, since a mounted Drive has none that can be relied on: a file
is written once, then its manifest. A file without a complete manifest is uncommitted and ignored.
A file with one must be there, with the same checksum, or reading stops with `Damaged`.

Each manifest names the ones before it that no other names yet (`parents`, as commits do in git),
so that a lost one is noticed. Once a group has many small files, an insert merges them into one
that `replaces` them; the old ones stay for time travel.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import math
import os
import re
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any, BinaryIO

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from labstore.contract import (
    Contents,
    Damaged,
    FeatureGroup,
    FilesVersion,
    Kind,
    Model,
    ModelVersion,
    NewerFormat,
    NotWritable,
    StoreError,
    check_name,
)
from labstore.rows import (
    INGESTED,
    arrow_schema,
    as_declared,
    aware,
    drop_superseded,
    in_order,
    newest_rows,
    to_arrow,
    valid_rows,
    window_filter,
)
from labstore.versions import (
    FORMAT,
    Manifest,
    best_version,
    check_place,
    check_rows,
    check_version,
    commit_name,
    damaged,
    git_commit,
    is_commit,
    is_version,
    library_versions,
    manifest_text,
    next_stamp,
    no_such_name,
    no_such_version,
    parse_manifest,
    read_manifest,
    time_of,
    verified_bytes,
    verify,
)

MERGE_AFTER = 32  # small files of a group before an insert merges them
SMALL_ROWS = 50_000  # files with as many rows or more are left as they are
PIECE_BYTES = 1 << 20  # read at once when a file is copied


class FileStore:
    """A store in one folder; the module's docstring shows its layout. Safe for many writers."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self._complete: dict[Path, Manifest] = {}  # manifests never change: read once

    def __repr__(self) -> str:
        return f"FileStore({str(self.root)!r})"

    # ------------------------------------------------------------------ rows

    def insert(self, group: FeatureGroup, rows: pd.DataFrame) -> None:
        """Write the rows as one commit, after merging small files where there are many."""
        rows = valid_rows(group, rows)
        if rows.empty:
            return
        live = self._live(group)
        small = [m for m in live if m["rows"] < SMALL_ROWS]
        if len(small) >= MERGE_AFTER:
            live = [m for m in live if m not in small] + [self._merge(group, small, live)]
        stamp = next_stamp(m["name"] for m in live)
        self._commit_rows(group, rows.assign(**{INGESTED: stamp}), stamp, live, replaces=[])

    def read(
        self,
        group: FeatureGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Return the newest row of each key; only the files that the window needs are opened."""
        since, until, as_of = map(aware, (since, until, as_of), ("since", "until", "as_of"))
        live = self._live(group, as_of)
        inside = [m for m in live if _overlaps(m, since, until)]
        if not inside:
            return group.empty()
        rows = newest_rows(self._load(group, inside, since, until), group.primary_key)
        if since or until:
            rows = self._without_moved(group, rows, live)
        return in_order(group, rows)

    def _without_moved(
        self, group: FeatureGroup, rows: pd.DataFrame, live: list[Manifest]
    ) -> pd.DataFrame:
        """Drop rows whose newer version lies outside the window that was read."""
        key, oldest = group.primary_key, rows[INGESTED].min()
        later = [m for m in live if time_of(m["name"]) > oldest]
        if rows.empty or not later:
            return rows
        return drop_superseded(rows, self._load(group, later, columns=[key, INGESTED]), key)

    def _live(self, group: FeatureGroup, as_of: datetime | None = None) -> list[Manifest]:
        """Return the manifests that together hold the group's rows, newest first."""
        folder = self._group_folder(group)
        names = [path.stem for path in reversed(_commits(folder))]
        shown = [name for name in names if as_of is None or time_of(name) <= as_of]
        live: list[Manifest] = []
        replaced: set[str] = set()
        for name in shown:
            if name not in replaced and (manifest := self._commit(group, name)):
                live.append(manifest)
                replaced.update(manifest["replaces"])
        # Commits after `as_of` are not shown, but they name what must be there before it.
        newer = names[: len(names) - len(shown)]
        later = [m for name in newer if (m := self._commit(group, name))]
        self._add_unlisted_parents(group, live, later, replaced, as_of)
        for manifest in live:
            if manifest["schema"] != group.fingerprint:
                raise StoreError(
                    f"{folder / manifest['name']}.json holds other columns than {group.label} "
                    "declares. Give the changed group a new version number in its schema.py."
                )
        return live

    def _add_unlisted_parents(
        self,
        group: FeatureGroup,
        live: list[Manifest],
        later: list[Manifest],
        replaced: set[str],
        as_of: datetime | None,
    ) -> None:
        """Add the parents that the listing missed, as one taken while others write can.

        Raises Damaged where a parent's manifest is not there.
        """
        known = {m["name"] for m in live} | replaced
        for manifest in itertools.chain(later, live):  # live grows while it is walked
            for parent in manifest["parents"]:
                if parent in known or (as_of and time_of(parent) > as_of):
                    continue
                found = self._commit(group, parent)
                if found is None:
                    path = self._group_folder(group) / f"{parent}.json"
                    raise damaged(path, f"(before {manifest['name']}) is missing or cut short")
                known.add(parent)
                live.append(found)

    def _commit(self, group: FeatureGroup, name: str) -> Manifest | None:
        """Return the manifest of one of the group's commits, None where there is no whole one."""
        path = self._group_folder(group) / f"{name}.json"
        if manifest := self._manifest(path):
            check_rows(path, manifest, name, group.label)
        return manifest

    def _load(
        self,
        group: FeatureGroup,
        manifests: list[Manifest],
        since: datetime | None = None,
        until: datetime | None = None,
        columns: list[str] | None = None,
    ) -> pd.DataFrame:
        """Return the rows of several commits, oldest first, each file verified."""
        whole = arrow_schema(group)
        schema = pa.schema([whole.field(name) for name in columns or whole.names])
        keep = window_filter(group, since, until)
        tables = []
        for manifest in sorted(manifests, key=lambda m: m["name"]):
            data = verified_bytes(
                self._group_folder(group) / f"{manifest['name']}.parquet", manifest
            )
            table = pq.read_table(io.BytesIO(data), columns=schema.names, filters=keep)
            tables.append(as_declared(table, schema))
        return pa.concat_tables(tables or [schema.empty_table()]).to_pandas()

    def _merge(self, group: FeatureGroup, small: list[Manifest], live: list[Manifest]) -> Manifest:
        """Write one commit that holds the newest rows of many small ones, and replaces them."""
        rows = newest_rows(self._load(group, small), group.primary_key)
        replaces = sorted({m["name"] for m in small}.union(*(m["replaces"] for m in small)))
        return self._commit_rows(group, rows, next_stamp(m["name"] for m in live), live, replaces)

    def _commit_rows(
        self,
        group: FeatureGroup,
        rows: pd.DataFrame,
        stamp: datetime,
        live: list[Manifest],
        replaces: list[str],
    ) -> Manifest:
        """Write a Parquet file, then the manifest that commits it."""
        sink = io.BytesIO()
        pq.write_table(to_arrow(group, rows), sink, compression="zstd", row_group_size=65_536)
        folder, name = self._group_folder(group), commit_name(stamp)
        staying = [m for m in live if m["name"] not in replaces]
        older = {parent for m in staying for parent in m["parents"]}
        manifest = {
            "format": FORMAT,
            "name": name,
            "group": group.label,
            "schema": group.fingerprint,
            "rows": len(rows),
            "bytes": sink.getbuffer().nbytes,
            "sha256": hashlib.sha256(sink.getbuffer()).hexdigest(),
            "from": rows[group.event_time].min().isoformat(),
            "to": rows[group.event_time].max().isoformat(),
            "parents": sorted({m["name"] for m in live} - older),
            "replaces": replaces,
        }
        self._write(folder / f"{name}.parquet", sink.getbuffer())
        self._write_manifest(folder / f"{name}.json", manifest)
        return manifest

    def _group_folder(self, group: FeatureGroup) -> Path:
        return self.root / "groups" / f"{check_name(group.name)}_v{group.version}"

    # ------------------------------------------------------ files and models

    def save_files(
        self, name: str, folder: Path, metadata: dict[str, Any], after: str | None = None
    ) -> FilesVersion:
        """Keep a copy of a folder as a new version, which sorts after the version `after` too."""
        return FilesVersion(**self._save("files", name, folder, {"metadata": metadata}, after))

    def open_files(self, name: str, version: str = "latest") -> FilesVersion:
        """Return a version of a folder, in its place in this store, every file verified."""
        return FilesVersion(**self._open("files", name, self._pick("files", name, version)))

    def list_files(self, name: str) -> list[str]:
        """Return the ids of a folder's versions, oldest first, including damaged ones."""
        folders = _commits(self.root / "files" / check_name(name))
        return [p.name for p in folders if self._is_committed(p)]

    def prune_files(self, name: str, keep: int) -> None:
        """Remove all but the newest `keep` (1 or more) versions, and what killed writers left."""
        kept = self.list_files(name)[-keep:]
        for folder in _commits(self.root / "files" / check_name(name)):
            # An uncommitted one was left by a killed writer: there is only one writer at a time.
            if folder.name not in kept:
                self.remove("files", name, folder.name)

    def remove(self, kind: Kind, name: str, version: str) -> None:
        """Remove a version, or whatever part of it is there."""
        folder = self.root / kind / check_name(name) / version
        self._complete.pop(folder / "manifest.json", None)
        (folder / "manifest.json").unlink(missing_ok=True)  # first: uncommitted from here on
        for file in filter(Path.is_file, folder.rglob("*")):
            os.truncate(file, 0)  # Drive moves removed files to its bin, where they use up space
        shutil.rmtree(folder, ignore_errors=True)

    def _is_committed(self, version: Path) -> bool:
        try:
            return self._version("files", version) is not None
        except (Damaged, NewerFormat):  # opening it reports that
            return True

    def save_model(
        self,
        model: Model,
        folder: Path,
        metrics: dict[str, float],
        metadata: dict[str, Any],
        after: str | None = None,
    ) -> ModelVersion:
        """Register a folder as a new version, which sorts after the version `after` too."""
        if model.metric not in metrics:
            raise StoreError(
                f"A version of {model.name} needs the metric {model.metric!r}, which decides "
                f"which is best; got {', '.join(metrics) or 'none'}."
            )
        if not math.isfinite(metrics[model.metric]):
            raise StoreError(
                f"{model.name}: {model.metric} is {metrics[model.metric]}, but must be a finite "
                "number: it decides which version is best."
            )
        metadata = {**metadata, "libraries": library_versions(), "git_commit": git_commit()}
        extra = {"metrics": metrics, "metadata": metadata}
        return ModelVersion(**self._save("models", model.name, folder, extra, after))

    def load_model(self, model: Model, version: str = "best") -> ModelVersion:
        """Return a registered version, in its place in this store, every file verified."""
        if version == "best":
            version = best_version(model, self._versions("models", model.name))
        chosen = self._pick("models", model.name, version)
        return ModelVersion(**self._open("models", model.name, chosen))

    def free_bytes(self) -> int | None:
        """Return the free bytes of the disk that holds the folder, None where it does not say."""
        root = self.root.absolute()
        try:
            existing = next(path for path in (root, *root.parents) if path.exists())
            return shutil.disk_usage(existing).free
        except OSError:
            return None

    # ---------------------------------------------------- from store to store

    def contents(self) -> Contents:
        """Return the names and versions of everything that is kept here."""
        groups = [p for p in _list(self.root / "groups") if any(map(is_commit, _list(p)))]
        return Contents(
            groups=sorted(re.sub(r"_v(\d+)$", r" v\1", p.name) for p in groups),
            files={name: ids for name, ids in self._ids("files").items() if ids},
            models={name: ids for name, ids in self._ids("models").items() if ids},
        )

    def _ids(self, kind: Kind) -> dict[str, list[str]]:
        folders = {name: _commits(self.root / kind / name) for name in self._names(kind)}
        return {
            name: [p.name for p in found if self._version(kind, p)]
            for name, found in folders.items()
        }

    def _names(self, kind: Kind) -> list[str]:
        return sorted(p.name for p in _list(self.root / kind) if p.is_dir())

    @contextmanager
    def lend(self, kind: Kind, name: str, version: str) -> Iterator[Path]:
        """Lend a version's own folder, with its manifest, every file verified."""
        manifest = self._pick(kind, name, version)
        self._open(kind, name, manifest)
        yield self.root / kind / name / manifest["version"]

    def adopt(self, kind: Kind, folder: Path) -> bool:
        """Keep another store's version under its own id, its manifest as it is.

        Returns False where that version is here already. Raises Damaged for a lent file that
        differs from its manifest.
        """
        manifest = read_manifest(folder)
        home = self.root / kind / check_name(manifest["name"]) / manifest["version"]
        if self._version(kind, home):
            return False
        self.remove(kind, manifest["name"], manifest["version"])  # what a killed copy left
        for inside, facts in manifest["files"].items():
            _, sha256 = self._copy(Path(folder) / inside, home / inside)
            if sha256 != facts["sha256"]:
                raise damaged(Path(folder) / inside, "is damaged")
        self._write_manifest(home / "manifest.json", manifest)
        return True

    # ------------------------------------------------------- versions inside

    def _save(
        self, kind: Kind, name: str, folder: Path, extra: dict[str, Any], after: str | None = None
    ) -> dict[str, Any]:
        """Copy a folder's files into a new version, its manifest last."""
        folder, extra = Path(folder), json.loads(json.dumps(extra))
        if (folder / "manifest.json").exists():
            raise StoreError(
                f"{folder} holds a manifest.json, the name of the store's own list of files. "
                "Rename it, or copy the other files to a new folder first."
            )
        files = _regular_files(folder)
        if not files:
            raise StoreError(f"There are no files in {folder} to keep as {kind}/{name}.")
        home = self.root / kind / check_name(name)
        known = [p.name for p in _commits(home)] + ([after] if after else [])
        version = commit_name(next_stamp(known))
        sums = {}
        for file in files:
            inside = file.relative_to(folder).as_posix()
            size, sha256 = self._copy(file, home / version / inside)
            sums[inside] = {"bytes": size, "sha256": sha256}
        manifest = {"format": FORMAT, "name": name, "version": version, "files": sums, **extra}
        self._write_manifest(home / version / "manifest.json", manifest)
        return self._describe(kind, manifest)

    def _versions(self, kind: Kind, name: str) -> list[Manifest]:
        """Return the manifests of all committed versions, oldest first.

        Raises NotFound where there are none.
        """
        folders = _commits(self.root / kind / check_name(name))
        versions = [m for p in folders if (m := self._version(kind, p))]
        if not versions:
            raise no_such_name(kind, name, str(self.root), self._names(kind))
        return versions

    def _pick(self, kind: Kind, name: str, version: str) -> Manifest:
        """Return one version's manifest. Raises NotFound with the versions that there are."""
        home = self.root / kind / check_name(name)
        chosen = []
        if version == "latest":
            chosen = [path.name for path in reversed(_commits(home))]
        elif is_version(version):
            chosen = [version]  # opens even where other versions are damaged
        for candidate in chosen:
            if manifest := self._version(kind, home / candidate):
                return manifest
        versions = self._versions(kind, name)
        raise no_such_version(kind, name, version, [m["version"] for m in versions])

    def _version(self, kind: Kind, folder: Path) -> Manifest | None:
        """Return the manifest of a version's folder, None where there is no whole one."""
        path = folder / "manifest.json"
        if manifest := self._manifest(path):
            check_version(path, manifest)
            check_place(path, manifest, kind)
        return manifest

    def _open(self, kind: Kind, name: str, manifest: Manifest) -> dict[str, Any]:
        verify(self.root / kind / name / manifest["version"], manifest)
        return self._describe(kind, manifest)

    def _describe(self, kind: Kind, manifest: Manifest) -> dict[str, Any]:
        """Return the fields of the FilesVersion or ModelVersion that a manifest describes."""
        described = {
            "name": manifest["name"],
            "version": manifest["version"],
            "path": self.root / kind / manifest["name"] / manifest["version"],
            "created_at": time_of(manifest["version"]),
            "metadata": manifest["metadata"],
        }
        return described | ({"metrics": manifest["metrics"]} if "metrics" in manifest else {})

    # --------------------------------------------------- writing and reading

    def _copy(self, source: Path, target: Path) -> tuple[int, str]:
        """Copy a file piece by piece. Returns its size in bytes and its sha256."""
        size, sha256 = 0, hashlib.sha256()
        with source.open("rb") as reader:
            try:
                with self._create(target) as writer:
                    while piece := reader.read(PIECE_BYTES):
                        writer.write(piece)
                        sha256.update(piece)
                        size += len(piece)
                    writer.flush()
                    os.fsync(writer.fileno())
            except OSError as error:
                raise self._not_writable(target, error) from error
        return size, sha256.hexdigest()

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        try:
            with self._create(path) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._not_writable(path, error) from error

    def _create(self, path: Path) -> BinaryIO:
        """Open a new file for writing, its folders made where needed."""
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
        except OSError as error:
            raise self._not_writable(path, error) from error

    def _not_writable(self, path: Path, error: OSError) -> NotWritable:
        full = error.errno == errno.ENOSPC
        fix = "Free some space" if full else "Choose a folder that you may write to"
        return NotWritable(
            f"Cannot write {path}: {error.strerror}. {fix} and run this again; a folder is chosen "
            "with open_store('FOLDER') or the environment variable LABS_STORE."
        )

    def _write_manifest(self, path: Path, manifest: Manifest) -> None:
        self._write(path, manifest_text(manifest))

    def _manifest(self, path: Path) -> Manifest | None:
        """Return a complete manifest, None for one that is absent or was cut short while written."""
        if path not in self._complete:
            try:
                text = path.read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise Damaged(f"{path} cannot be read: {error.strerror}.") from error
            manifest = parse_manifest(path, text)
            if manifest is None and text.endswith(b"\n"):
                raise damaged(path, "is damaged")
            if manifest is None:
                return None
            self._complete[path] = manifest
        return self._complete[path]


def _regular_files(folder: Path) -> list[Path]:
    """Return the files in a folder and the folders in it, in order; none where it is absent.

    Raises StoreError, which names it, for a link or anything else that is neither file nor folder,
    and for a folder that cannot be read: nothing is left out silently.
    """
    found: list[Path] = []
    for path in sorted(_list(folder)):
        if not path.is_symlink() and path.is_dir():
            found += _regular_files(path)
        elif path.is_symlink() or not path.is_file():
            what = "a link" if path.is_symlink() else "neither a file nor a folder"
            raise StoreError(
                f"{path} is {what}, which a store cannot keep. Put a copy of what it shows in its "
                "place (cp -RL copies a folder so), or remove it."
            )
        else:
            found.append(path)
    return found


def _list(folder: Path) -> list[Path]:
    """Return what is in a folder; nothing where there is no such folder."""
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror}.") from error


def _commits(folder: Path) -> list[Path]:
    """Return the committed and uncommitted versions or manifests in a folder, oldest first."""
    return sorted(path for path in _list(folder) if is_commit(path))


def _overlaps(manifest: Manifest, since: datetime | None, until: datetime | None) -> bool:
    """Return whether a commit may hold rows with since <= event time < until."""
    starts = until is None or datetime.fromisoformat(manifest["from"]) < until
    return starts and (since is None or datetime.fromisoformat(manifest["to"]) >= since)
