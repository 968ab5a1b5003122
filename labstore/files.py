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

import hashlib
import itertools
import json
import math
import re
import shutil
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

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
    StoreError,
    TornManifest,
    check_name,
)
from labstore.disk import Disk, discard, list_folder, regular_files, sync_folder
from labstore.rows import (
    INGESTED,
    arrow_schema,
    as_declared,
    aware,
    drop_superseded,
    facts_in,
    in_order,
    newest_rows,
    to_parquet,
    valid_rows,
    window_filter,
)
from labstore.versions import (
    FORMAT,
    Manifest,
    best_version,
    cannot_read,
    check_place,
    check_rows,
    check_version,
    commit_name,
    commit_of,
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
    verify,
    verify_file,
)

KINDS: tuple[Kind, ...] = ("files", "models")
MERGE_AFTER = 32  # small files of a group before an insert merges them
SMALL_ROWS = 50_000  # files with as many rows or more are left as they are
REPORT_SECONDS = 60  # after which data without a manifest are no longer a commit in progress


class FileStore(Disk):
    """A store in one folder; the module's docstring shows its layout. Safe for many writers."""

    def __init__(self, root: str | Path, mount: str | Path | None = None):
        super().__init__(root, mount)
        self._complete: dict[Path, Manifest] = {}  # manifests never change: read once
        self._reported: set[Path] = set()  # what a warning named already

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
        self._commit_rows(group, rows.assign(**{INGESTED: stamp}), stamp, live, replaced=[])

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
        listed = self._listed(folder)
        names = sorted(listed, reverse=True)
        shown = [name for name in names if as_of is None or time_of(name) <= as_of]
        live: list[Manifest] = []
        replaced: set[str] = set()
        merges: set[str] = set()  # among the replaced; what they replaced themselves is in them
        for name in shown:
            if name in replaced and name not in merges:
                continue
            if live and _is_left_over(listed[name], name, live[0]["name"]):
                continue
            if manifest := self._commit(group, name, listed[name]):
                live += [] if name in replaced else [manifest]
                replaced.update(manifest["replaces"])
                merges.update(manifest.get("merges", []))
        # Commits after `as_of` are not shown, but they name what must be there before it.
        newer = names[: len(names) - len(shown)]
        later = [m for name in newer if (m := self._commit(group, name, listed[name]))]
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

    def _listed(self, folder: Path) -> dict[str, list[Path]]:
        """Return each commit in a group's folder with its files, "NAME (1).json" among them."""
        found: dict[str, list[Path]] = {}
        for path in sorted(self._list(folder), key=lambda path: len(path.name)):
            if name := commit_of(path.name):
                found.setdefault(name, []).append(path)
        return found

    def _commit(
        self, group: FeatureGroup, name: str, listed: Sequence[Path] = ()
    ) -> Manifest | None:
        """Return the manifest of one of the group's commits, None where there is no whole one.

        A second file of that name counts where Drive shows the manifest only so. Of one that is
        torn, the Parquet file gives the facts, with a warning.
        """
        torn = None
        own = self._group_folder(group) / f"{name}.json"
        for path in [path for path in listed if path.suffix == ".json"] or [own]:
            manifest = self._manifest(path)
            if manifest is not None:
                torn = torn or path
            if manifest:
                check_rows(path, manifest, name, group.label)
                return manifest
        return self._without_manifest(group, own.with_suffix(".parquet"), torn)

    def _without_manifest(
        self, group: FeatureGroup, data: Path, torn: Path | None
    ) -> Manifest | None:
        """Return the facts of a commit whose manifest is torn; None without any, or whole data."""
        if torn is None and (data in self._reported or _is_recent(data.stem)):
            return None
        if data not in self._complete:
            try:
                facts = facts_in(group, data, data.read_bytes())
            except FileNotFoundError:
                facts = None
            except OSError as error:
                raise cannot_read(data, error) from error
            self._report_torn(data, torn, facts)
            if torn is None or facts is None:
                return None
            check_rows(data, facts, data.stem, group.label)
            self._complete[data] = facts
        return self._complete[data]

    def _report_torn(self, data: Path, torn: Path | None, facts: Manifest | None) -> None:
        """Warn, once, of a manifest that is torn, or absent beside whole rows."""
        if data in self._reported:
            return
        self._reported.add(data)
        if torn is not None and facts is not None:
            _warn(f"{torn} is cut short; its rows were read from {data.name}, which is whole.")
        elif torn is not None:
            _warn(
                f"{torn} is cut short, and {data.name} is missing or cut short as well: its rows are "
                "not read. Insert them again."
            )
        elif facts is not None and facts["name"] == data.stem:
            _warn(
                f"{data} has no manifest: its writer was stopped before it finished, or the manifest "
                "was lost. Its rows are not read. Insert them again, or restore the manifest."
            )

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
            path = self._group_folder(group) / f"{manifest['name']}.parquet"
            self._verify(path, manifest["sha256"])
            try:
                table = pq.read_table(
                    path, columns=schema.names, filters=keep, partitioning=None, memory_map=False
                )
                tables.append(as_declared(table, schema))
            except OSError as error:
                raise cannot_read(path, error) from error
            except (pa.ArrowException, KeyError) as error:
                raise damaged(path, f"holds no rows of {group.label} ({error})") from error
        return pa.concat_tables(tables or [schema.empty_table()]).to_pandas()

    def _merge(self, group: FeatureGroup, small: list[Manifest], live: list[Manifest]) -> Manifest:
        """Write one commit that holds the newest rows of many small ones, and replaces them."""
        rows = newest_rows(self._load(group, small), group.primary_key)
        return self._commit_rows(group, rows, next_stamp(m["name"] for m in live), live, small)

    def _commit_rows(
        self,
        group: FeatureGroup,
        rows: pd.DataFrame,
        stamp: datetime,
        live: list[Manifest],
        replaced: list[Manifest],
    ) -> Manifest:
        """Write a Parquet file, then the manifest that commits it."""
        path = self._group_folder(group) / f"{commit_name(stamp)}.parquet"
        replaces = sorted(m["name"] for m in replaced)
        older = {parent for m in live if m["name"] not in replaces for parent in m["parents"]}
        facts = {
            "format": FORMAT,
            "name": path.stem,
            "group": group.label,
            "schema": group.fingerprint,
            "rows": len(rows),
            "from": rows[group.event_time].min().isoformat(),
            "to": rows[group.event_time].max().isoformat(),
            "parents": sorted({m["name"] for m in live} - older),
            "replaces": replaces,
            "merges": sorted(m["name"] for m in replaced if m["replaces"]),
        }
        data = to_parquet(group, rows, manifest_text(facts))
        manifest = facts | {"bytes": data.nbytes, "sha256": hashlib.sha256(data).hexdigest()}
        try:
            self._write(path, data)
            self._write_manifest(path.with_suffix(".json"), manifest)
        except StoreError:
            discard(path.with_suffix(".json"))  # first: uncommitted from here on
            discard(path)
            raise
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
        folders = self._commits(self.root / "files" / check_name(name))
        return [p.name for p in folders if self._is_committed(p)]

    def prune_files(self, name: str, keep: int) -> None:
        """Remove all but the newest `keep` (1 or more) versions, and what killed writers left.

        Only what is older than the newest version: what is newer may be on its way to Drive.
        """
        if keep < 1:
            raise StoreError(f"keep is {keep}, but must be 1 or more.")
        kept = self.list_files(name)[-keep:]
        for folder in self._commits(self.root / "files" / check_name(name)):
            # An uncommitted one was left by a killed writer: there is only one writer at a time.
            if kept and folder.name < kept[-1] and folder.name not in kept:
                self.remove("files", name, folder.name)

    def remove(self, kind: Kind, name: str, version: str) -> None:
        """Remove a version, or whatever part of it is there; never what a link leads to."""
        folder = self.root / kind / check_name(name) / version
        self._complete.pop(folder / "manifest.json", None)
        if not folder.is_symlink():
            discard(folder / "manifest.json")  # first: uncommitted from here on
        discard(folder)

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
        groups = [
            p for p in self._list(self.root / "groups") if any(map(is_commit, list_folder(p)))
        ]
        return Contents(
            groups=sorted(map(_group_label, groups)),
            files={name: ids for name, ids in self._ids("files").items() if ids},
            models={name: ids for name, ids in self._ids("models").items() if ids},
        )

    def _ids(self, kind: Kind) -> dict[str, list[str]]:
        folders = {name: self._commits(self.root / kind / name) for name in self._names(kind)}
        return {
            name: [p.name for p in found if self._version(kind, p)]
            for name, found in folders.items()
        }

    def _names(self, kind: Kind) -> list[str]:
        return sorted(p.name for p in self._list(self.root / kind) if p.is_dir())

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
        with self._removed_on_failure(home):
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
        files = regular_files(folder)
        if not files:
            raise StoreError(f"There are no files in {folder} to keep as {kind}/{name}.")
        home = self.root / kind / check_name(name)
        known = [p.name for p in self._commits(home)] + ([after] if after else [])
        version = commit_name(next_stamp(known))
        sums = {}
        with self._removed_on_failure(home / version):
            for file in files:
                inside = file.relative_to(folder).as_posix()
                size, sha256 = self._copy(file, home / version / inside)
                sums[inside] = {"bytes": size, "sha256": sha256}
            manifest = {"format": FORMAT, "name": name, "version": version, "files": sums, **extra}
            self._write_manifest(home / version / "manifest.json", manifest)
        return self._describe(kind, manifest)

    @contextmanager
    def _removed_on_failure(self, version: Path) -> Iterator[None]:
        """Remove what was written of a version that could not be written whole: a disk may be full."""
        try:
            yield
        except (StoreError, OSError):
            discard(version / "manifest.json")
            discard(version)
            raise

    def _versions(self, kind: Kind, name: str) -> list[Manifest]:
        """Return the manifests of all committed versions, oldest first.

        Raises NotFound where there are none.
        """
        folders = self._commits(self.root / kind / check_name(name))
        versions = [m for p in folders if (m := self._version(kind, p))]
        if not versions:
            raise no_such_name(kind, name, str(self.root), self._names(kind))
        return versions

    def _pick(self, kind: Kind, name: str, version: str) -> Manifest:
        """Return one version's manifest. Raises NotFound with the versions that there are."""
        home = self.root / kind / check_name(name)
        chosen = []
        if version == "latest":
            chosen = [path.name for path in reversed(self._commits(home))]
        elif is_version(version):
            chosen = [version]  # opens even where other versions are damaged
        for candidate in chosen:
            if manifest := self._version(kind, home / candidate):
                return manifest
        versions = self._versions(kind, name)
        raise no_such_version(kind, name, version, [m["version"] for m in versions])

    def _version(self, kind: Kind, folder: Path) -> Manifest | None:
        """Return the manifest of a version's folder, None where there is no whole one.

        A second file of that name counts where Drive shows the manifest only so. What is there
        without a whole manifest is reported by a warning.
        """
        path = folder / "manifest.json"
        manifest = self._manifest(path)
        if not manifest:
            inside = list_folder(folder)
            copies = sorted(p for p in inside if re.fullmatch(r"manifest \(\d+\)\.json", p.name))
            whole = [(copy, found) for copy in copies if (found := self._manifest(copy))]
            if not whole:
                torn = path if manifest is not None else next(iter(copies), None)
                self._report_version(folder, torn, inside)
                return None
            path, manifest = whole[0]
        check_version(path, manifest)
        check_place(path, manifest, kind)
        return manifest

    def _report_version(self, folder: Path, torn: Path | None, inside: list[Path]) -> None:
        """Warn, once, of a version whose manifest is torn, or absent a minute after it began."""
        if folder in self._reported or (torn is None and (not inside or _is_recent(folder.name))):
            return
        self._reported.add(folder)
        what = f"{torn} is cut short" if torn else f"{folder} has no manifest.json"
        _warn(
            f"{what}: its writer was stopped before it finished, or the manifest was lost. The version "
            "is not opened. Save it again, or restore the manifest."
        )

    def _open(self, kind: Kind, name: str, manifest: Manifest) -> dict[str, Any]:
        folder = self.root / kind / name / manifest["version"]
        for inside, facts in manifest["files"].items():
            self._verify(folder / inside, facts["sha256"])
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

    # --------------------------------------------------- manifests and checksums

    def verify(self, prefix: str = "") -> int:
        """Check every committed file anew, of the names that begin with `prefix`.

        Returns how many files are whole. Raises Damaged naming the first that is not.
        """
        self._complete.clear()
        count = 0
        for kind in KINDS:
            for name, ids in self._ids(kind).items():
                for id_ in ids if name.startswith(prefix) else []:
                    count += self._verify_version(kind, self.root / kind / name / id_)
        for folder in sorted(self._list(self.root / "groups")):
            count += self._verify_group(folder) if folder.name.startswith(prefix) else 0
        return count

    def _verify_version(self, kind: Kind, folder: Path) -> int:
        manifest = self._version(kind, folder)
        if manifest is None:
            return 0
        verify(folder, manifest, anew=True)
        return len(manifest["files"])

    def _verify_group(self, folder: Path) -> int:
        """Check all commits of a group, replaced ones too, and that none before them is lost."""
        listed, count = self._listed(folder), 0
        for name, paths in listed.items():
            found = ((p, m) for p in paths if p.suffix == ".json" and (m := self._manifest(p)))
            path, manifest = next(found, (folder, None))
            if manifest is None:
                continue  # uncommitted, or torn: reading its group reports that
            check_rows(path, manifest, name, _group_label(folder))
            if lost := [parent for parent in manifest["parents"] if parent not in listed]:
                raise damaged(folder / f"{lost[0]}.json", f"(before {name}) is missing")
            verify_file(folder / f"{name}.parquet", manifest["sha256"], anew=True)
            count += 1
        return count

    def _verify(self, path: Path, sha256: str) -> None:
        try:
            verify_file(path, sha256)
        except Damaged:
            self._reach()  # a file that is missing with the whole Drive is not damaged
            raise

    def _write_manifest(self, path: Path, manifest: Manifest) -> None:
        try:
            sync_folder(path.parent)  # what it commits is there before it
            self._write(path, manifest_text(manifest))
            sync_folder(path.parent)
        except OSError as error:
            raise self._not_writable(path, error) from error

    def _manifest(self, path: Path) -> Manifest | None:
        """Return a whole manifest, an empty one for one cut short, None where there is none."""
        if path not in self._complete:
            try:
                text = path.read_bytes()
            except FileNotFoundError:
                return None
            except OSError as error:
                raise cannot_read(path, error) from error
            manifest = parse_manifest(path, text)
            if manifest is None and text.endswith(b"\n"):
                raise damaged(path, "is damaged")
            if manifest is None:
                return {}
            self._complete[path] = manifest
        return self._complete[path]

    def _commits(self, folder: Path) -> list[Path]:
        """Return the committed and uncommitted versions in a folder, oldest first."""
        return sorted(path for path in self._list(folder) if is_commit(path))


def _group_label(folder: Path) -> str:
    """Return the label of the group that a folder holds: "wines v1" for wines_v1."""
    return re.sub(r"_v(\d+)$", r" v\1", folder.name)


def _is_left_over(paths: list[Path], name: str, newest: str) -> bool:
    """Return whether a killed writer left a commit without manifest.

    A later commit would name it, had it been committed, and would be missed.
    """
    long_before = (time_of(newest) - time_of(name)).total_seconds() > REPORT_SECONDS
    return long_before and all(path.suffix != ".json" for path in paths)


def _is_recent(name: str) -> bool:
    """Return whether a commit of that name may still be in progress."""
    return (datetime.now(UTC) - time_of(name)).total_seconds() < REPORT_SECONDS


def _warn(message: str) -> None:
    warnings.warn(message, TornManifest, stacklevel=2)


def _overlaps(manifest: Manifest, since: datetime | None, until: datetime | None) -> bool:
    """Return whether a commit may hold rows with since <= event time < until."""
    starts = until is None or datetime.fromisoformat(manifest["from"]) < until
    return starts and (since is None or datetime.fromisoformat(manifest["to"]) >= since)
