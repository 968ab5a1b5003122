"""The store in a Hopsworks project, through its client, version 5 (written for 5.2.1).

    feature group NAME, version V               every insert of rows, never overwritten
    Resources/ml-labs/files/NAME/VERSION/       a version of files, with its manifest.json
    model NAME, a running number                a model's files, with their manifest.json

**Rows.** Hopsworks itself replaces a row only where key *and* event time agree, and only Spark can
read a group as it was earlier. So a group has one more column, `ingested_us` (microseconds since
1970, UTC), as part of its primary key: every insert stays, reading takes the newest row of each
key, and `as_of` takes the newest of those ingested until then, by the writing machine's clock.
Rows that others write into the group without that column cannot be read.

**Versions** have the same ids and manifests as in a folder. They are first written to a folder on
this machine (the cache, ~/.cache/ml-labs/hopsworks/PROJECT), then uploaded. A version that is
opened is downloaded there once and verified against its manifest. Files are uploaded beside their
place and then moved there together, so a version that is listed is complete.

Nothing here prompts: a missing key is reported before the client is even imported.
"""

from __future__ import annotations

import functools
import json
import logging
import math
import operator
import os
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pandas as pd

from labstore.contract import (
    Contents,
    Damaged,
    FeatureGroup,
    FilesVersion,
    InvalidRows,
    Kind,
    Model,
    ModelVersion,
    NotFound,
    StoreError,
    check_name,
    is_name,
)
from labstore.environment import secret
from labstore.files import FileStore
from labstore.rows import INGESTED, aware, drop_superseded, in_order, newest_rows, valid_rows
from labstore.versions import (
    Manifest,
    best_version,
    is_commit,
    is_version,
    no_such_name,
    no_such_version,
    read_manifest,
    verify,
)

STAMP = "ingested_us"
ROOT = "Resources/ml-labs"
MARK = "ml-labs"  # opens the description of each group that this store made
TYPES = {  # a column's dtype in a schema -> its type in Hopsworks
    "str": "string",
    "float64": "double",
    "float32": "float",
    "int64": "bigint",
    "int32": "int",
    "bool": "boolean",
    "datetime64[us, UTC]": "timestamp",
}
PAGE_ENTRIES = 1000  # of a folder's listing in one answer
WAIT_SECONDS = 10
MAX_WAIT_SECONDS = 3600
MAX_QUOTED_CHARS = 300  # of the client's own error message


def connect(project: str = "") -> HopsworksStore:
    """Log in to a project with the key in the environment, and return it as a store.

    HOPSWORKS_API_KEY is needed outside Hopsworks, HOPSWORKS_PROJECT where no project is given,
    and HOPSWORKS_HOST for a cluster other than the public one. Raises StoreError, which names the
    variables that are missing.
    """
    project = project or os.environ.get("HOPSWORKS_PROJECT", "")
    key = (secret("HOPSWORKS_API_KEY") or "").strip()
    missing = [] if project else ["HOPSWORKS_PROJECT (or the address 'hopsworks:PROJECT')"]
    if not key and "REST_ENDPOINT" not in os.environ:  # set in Hopsworks' own jobs, which need none
        missing.append(
            "HOPSWORKS_API_KEY (made under Account settings, API keys; in Colab under Secrets)"
        )
    if missing:
        raise StoreError(
            f"Hopsworks cannot be reached without {' and '.join(missing)}: set it in the "
            "environment. A project on another cluster than the public one needs HOPSWORKS_HOST as "
            "well. docs/hopsworks.md has the steps."
        )
    client = _client()
    host = os.environ.get("HOPSWORKS_HOST", "").removeprefix("https://").rstrip("/")
    with _asking(f"open the project {project!r}"):
        # The client (seen with hopsworks 5.2.1) prefers a key that an earlier login left in
        # .hw_api_key over the environment's, and prompts for a missing key or project. A key and a
        # project passed here prevent both.
        opened = client.login(
            host=host or None, project=project, api_key_value=key or None, engine="python"
        )
    if opened is None or opened.name.lower() != project.lower():
        name = "none" if opened is None else repr(opened.name)
        raise StoreError(
            f"Hopsworks opened the project {name}, not {project!r}. A job that runs in Hopsworks can "
            "only open its own project: use that name in the address."
        )
    return HopsworksStore(opened, Path.home() / ".cache/ml-labs/hopsworks" / opened.name)


