"""The store as a folder, on a local disk or on a mounted Google Drive.

    groups/<name>_v<version>/<commit>.parquet    rows, never changed afterwards
                             <commit>.json       its manifest, written last: the commit
    files/<name>/<commit>/...  manifest.json
    models/<name>/<commit>/... manifest.json

A commit's name is its UTC time and a random part, so names sort by age and never collide.
There are no locks, links or renames, since a mounted Drive has none to rely on: a file is
written once, then its manifest. What has no complete manifest is uncommitted and ignored;
what has one must be there, with the same checksum, or reading stops with `Damaged`.

Each manifest names the ones before it that nothing else names yet (`parents`, as commits do in
git), so that one that gets lost is missed. Once a group has many small files, an insert merges
them into one that `replaces` them; the old ones stay for time travel.
"""

from __future__ import annotations

import errno
import hashlib
import io
import itertools
import json
import math
import os
import platform
import re
import shutil
import subprocess
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from importlib import metadata as installed
from pathlib import Path, PurePosixPath
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq

from labstore.contract import (
    Contents,
    Damaged,
    FeatureGroup,
    FilesVersion,
    Model,
    ModelVersion,
    NotFound,
    NotWritable,
    StoreError,
    check_name,
)

INGESTED = "_ingested_at"
MERGE_AFTER = 32  # small files of a group before an insert merges them
SMALL_ROWS = 50_000  # files with more rows are left as they are
STAMP = "%Y%m%dT%H%M%S%fZ"