class HopsworksStore:
    """A store in one project; see the module's docstring. `connect` opens it."""

    def __init__(self, project: Any, cache: Path):
        self._project = project
        self._cache = cache

    @property
    def _local(self) -> FileStore:
        """The cache, opened anew each time: it may be removed at any time."""
        return FileStore(self._cache)

    def __repr__(self) -> str:
        return f"hopsworks:{self._project.name}"

    @functools.cached_property
    def _features(self) -> Any:
        with _asking("open the feature store"):
            return self._project.get_feature_store()

    @functools.cached_property
    def _registry(self) -> Any:
        with _asking("open the model registry"):
            return self._project.get_model_registry()

    @functools.cached_property
    def _datasets(self) -> Any:
        with _asking("open the datasets"):
            return self._project.get_dataset_api()

    # ------------------------------------------------------------------ rows

    def insert(self, group: FeatureGroup, rows: pd.DataFrame) -> None:
        """Append the rows with their ingest time, in DELTA format or else in HUDI format."""
        names = _names(group)
        rows = valid_rows(group, rows)
        if rows.empty:
            return
        stored = self._find(group)
        rows = rows.rename(columns=names)
        rows[STAMP] = self._next_stamp(stored)
        try:
            self._write(stored or self._create(group, "DELTA"), rows)
        except Exception as error:
            if not _is_delta_refusal(error):
                raise
            self._drop_empty_delta(group)
            self._write(self._create(group, "HUDI"), rows)

    def _find(self, group: FeatureGroup) -> Any | None:
        """Return the group in Hopsworks, None where there is none.

        Raises StoreError where its columns are not those that the group declares.
        """
        check_name(group.name)
        with _asking(f"look up {group.label}"):
            try:
                stored = self._features.get_feature_group(group.name, version=group.version)
            except Exception as error:
                if "exists in shared store" not in str(error):
                    raise
                return None  # a group of that name in another project's store, not in ours
        if stored is None:
            return None
        found = {feature.name: feature.type for feature in stored.features}
        names = _names(group)
        wanted = {names[c]: TYPES[str(s.dtype)] for c, s in group.schema.columns.items()}
        keys = {names[group.primary_key], STAMP}
        if found != wanted | {STAMP: "bigint"} or set(stored.primary_key) != keys:
            raise StoreError(
                f"{self} holds other columns than {group.label} declares. Give the changed group a "
                "new version number in its schema.py."
            )
        return stored

    def _create(self, group: FeatureGroup, time_travel: str) -> Any:
        """Return a new group, which Hopsworks registers at its first insert.

        Without statistics: they would cost a job for each insert.
        """
        names = _names(group)
        with _asking(f"create {group.label}"):
            return self._features.get_or_create_feature_group(
                group.name,
                version=group.version,
                description=f"{MARK}: every insert is kept; of a key, the newest {STAMP} counts",
                primary_key=[names[group.primary_key], STAMP],
                event_time=names[group.event_time],
                online_enabled=False,
                time_travel_format=time_travel,
                statistics_config=False,
            )

    def _write(self, stored: Any, rows: pd.DataFrame) -> None:
        with _asking(f"insert {len(rows)} rows into {stored.name}"):
            # No row is ever updated, so there is nothing to merge: "insert" appends.
            job, _ = stored.insert(
                rows,
                operation="insert",
                write_options={"start_offline_materialization": False},
                validation_options={"run_validation": False, "schema_validation": False},
            )
            if job is not None:  # HUDI: a job in the cluster makes the rows readable
                _materialize(job)

    def _drop_empty_delta(self, group: FeatureGroup) -> None:
        """Remove the group that the client registered before it failed to write to it.

        Raises StoreError where the group holds rows already, written from inside the cluster.
        """
        with _asking(f"look up {group.label}"):
            left = self._features.get_feature_group(group.name, version=group.version)
            if left is None or left.time_travel_format != "DELTA":
                return
            if left.commit_details(limit=1):
                raise StoreError(
                    f"{group.label} was written from inside the cluster, in the DELTA format, which "
                    "this machine cannot write: the cluster has no load balancers for its data and "
                    "name nodes. Run this as a job in Hopsworks, or ask its administrator to set "
                    "them up."
                )
            left.delete()

    def _next_stamp(self, stored: Any | None) -> int:
        """Return the time now in microseconds or, if later, just after the newest insert's.

        So an update is newer than what it updates even where the clock was set back.
        """
        now = _micros(datetime.now(UTC))
        if stored is None:
            return now
        later = self._query(stored, [STAMP], [stored.get_feature(STAMP) >= now])[STAMP]
        return max(now, int(later.max()) + 1) if len(later) else now

    def read(
        self,
        group: FeatureGroup,
        since: datetime | None = None,
        until: datetime | None = None,
        as_of: datetime | None = None,
    ) -> pd.DataFrame:
        """Return the newest row of each key, from a query of the window and of later inserts."""
        since, until, as_of = map(aware, (since, until, as_of), ("since", "until", "as_of"))
        names, stored = _names(group), self._find(group)
        if stored is None:
            return group.empty()
        stamp, event_time = stored.get_feature(STAMP), stored.get_feature(names[group.event_time])
        shown = [] if as_of is None else [stamp <= _micros(as_of)]
        window = list(shown)
        if since is not None:
            window.append(event_time >= since)
        if until is not None:  # the client cuts times to whole seconds
            window.append(event_time < until + timedelta(seconds=1))
        found = self._query(stored, [*names.values(), STAMP], window)
        if found.empty:
            return group.empty()
        rows = newest_rows(_as_declared(group, found), group.primary_key)
        if since is not None or until is not None:
            later = [*shown, stamp > int(rows[INGESTED].min())]
            inserted = self._query(stored, [names[group.primary_key], STAMP], later)
            inserted.columns = [group.primary_key, INGESTED]
            rows = drop_superseded(rows, inserted.astype({INGESTED: "int64"}), group.primary_key)
            rows = rows[_inside(rows[group.event_time], since, until)]
        return in_order(group, rows)

    def _query(self, stored: Any, names: list[str], conditions: list[Any]) -> pd.DataFrame:
        """Return columns of the rows that meet all conditions, in no order.

        By a query, since the group's own `read` (seen with hopsworks 5.2.1) returns only the rows
        of the job's own time range when it is called in a scheduled job.
        """
        with _asking(f"read {stored.name}"):
            try:
                query = stored.select(names)
                if conditions:
                    query = query.filter(functools.reduce(operator.and_, conditions))
                return query.read(dataframe_type="pandas")[names]
            except Exception:
                if stored.commit_details(limit=1):
                    raise
                return pd.DataFrame(columns=names)  # registered, but never written to

    def feature_view(self, group: FeatureGroup, labels: Sequence[str] = ()) -> Any:
        """Return Hopsworks' feature view of a stored group, made if needed, for training there.

        Its data hold every insert; `newest` keeps the last of each key. The client returns labels
        separately in `view.training_data(primary_key=True, event_time=True)`, and leaves them out
        of `view.get_batch_data`. Raises NotFound for a group without rows.
        """
        names, stored = _names(group), self._find(group)
        if stored is None:
            raise NotFound(f"{self} holds no {group.label} yet: insert its rows first.")
        label_names = [names[label] for label in labels]
        with _asking(f"make a feature view of {group.label}"):
            return self._features.get_or_create_feature_view(
                group.name,
                query=stored.select([*names.values(), STAMP]),
                version=group.version,
                description=f"{MARK}: {group.label} with every insert",
                labels=label_names,
            )

    # ------------------------------------------------------ files and models

    def save_files(self, name: str, folder: Path, metadata: dict[str, Any]) -> FilesVersion:
        """Write the version to the cache, then upload it."""
        check_name(name)
        after = max(self.list_files(name), default=None)
        saved = self._local.save_files(name, folder, metadata, after)
        self._send("files", saved.path)
        return saved

    def open_files(self, name: str, version: str = "latest") -> FilesVersion:
        """Return a version of a folder, downloaded once and verified."""
        version = self._pick("files", name, version, self.list_files(name))
        return self._open("files", name, version, lambda: self._local.open_files(name, version))

    def list_files(self, name: str) -> list[str]:
        """Return the ids of a folder's versions, oldest first, including damaged ones."""
        return self._versions_in(f"{ROOT}/files/{check_name(name)}")

    def prune_files(self, name: str, keep: int) -> None:
        """Remove all but the newest `keep` (1 or more) versions, and older unfinished uploads."""
        kept = self.list_files(name)[-keep:]
        for home in (f"{ROOT}/files/{name}", f"{ROOT}/uploads/{name}"):
            for version in self._versions_in(home):
                if kept and version < kept[-1] and version not in kept:
                    with _asking(f"remove {home}/{version}"):
                        self._datasets.remove(f"{home}/{version}")
                    self._local.remove("files", name, version)

    def save_model(
        self, model: Model, folder: Path, metrics: dict[str, float], metadata: dict[str, Any]
    ) -> ModelVersion:
        """Write the version to the cache, then register it."""
        check_name(model.name)
        after = max(self._models(model.name), default=None)
        saved = self._local.save_model(model, folder, metrics, metadata, after)
        self._send("models", saved.path)
        return saved

    def load_model(self, model: Model, version: str = "best") -> ModelVersion:
        """Return a registered version, downloaded once and verified."""
        models = self._models(check_name(model.name))
        if version == "best" and models:
            # The registry's own get_best_model does not prefer real data, nor the newest of equals.
            version = best_version(model, [_summary(v, m, model.metric) for v, m in models.items()])
        version = self._pick("models", model.name, version, sorted(models))
        return self._open(
            "models", model.name, version, lambda: self._local.load_model(model, version)
        )

    def _models(self, name: str) -> dict[str, Any]:
        """Return the registry's models of that name that this store made, by their ids."""
        with _asking(f"look up the model {name}"):
            found = self._registry.get_models(name) or []
        return {id_: model for model in found if (id_ := _described(model).get("version"))}

    def _pick(self, kind: Kind, name: str, version: str, versions: list[str]) -> str:
        """Return the id of one of the versions. Raises NotFound with those that there are."""
        if not versions:
            folder = f"{ROOT}/files" if kind == "files" else "Models"
            raise no_such_name(kind, name, repr(self), sorted(self._list(folder)))
        if version == "latest":
            return versions[-1]
        if version not in versions:
            raise no_such_version(kind, name, version, versions)
        return version

    def _open(self, kind: Kind, name: str, version: str, open_local: Callable[[], Any]) -> Any:
        """Open a version in the cache, downloaded first where it is absent or damaged there."""
        with suppress(NotFound, Damaged):
            return open_local()
        self._local.remove(kind, name, version)
        with self.lend(kind, name, version) as folder:
            self._local.adopt(kind, folder)
        return open_local()

    def verify(self, prefix: str = "") -> int:
        """Return 0: the cluster checks its own blocks, and each version is verified when opened."""
        return 0

    def free_bytes(self) -> int | None:
        """Return None: the store does not know the project's quota."""
        return None

    # ---------------------------------------------------- from store to store

    def contents(self) -> Contents:
        """Return the names and versions of everything that this store keeps in the project."""
        with _asking("list the feature groups"):
            groups = self._features.get_feature_groups()
        home = f"{ROOT}/files"
        files = {name: self.list_files(name) for name in self._list(home) if is_name(name)}
        models = {n: sorted(self._models(n)) for n in self._list("Models") if is_name(n)}
        return Contents(
            groups=sorted(
                f"{g.name} v{g.version}" for g in groups if str(g.description).startswith(MARK)
            ),
            files={name: files[name] for name in sorted(files) if files[name]},
            models={name: models[name] for name in sorted(models) if models[name]},
        )

    @contextmanager
    def lend(self, kind: Kind, name: str, version: str) -> Iterator[Path]:
        """Download a version, verify every file, and remove the folder when the context ends."""
        self._local.root.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=self._local.root, prefix="download-") as home:
            folder = Path(home) / version
            folder.mkdir()
            if kind == "models":
                self._download_model(name, version, folder)
            else:
                self._download_files(name, version, folder)
            verify(folder, read_manifest(folder))
            yield folder

    def _download_model(self, name: str, version: str, folder: Path) -> None:
        models = self._models(name)
        self._pick("models", name, version, sorted(models))
        with _asking(f"download the model {name} {version}"):
            models[version].download(str(folder))

    def _download_files(self, name: str, version: str, folder: Path) -> None:
        home = f"{ROOT}/files/{name}/{version}"
        with _asking(f"download files/{name}/{version}"):
            self._datasets.download(f"{home}/manifest.json", str(folder / "manifest.json"))
        for inside in read_manifest(folder)["files"]:
            (folder / inside).parent.mkdir(parents=True, exist_ok=True)
            with _asking(f"download {inside} of files/{name}/{version}"):
                self._datasets.download(f"{home}/{inside}", str(folder / inside))

    def adopt(self, kind: Kind, folder: Path) -> bool:
        """Upload another store's version under its own id, its manifest as it is.

        Returns False where that version is here already.
        """
        manifest = read_manifest(folder)
        name = check_name(manifest["name"])
        there = self._models(name) if kind == "models" else self.list_files(name)
        if manifest["version"] in there:
            return False
        self._upload(kind, Path(folder), manifest)
        return True

    def _send(self, kind: Kind, folder: Path) -> None:
        """Upload a version of the cache. Where that fails, the version is removed there too."""
        manifest = read_manifest(folder)
        try:
            self._upload(kind, folder, manifest)
        except BaseException:
            self._local.remove(kind, manifest["name"], manifest["version"])
            raise

    def _upload(self, kind: Kind, folder: Path, manifest: Manifest) -> None:
        name, version = manifest["name"], manifest["version"]
        if kind == "models":
            self._register(folder, manifest)
            return
        home, unfinished = f"{ROOT}/files/{name}", f"{ROOT}/uploads/{name}"
        self._make_folder(home)
        self._make_folder(unfinished)
        with _asking(f"upload files/{name}/{version}"):
            self._datasets.upload(str(folder), unfinished, overwrite=True)
            self._datasets.move(f"{unfinished}/{version}", f"{home}/{version}")

    def _register(self, folder: Path, manifest: Manifest) -> None:
        _check_downloadable(folder)
        name, version = manifest["name"], manifest["version"]
        # One listing shows the descriptions of all versions, so they hold the id and what `best`
        # needs besides the metric.
        words = {"version": version, "real": manifest["metadata"].get("data") == "real"}
        finite = {m: float(v) for m, v in manifest["metrics"].items() if math.isfinite(v)}
        with _asking(f"register the model {name}"):
            model = self._registry.python.create_model(
                name, metrics=finite, description=json.dumps({MARK: words})
            )
            # Otherwise the client (seen with hopsworks 5.2.1) moves files that lie on hopsfs.
            model.save(str(folder), keep_original_files=True)

    # -------------------------------------------------------------- datasets

    def _versions_in(self, folder: str) -> list[str]:
        return sorted(name for name in self._list(folder) if is_commit(Path(name)))

    def _list(self, folder: str) -> list[str]:
        """Return the names in a folder; none where there is no such folder."""
        with _asking(f"list {folder}"):
            if not self._exists(folder):
                return []
            found = page = self._datasets.list(folder, limit=PAGE_ENTRIES)
            while len(page) == PAGE_ENTRIES:
                page = self._datasets.list(folder, offset=len(found), limit=PAGE_ENTRIES)
                found = found + page
            return [path.rstrip("/").rpartition("/")[2] for path in found]

    def _exists(self, path: str) -> bool:
        """Return whether a file or folder exists.

        The client (seen with hopsworks 5.2.1) answers False to any failed request as well, so a
        False counts only if "Resources", which every project has, is found. Raises StoreError
        where it is not.
        """
        if self._datasets.exists(path):
            return True
        if not self._datasets.exists("Resources"):
            raise StoreError(
                f"{self} does not show even its data set Resources: the project is not reachable, or "
                "the key lacks the dataset scopes. Try again, or make a key with all scopes."
            )
        return False

    def _make_folder(self, path: str) -> None:
        parts = path.split("/")
        for depth in range(2, len(parts) + 1):
            folder = "/".join(parts[:depth])
            with _asking(f"make {folder}"):
                try:
                    if not self._exists(folder):
                        self._datasets.mkdir(folder)
                except StoreError:
                    raise
                except Exception:  # another writer may have made it in between
                    if not self._exists(folder):
                        raise


def newest(group: FeatureGroup, rows: pd.DataFrame) -> pd.DataFrame:
    """Return the row of each key that was ingested last.

    `rows` are a feature view's data with all columns, as Hopsworks returns them.
    """
    return in_order(group, newest_rows(_as_declared(group, rows), group.primary_key))


def _as_declared(group: FeatureGroup, rows: pd.DataFrame) -> pd.DataFrame:
    """Return rows of Hopsworks with the declared names, aware times, and INGESTED."""
    back = {stored: name for name, stored in _names(group).items()} | {STAMP: INGESTED}
    rows = rows[list(back)].rename(columns=back)
    for name, dtype in group.dtypes.items():
        if isinstance(dtype, pd.DatetimeTZDtype):
            rows[name] = pd.to_datetime(rows[name], utc=True).astype(dtype)
    return rows.astype({INGESTED: "int64"})


def _names(group: FeatureGroup) -> dict[str, str]:
    """Return each column's name in Hopsworks, where names are in lower case.

    Raises StoreError where two names would become one, InvalidRows for a type it does not know.
    """
    check_name(group.name)
    names = {name: name.lower().replace(" ", "_") for name in group.columns}
    twins = [n for n in group.columns if list(names.values()).count(names[n]) > 1]
    if twins or STAMP in names.values():
        raise StoreError(
            f"In Hopsworks the columns {', '.join(twins) or STAMP} of {group.label} would have the "
            f"same name: its names are in lower case, and {STAMP} is the store's own column. Rename "
            "them in the lab's schema.py."
        )
    for name, column in group.schema.columns.items():
        if str(column.dtype) not in TYPES:
            raise InvalidRows(
                f"{name} of {group.label} is of type {column.dtype}, which the Hopsworks store does "
                f"not know. Choose one of: {', '.join(TYPES)}."
            )
    return names