class FileStore:
    """A store in one folder; see the module's text for its layout. Safe for many writers."""

    def __init__(self, root: str | Path):
        self.root = Path(root)
        self._complete: dict[Path, dict[str, Any]] = {}  # manifests never change: read once

    def __repr__(self) -> str:
        return f"FileStore({str(self.root)!r})"

    # ------------------------------------------------------------------ rows

    def insert(self, group: FeatureGroup, rows: pd.DataFrame) -> None:
        rows = group.validate(rows)
        if rows.empty:
            return
        live = self._live(group)
        small = [m for m in live if m["rows"] < SMALL_ROWS]
        if len(small) >= MERGE_AFTER:
            live = [m for m in live if m not in small] + [self._merge(group, small, live)]
        stamp = _next_stamp(m["name"] for m in live)
        self._commit_rows(group, rows.assign(**{INGESTED: stamp}), stamp, live, replaces=[])

    def read(
        self,
        group: FeatureGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
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
        self, group: FeatureGroup, rows: pd.DataFrame, live: list[dict]
    ) -> pd.DataFrame:
        """Drop rows whose newer version lies outside the window that was read."""
        key, oldest = group.primary_key, rows[INGESTED].min()
        later = [m for m in live if time_of(m["name"]) > oldest]
        if rows.empty or not later:
            return rows
        return drop_superseded(rows, self._load(group, later, columns=[key, INGESTED]), key)

    def _live(self, group: FeatureGroup, as_of: datetime | None = None) -> list[dict[str, Any]]:
        """The manifests, newest first, that together hold the group's rows."""
        folder = self._group_folder(group)
        names = sorted((p.stem for p in _list(folder) if is_commit(p)), reverse=True)
        shown = [name for name in names if as_of is None or time_of(name) <= as_of]
        live, replaced = [], set()
        for name in shown:
            if name not in replaced and (manifest := self._manifest(folder / f"{name}.json")):
                live.append(manifest)
                replaced.update(manifest["replaces"])
        # Commits after `as_of` are not shown, but they name what must be there before it.
        newer = names[: len(names) - len(shown)]
        later = [m for name in newer if (m := self._manifest(folder / f"{name}.json"))]
        self._add_unlisted_parents(folder, live, later, replaced, as_of)
        for manifest in live:
            if manifest["schema"] != group.fingerprint:
                raise StoreError(
                    f"{folder / manifest['name']}.json holds other columns than {group.label} "
                    "declares. Give the changed group a new version number in its schema.py."
                )
        return live

    def _add_unlisted_parents(
        self,
        folder: Path,
        live: list[dict],
        later: list[dict],
        replaced: set[str],
        as_of: datetime | None,
    ) -> None:
        """A listing taken while others write can miss a file older than one it shows."""
        known = {m["name"] for m in live} | replaced
        for manifest in itertools.chain(later, live):  # live grows while it is walked
            for parent in manifest["parents"]:
                if parent in known or (as_of and time_of(parent) > as_of):
                    continue
                path = folder / f"{parent}.json"
                found = self._manifest(path)
                if found is None:
                    raise _damaged(path, f"(before {manifest['name']}) is missing or cut short")
                known.add(parent)
                live.append(found)

    def _load(
        self,
        group: FeatureGroup,
        manifests: list[dict[str, Any]],
        since: datetime | None = None,
        until: datetime | None = None,
        columns: list[str] | None = None,
    ) -> pd.DataFrame:
        """Rows of several commits, oldest first, each file verified."""
        columns = columns or [*group.columns, INGESTED]
        keep = None
        if since is not None:
            keep = pc.field(group.event_time) >= pa.scalar(since)
        if until is not None:
            before = pc.field(group.event_time) < pa.scalar(until)
            keep = before if keep is None else keep & before
        tables = []
        for manifest in sorted(manifests, key=lambda m: m["name"]):
            data = _verified(self._group_folder(group) / f"{manifest['name']}.parquet", manifest)
            tables.append(pq.read_table(io.BytesIO(data), columns=columns, filters=keep))
        if not tables:
            return pd.DataFrame(columns=columns)
        return pa.concat_tables(tables).to_pandas()

    def _merge(self, group: FeatureGroup, small: list[dict], live: list[dict]) -> dict[str, Any]:
        """One commit that holds the newest rows of many small ones, and replaces them."""
        rows = newest_rows(self._load(group, small), group.primary_key)
        replaces = sorted({m["name"] for m in small}.union(*(m["replaces"] for m in small)))
        return self._commit_rows(group, rows, _next_stamp(m["name"] for m in live), live, replaces)

    def _commit_rows(
        self,
        group: FeatureGroup,
        rows: pd.DataFrame,
        stamp: datetime,
        live: list[dict[str, Any]],
        replaces: list[str],
    ) -> dict[str, Any]:
        """Write a Parquet file, then the manifest that makes it count."""
        sink = io.BytesIO()
        table = pa.Table.from_pandas(rows, preserve_index=False).sort_by(_order(group))
        pq.write_table(table, sink, compression="zstd", row_group_size=65_536)
        folder, name = self._group_folder(group), _commit_name(stamp)
        staying = [m for m in live if m["name"] not in replaces]
        older = {parent for m in staying for parent in m["parents"]}
        manifest = {
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
        """`after`: a version kept elsewhere, behind which the new one is to sort."""
        return FilesVersion(**self._save("files", name, folder, {"metadata": metadata}, after))

    def open_files(self, name: str, version: str = "latest") -> FilesVersion:
        return FilesVersion(**self._open("files", name, self._pick("files", name, version)))

    def list_files(self, name: str) -> list[str]:
        folders = sorted(p for p in _list(self.root / "files" / check_name(name)) if is_commit(p))
        return [p.name for p in folders if self._is_committed(p)]

    def prune_files(self, name: str, keep: int) -> None:
        kept = self.list_files(name)[-keep:]
        for folder in _list(self.root / "files" / check_name(name)):
            # what is uncommitted was left by a writer that died: there is only one at a time
            if is_commit(folder) and folder.name not in kept:
                self.remove("files", name, folder.name)

    def remove(self, kind: str, name: str, version: str) -> None:
        """Remove a version of "files" or "models", or what is there of it."""
        folder = self.root / kind / check_name(name) / version
        self._complete.pop(folder / "manifest.json", None)
        (folder / "manifest.json").unlink(missing_ok=True)  # first: now it is uncommitted
        for file in filter(Path.is_file, folder.rglob("*")):
            os.truncate(file, 0)  # Drive keeps what is removed in a trash that fills it
        shutil.rmtree(folder, ignore_errors=True)

    def _is_committed(self, version: Path) -> bool:
        try:
            return self._manifest(version / "manifest.json") is not None
        except Damaged:  # opening it will say so
            return True

    def save_model(
        self,
        model: Model,
        folder: Path,
        metrics: dict[str, float],
        metadata: dict[str, Any],
        after: str | None = None,
    ) -> ModelVersion:
        """`after`: a version kept elsewhere, behind which the new one is to sort."""
        if model.metric not in metrics:
            raise StoreError(
                f"A version of {model.name} needs the metric {model.metric!r}, which decides "
                f"which is best; got {', '.join(metrics) or 'none'}."
            )
        if not math.isfinite(metrics[model.metric]):
            raise StoreError(
                f"{model.name}: {model.metric} is {metrics[model.metric]}, so it cannot be compared."
            )
        metadata = {**metadata, "libraries": _libraries(), "git_commit": _git_commit()}
        extra = {"metrics": metrics, "metadata": metadata}
        return ModelVersion(**self._save("models", model.name, folder, extra, after))

    def load_model(self, model: Model, version: str = "best") -> ModelVersion:
        if version == "best":
            version = best_version(model, self._versions("models", model.name))
        chosen = self._pick("models", model.name, version)
        return ModelVersion(**self._open("models", model.name, chosen))

    # ---------------------------------------------------- from store to store

    def contents(self) -> Contents:
        """What is kept here, for copying it elsewhere."""
        groups = [p for p in _list(self.root / "groups") if any(map(is_commit, _list(p)))]
        return Contents(
            groups=sorted(re.sub(r"_v(\d+)$", r" v\1", p.name) for p in groups),
            files={name: ids for name, ids in self._ids("files").items() if ids},
            models={name: ids for name, ids in self._ids("models").items() if ids},
        )

    def _ids(self, kind: str) -> dict[str, list[str]]:
        names = sorted(p.name for p in _list(self.root / kind) if p.is_dir())
        folders = {n: sorted(filter(is_commit, _list(self.root / kind / n))) for n in names}
        return {
            name: [p.name for p in found if self._manifest(p / "manifest.json")]
            for name, found in folders.items()
        }

    @contextmanager
    def lend(self, kind: str, name: str, version: str) -> Iterator[Path]:
        """The folder of a version with its manifest, every file verified."""
        manifest = self._pick(kind, name, version)
        self._open(kind, name, manifest)
        yield self.root / kind / name / manifest["version"]

    def adopt(self, kind: str, folder: Path) -> bool:
        """Keep another store's version, lent as a folder, under its own id; False if it is here."""
        manifest = read_manifest(folder)
        home = self.root / kind / check_name(manifest["name"]) / manifest["version"]
        if self._manifest(home / "manifest.json"):
            return False
        self.remove(kind, manifest["name"], manifest["version"])  # what a killed copy left
        for inside, facts in manifest["files"].items():
            _, sha256 = self._copy(Path(folder) / inside, home / inside)
            if sha256 != facts["sha256"]:
                raise _damaged(Path(folder) / inside, "is damaged")
        self._write_manifest(home / "manifest.json", manifest)
        return True

    # ------------------------------------------------------- versions inside

    def _save(
        self, kind: str, name: str, folder: Path, extra: dict[str, Any], after: str | None = None
    ) -> dict[str, Any]:
        """Copy a folder's files into a new version, its manifest last."""
        folder, extra = Path(folder), json.loads(json.dumps(extra))
        if (folder / "manifest.json").exists():
            raise StoreError(
                f"{folder} holds a manifest.json, the name of the store's own list of files. "
                "Rename it, or copy the other files to a new folder first."
            )
        files = sorted(p for p in folder.rglob("*") if p.is_file())
        if not files:
            raise StoreError(f"There are no files in {folder} to keep as {kind}/{name}.")
        home = self.root / kind / check_name(name)
        known = [p.name for p in _list(home) if is_commit(p)] + ([after] if after else [])
        version = _commit_name(_next_stamp(known))
        sums = {}
        for file in files:
            inside = file.relative_to(folder).as_posix()
            size, sha256 = self._copy(file, home / version / inside)
            sums[inside] = {"bytes": size, "sha256": sha256}
        manifest = {"name": name, "version": version, "files": sums, **extra}
        self._write_manifest(home / version / "manifest.json", manifest)
        return self._describe(kind, manifest)

    def _versions(self, kind: str, name: str) -> list[dict[str, Any]]:
        """The manifests of all committed versions, oldest first; NotFound when there are none."""
        home = self.root / kind / check_name(name)
        folders = sorted(p for p in _list(home) if is_commit(p))
        versions = [m for p in folders if (m := self._manifest(p / "manifest.json"))]
        if not versions:
            others = sorted(p.name for p in _list(self.root / kind) if p.is_dir())
            raise no_such_name(kind, name, str(self.root), others)
        return versions

    def _pick(self, kind: str, name: str, version: str) -> dict[str, Any]:
        home = self.root / kind / check_name(name)
        if version == "latest":
            newest_first = sorted((p for p in _list(home) if is_commit(p)), reverse=True)
            found = (self._manifest(p / "manifest.json") for p in newest_first)
            if newest := next(filter(None, found), None):
                return newest
        elif is_commit(Path(version)) and (
            found := self._manifest(home / version / "manifest.json")
        ):
            return found  # whatever the others are like
        versions = self._versions(kind, name)
        raise no_such_version(kind, name, version, [m["version"] for m in versions])

    def _open(self, kind: str, name: str, manifest: dict[str, Any]) -> dict[str, Any]:
        verify(self.root / kind / name / manifest["version"], manifest)
        return self._describe(kind, manifest)

    def _describe(self, kind: str, manifest: dict[str, Any]) -> dict[str, Any]:
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
        """Copy a file piece by piece; its bytes and sha256."""
        size, sha256 = 0, hashlib.sha256()
        with source.open("rb") as reader:
            try:
                with self._create(target) as writer:
                    while piece := reader.read(1 << 20):
                        writer.write(piece)
                        sha256.update(piece)
                        size += len(piece)
                    writer.flush()
                    os.fsync(writer.fileno())
            except OSError as error:
                raise self._not_writable(target, error) from None
        return size, sha256.hexdigest()

    def _write(self, path: Path, data: bytes | memoryview) -> None:
        try:
            with self._create(path) as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise self._not_writable(path, error) from None

    def _create(self, path: Path):
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            return path.open("xb")
        except OSError as error:
            raise self._not_writable(path, error) from None

    def _not_writable(self, path: Path, error: OSError) -> NotWritable:
        full = error.errno == errno.ENOSPC
        fix = "Free some space" if full else "Choose a folder that you may write to"
        return NotWritable(
            f"Cannot write {path}: {error.strerror}. {fix} and run this again; a folder is chosen "
            "with open_store('FOLDER') or the environment variable LABS_STORE."
        )

    def _write_manifest(self, path: Path, manifest: dict[str, Any]) -> None:
        text = json.dumps(manifest | {"manifest_sha256": _sum(manifest)}) + "\n"
        self._write(path, text.encode())

    def _manifest(self, path: Path) -> dict[str, Any] | None:
        """A complete manifest, or None for one that is absent or was cut short while written."""
        if path not in self._complete:
            try:
                text = path.read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise Damaged(f"{path} cannot be read: {error.strerror}.") from None
            manifest = _parse(text)
            if manifest is None and text.endswith(b"\n"):
                raise _damaged(path, "is damaged")
            if manifest is None:
                return None
            self._complete[path] = manifest
        return self._complete[path]


def read_manifest(folder: Path) -> dict[str, Any]:
    """The manifest of a version's folder. Raises Damaged for one that is not as it was written."""
    path = Path(folder) / "manifest.json"
    try:
        manifest = _parse(path.read_bytes())
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from None
    if manifest is None:
        raise _damaged(path, "is damaged")
    if not is_commit(Path(manifest["version"])) or "/" in manifest["version"]:
        raise _damaged(path, f"calls itself {manifest['version']!r}, which is no version")
    check_paths(path, manifest)
    return manifest


def check_paths(path: Path, manifest: dict[str, Any]) -> None:
    """Damaged where a manifest (that of the path) names a file outside its own folder."""
    for inside in manifest["files"]:
        if PurePosixPath(inside).is_absolute() or ".." in PurePosixPath(inside).parts:
            raise _damaged(path, f"names {inside!r}, outside its folder")


def verify(folder: Path, manifest: dict[str, Any]) -> None:
    """Every file of a version, against its manifest. Raises Damaged naming the first that differs."""
    check_paths(folder / "manifest.json", manifest)
    for inside, facts in manifest["files"].items():
        _verify(folder / inside, facts)


def _parse(text: bytes) -> dict[str, Any] | None:
    """The manifest that a text begins with, None where its checksum does not hold."""
    try:
        manifest, _ = json.JSONDecoder().raw_decode(text.decode(errors="replace"))
        if manifest.pop("manifest_sha256") == _sum(manifest):
            return manifest
    except (ValueError, KeyError, AttributeError):
        pass
    return None


def _sum(manifest: dict[str, Any]) -> str:
    return hashlib.sha256(json.dumps(manifest, sort_keys=True).encode()).hexdigest()


def _verified(path: Path, facts: dict[str, Any]) -> bytes:
    """The bytes of a committed file, checked against its manifest."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from None
    if hashlib.sha256(data).hexdigest() != facts["sha256"]:
        raise _damaged(path, "is damaged")
    return data


def _verify(path: Path, facts: dict[str, Any]) -> None:
    """The same check for a file too large to hold in memory."""
    try:
        with path.open("rb") as file:
            sha256 = hashlib.file_digest(file, "sha256").hexdigest()
    except OSError as error:
        raise _damaged(path, f"cannot be read ({error.strerror})") from None
    if sha256 != facts["sha256"]:
        raise _damaged(path, "is damaged")


def _damaged(path: Path, what: str) -> Damaged:
    return Damaged(
        f"{path} {what}, but it was committed with another content. On Google Drive it may still be "
        "on its way: wait a minute and try again. Else restore it from a backup, or, if it belongs to "
        "a model's version, delete that version's folder and run the training notebook again."
    )


def _list(folder: Path) -> list[Path]:
    try:
        return list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise StoreError(f"{folder} cannot be read: {error.strerror}.") from None


def best_version(model: Model, versions: list[dict[str, Any]]) -> str:
    """The id of the best of several manifests by the model's metric; of equals the newest."""
    versions = [m for m in versions if model.metric in m["metrics"]]
    if not versions:
        raise NotFound(f"No version of {model.name} has the metric {model.metric!r}.")
    sign = 1 if model.direction == "max" else -1
    best = max(  # a score on the offline sample is no match for one on real data
        versions,
        key=lambda m: (
            m["metadata"].get("data") == "real",
            sign * m["metrics"][model.metric],
            m["version"],
        ),
    )
    return best["version"]


def no_such_name(kind: str, name: str, store: str, others: list[str]) -> NotFound:
    """The error that names what there is instead, and the next step."""
    return NotFound(
        f"There is no {name!r} among the {kind} of the store {store} "
        f"(there: {', '.join(others) or 'nothing yet'}). Run the lab's notebooks "
        "in order on this store (make notebooks), or open another store."
    )


def no_such_version(kind: str, name: str, version: str, versions: list[str]) -> NotFound:
    """The error that names the newest versions there are."""
    known = [*(["best"] if kind == "models" else []), "latest", *versions[-5:]]
    return NotFound(f"{kind}/{name} has no version {version!r}. Choose one of: {', '.join(known)}.")


def is_commit(path: Path) -> bool:
    """A manifest of rows or a version's folder; not Drive's copies such as 'name (1).json'."""
    return re.fullmatch(r"\d{8}T\d{12}Z-[0-9a-f]{8}(\.json)?", path.name) is not None


def _commit_name(stamp: datetime) -> str:
    return f"{stamp.strftime(STAMP)}-{uuid.uuid4().hex[:8]}"


def time_of(name: str) -> datetime:
    """When a commit or version of that name was made, in UTC."""
    return datetime.strptime(name.partition("-")[0], STAMP).replace(tzinfo=UTC)


def _next_stamp(names: Any) -> datetime:
    """Now, or just after the newest name there is: a clock set back must not lose updates."""
    latest = max((time_of(name) for name in names), default=datetime.min.replace(tzinfo=UTC))
    return max(datetime.now(UTC), latest + timedelta(microseconds=1))


def _order(group: FeatureGroup) -> list[tuple[str, str]]:
    """How rows are sorted, in Arrow's form: there it is ten times faster than in pandas."""
    return [(group.event_time, "ascending"), (group.primary_key, "ascending")]


def in_order(group: FeatureGroup, rows: pd.DataFrame) -> pd.DataFrame:
    """The group's columns and dtypes, ordered by (event time, key)."""
    keys = pa.Table.from_pandas(rows[[group.event_time, group.primary_key]])
    rows = rows.take(pc.sort_indices(keys, sort_keys=_order(group)).to_numpy())
    return rows[group.columns].astype(group.dtypes).reset_index(drop=True)


def newest_rows(rows: pd.DataFrame, key: str) -> pd.DataFrame:
    """Of each key the row that was ingested last."""
    return rows.sort_values(INGESTED, kind="stable").drop_duplicates(key, keep="last")


def drop_superseded(rows: pd.DataFrame, inserted: pd.DataFrame, key: str) -> pd.DataFrame:
    """The rows without those whose key was inserted again later."""
    latest = inserted.groupby(key)[INGESTED].max()
    return rows[~(rows[key].map(latest) > rows[INGESTED])]


def _overlaps(manifest: dict[str, Any], since: datetime | None, until: datetime | None) -> bool:
    starts = until is None or datetime.fromisoformat(manifest["from"]) < until
    return starts and (since is None or datetime.fromisoformat(manifest["to"]) >= since)


def aware(time: datetime | None, name: str) -> datetime | None:
    """The time in UTC. Raises StoreError, which names the argument, for one without a zone."""
    if time is not None and getattr(time, "tzinfo", None) is None:
        raise StoreError(f"{name} must carry a time zone, e.g. datetime(2026, 1, 31, tzinfo=UTC).")
    return None if time is None else time.astimezone(UTC)


def _libraries() -> dict[str, str]:
    """Versions of what can change a model's predictions, where installed."""
    names = ["scikit-learn", "numpy", "pandas", "skops", "torch", "transformers"]
    versions = {"python": platform.python_version()}
    for name in names:
        try:
            versions[name] = installed.version(name)
        except installed.PackageNotFoundError:
            continue
    return versions


def _git_commit() -> str | None:
    """The commit of the code that runs, None outside a checkout."""
    try:
        here = Path(__file__).parent
        command = ["git", "rev-parse", "HEAD"]
        answer = subprocess.run(
            command, cwd=here, capture_output=True, text=True, timeout=5, check=False
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return answer.stdout.strip() or None if answer.returncode == 0 else None