def _inside(times: pd.Series, since: datetime | None, until: datetime | None) -> pd.Series:
    """Return whether since <= time < until, for each time."""
    inside = pd.Series(True, index=times.index)
    if since is not None:
        inside &= times >= since
    if until is not None:
        inside &= times < until
    return inside


def _micros(moment: datetime) -> int:
    """Return a time as microseconds since 1970, UTC."""
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _is_delta_refusal(error: Exception) -> bool:
    """Return whether the client cannot write DELTA from here: no library, or no data nodes in reach."""
    message = str(error.__cause__ or error).lower()
    return "delta library is not installed" in message or "load balancer" in message


def _materialize(job: Any) -> None:
    """Run the job that makes sent rows readable, and wait for its end. Raises where it fails.

    While a run for another insert goes on, the client starts none and returns None. That run may
    have begun before our rows were sent, so a run of our own is needed.
    """
    end = time.monotonic() + MAX_WAIT_SECONDS
    while job.run(await_termination=True) is None:
        if time.monotonic() > end:
            raise StoreError(
                f"The job {job.name} has been busy for an hour. Look at it under Jobs in the "
                "project, stop it if it hangs, and insert again."
            )
        time.sleep(WAIT_SECONDS)


def _described(model: Any) -> dict[str, Any]:
    """Return what `_register` wrote into a model's description; nothing for other people's models."""
    try:  # a description that is absent, or anything that other people write there
        words = json.loads(model.description)[MARK]
        version = words["version"]
    except (TypeError, ValueError, KeyError):
        return {}
    return words if isinstance(version, str) and is_version(version) else {}


def _summary(version: str, found: Any, metric: str) -> dict[str, Any]:
    """Return the parts of a manifest that `best_version` needs, from one of the registry's models.

    The client (seen with hopsworks 5.2.1) changes the names it gets back (coverage_90 becomes
    coverage__90), and figures may be text.
    """
    figures = {_plain(name): value for name, value in (found.training_metrics or {}).items()}
    value = figures.get(_plain(metric))
    metrics = {} if value is None else {metric: float(value)}
    real = "real" if _described(found).get("real") else None
    return {"version": version, "metrics": metrics, "metadata": {"data": real}}


def _plain(name: str) -> str:
    """Return a metric's name without what the client may change in it."""
    return name.replace("_", "").lower()


def _check_downloadable(folder: Path) -> None:
    """Raise StoreError for files that the registry accepts and its download then leaves out."""
    for inside in [folder, *folder.rglob("*")]:
        if inside.is_dir() and (
            inside.name == "Artifacts" or len(list(inside.iterdir())) > PAGE_ENTRIES
        ):
            raise StoreError(
                f"Hopsworks' registry would not return the folder {inside.name} of the model: a "
                f"folder must not be called Artifacts, nor hold more than {PAGE_ENTRIES} files."
            )


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """Raise the client's many kinds of error as a StoreError that names the request.

    Wraps requests to the client only, so that an error of our own code is not reported as one of
    Hopsworks.
    """
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:MAX_QUOTED_CHARS].rstrip(".")
        raise StoreError(
            f"Hopsworks could not {what}: {words or type(error).__name__}. Try again; if it happens "
            "again, check HOPSWORKS_HOST, the scopes of the key in HOPSWORKS_API_KEY and the "
            "project's members, or see docs/hopsworks.md."
        ) from error


def _client() -> Any:
    """Import the client, here only: it takes seconds, and changes the logging of the process.

    Raises StoreError with the package to install.
    """
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        import hopsworks
    except ImportError as error:
        raise StoreError(
            f"The Hopsworks client is not installed ({error}). Run: pip install 'ml-labs[hopsworks]'"
        ) from error
    finally:
        root.setLevel(level)
        for handler in [h for h in root.handlers if h not in handlers]:
            root.removeHandler(handler)
    return hopsworks
