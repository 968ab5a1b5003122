"""The store as a project in Hopsworks, by its client, version 5.

    feature group NAME, version V               every insert of rows, never overwritten
    Resources/ml-labs/files/NAME/VERSION/       a version of files, with its manifest.json
    model NAME, a running number                a model's files, with their manifest.json

**Rows.** Hopsworks itself replaces a row only where key *and* event time agree, and shows a group
as it once was to Spark alone. So a group has one more column, `ingested_us` (microseconds since
1970, UTC), as a part of its primary key: every insert stays, reading takes the newest of each
key, and `as_of` takes the newest of those ingested until then, as this machine's clock told it.
What somebody else writes into the group without that column cannot be read.

**Versions** have the same ids and manifests as in a folder. They are written to a folder of this
machine first (the cache, ~/.cache/ml-labs/hopsworks/PROJECT), then uploaded; what is opened is
downloaded there once and verified against its manifest. Files are uploaded beside their place and
moved there whole, so a version that is listed is complete.

Nothing here prompts: a missing key is named before the client is even imported.
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

from labstore import secret
from labstore.contract import (
    Contents,
    Damaged,
    FeatureGroup,
    FilesVersion,
    InvalidRows,
    Model,
    ModelVersion,
    NotFound,
    StoreError,
    check_name,
    is_name,
)
from labstore.files import (
    INGESTED,
    FileStore,
    aware,
    best_version,
    drop_superseded,
    in_order,
    is_commit,
    newest_rows,
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
PAGE = 1000  # entries of a folder in one answer
WAIT_SECONDS, WAIT_AT_MOST = 10, 3600


def connect(project: str = "") -> HopsworksStore:
    """Log in to a project with the key in the environment. Raises StoreError naming what is missing.

    HOPSWORKS_API_KEY is needed outside of Hopsworks, HOPSWORKS_PROJECT where no project is given,
    HOPSWORKS_HOST unless it is the public Hopsworks.
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
            f"Hopsworks is not reached without {' and '.join(missing)}: set it in the environment. "
            "A project elsewhere than on the public Hopsworks needs HOPSWORKS_HOST as well. "
            "docs/hopsworks.md tells how."
        )
    client = _client()
    host = os.environ.get("HOPSWORKS_HOST", "").removeprefix("https://").rstrip("/")
    with _asking(f"open the project {project!r}"):
        # A key given here goes before one that an earlier login left in .hw_api_key, and with key
        # and project there is nothing left to prompt for.
        opened = client.login(
            host=host or None, project=project, api_key_value=key or None, engine="python"
        )
    if opened is None or opened.name.lower() != project.lower():
        name = "none" if opened is None else repr(opened.name)
        raise StoreError(
            f"Hopsworks opened the project {name}, not {project!r}. A job of Hopsworks always gets "
            "its own project: name that one in the address."
        )
    return HopsworksStore(opened, Path.home() / ".cache/ml-labs/hopsworks" / opened.name)


class HopsworksStore:
    """A store in one project; see the module's text. `connect` makes it."""

    def __init__(self, project: Any, cache: Path):
        self._project = project
        self._local = FileStore(cache)

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
        names = _names(group)
        rows = group.validate(rows)
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
        """The group in Hopsworks, None where there is none; its columns are those declared."""
        check_name(group.name)
        with _asking(f"look up {group.label}"):
            try:
                stored = self._features.get_feature_group(group.name, version=group.version)
            except Exception as error:
                if "exists in shared store" not in str(error):
                    raise
                return None  # another project's group of that name, which is none of ours
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
        """A group that comes to be with its first insert. Statistics would cost a job each time."""
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
        """Remove the group that the client has registered before it failed to write to it."""
        with _asking(f"look up {group.label}"):
            left = self._features.get_feature_group(group.name, version=group.version)
            if left is None or left.time_travel_format != "DELTA":
                return
            if left.commit_details(limit=1):
                raise StoreError(
                    f"{group.label} was written from inside the cluster, in the DELTA format, which "
                    "this machine cannot write: the cluster has no load balancers for its data and "
                    "name nodes. Run this as a job in Hopsworks, or ask its administrator for them."
                )
            left.delete()

    def _next_stamp(self, stored: Any | None) -> int:
        """Now, or just after the newest there is: a clock set back must not lose updates."""
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
        """Columns of the rows that meet all conditions, in no order.

        As a query and not by the group's `read`, which in a scheduled job of Hopsworks shows the
        rows of that job's hour alone, unasked.
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
                return pd.DataFrame(columns=names)  # registered, but nothing was ever written to it

    def feature_view(self, group: FeatureGroup, labels: Sequence[str] = ()) -> Any:
        """Hopsworks' feature view of a stored group, for training there; made if it is not there yet.

        Its data hold every insert, of which `newest` keeps each key's last. The client returns
        labels apart from the rest in `view.training_data(primary_key=True, event_time=True)`, and
        not at all in `view.get_batch_data`.
        """
        names, stored = _names(group), self._find(group)
        if stored is None:
            raise NotFound(f"{self} holds no {group.label} yet: insert its rows first.")
        with _asking(f"make a feature view of {group.label}"):
            return self._features.get_or_create_feature_view(
                group.name,
                query=stored.select([*names.values(), STAMP]),
                version=group.version,
                description=f"{MARK}: {group.label} with every insert",
                labels=[names[label] for label in labels],
            )

    # ------------------------------------------------------ files and models

    def save_files(self, name: str, folder: Path, metadata: dict[str, Any]) -> FilesVersion:
        check_name(name)
        after = (self.list_files(name) or [None])[-1]
        saved = self._local.save_files(name, folder, metadata, after)
        self._send("files", saved.path)
        return saved

    def open_files(self, name: str, version: str = "latest") -> FilesVersion:
        version = self._pick("files", name, version, self.list_files(name))
        return self._open("files", name, version, lambda: self._local.open_files(name, version))

    def list_files(self, name: str) -> list[str]:
        return self._versions_in(f"{ROOT}/files/{check_name(name)}")

    def prune_files(self, name: str, keep: int) -> None:
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
        check_name(model.name)
        after = max(self._models(model.name), default=None)
        saved = self._local.save_model(model, folder, metrics, metadata, after)
        self._send("models", saved.path)
        return saved

    def load_model(self, model: Model, version: str = "best") -> ModelVersion:
        models = self._models(check_name(model.name))
        if version == "best" and models:
            # Not by the registry's own get_best_model: it knows nothing of real data, nor of ties.
            version = best_version(model, [_summary(v, m, model.metric) for v, m in models.items()])
        version = self._pick("models", model.name, version, sorted(models))
        return self._open(
            "models", model.name, version, lambda: self._local.load_model(model, version)
        )

    def _models(self, name: str) -> dict[str, Any]:
        """The registry's models of that name that this store made, by their ids."""
        with _asking(f"look up the model {name}"):
            found = self._registry.get_models(name) or []
        return {id_: model for model in found if (id_ := _described(model).get("version"))}

    def _pick(self, kind: str, name: str, version: str, versions: list[str]) -> str:
        if not versions:
            folder = f"{ROOT}/files" if kind == "files" else "Models"
            raise no_such_name(kind, name, repr(self), sorted(self._list(folder)))
        if version == "latest":
            return versions[-1]
        if version not in versions:
            raise no_such_version(kind, name, version, versions)
        return version

    def _open(self, kind: str, name: str, version: str, open_local: Callable[[], Any]) -> Any:
        """A version out of the cache, downloaded first where it is not there or not whole."""
        with suppress(NotFound, Damaged):
            return open_local()
        self._local.remove(kind, name, version)
        with self.lend(kind, name, version) as folder:
            self._local.adopt(kind, folder)
        return open_local()

    # ---------------------------------------------------- from store to store

    def contents(self) -> Contents:
        """What is kept here by this store, for copying it elsewhere."""
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
    def lend(self, kind: str, name: str, version: str) -> Iterator[Path]:
        """A version just downloaded, with its manifest, every file verified; gone afterwards."""
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

    def adopt(self, kind: str, folder: Path) -> bool:
        """Keep another store's version, lent as a folder, under its own id; False if it is here."""
        manifest = read_manifest(folder)
        name = check_name(manifest["name"])
        there = self._models(name) if kind == "models" else self.list_files(name)
        if manifest["version"] in there:
            return False
        self._upload(kind, Path(folder), manifest)
        return True

    def _send(self, kind: str, folder: Path) -> None:
        """Upload a version of the cache; where that fails, it is not kept there either."""
        manifest = read_manifest(folder)
        try:
            self._upload(kind, folder, manifest)
        except BaseException:
            self._local.remove(kind, manifest["name"], manifest["version"])
            raise

    def _upload(self, kind: str, folder: Path, manifest: dict[str, Any]) -> None:
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

    def _register(self, folder: Path, manifest: dict[str, Any]) -> None:
        _check_downloadable(folder)
        name, version = manifest["name"], manifest["version"]
        # The id and what `best` has to know, where one listing shows them for all versions.
        words = {"version": version, "real": manifest["metadata"].get("data") == "real"}
        finite = {m: float(v) for m, v in manifest["metrics"].items() if math.isfinite(v)}
        with _asking(f"register the model {name}"):
            model = self._registry.python.create_model(
                name, metrics=finite, description=json.dumps({MARK: words})
            )
            # On a drive of Hopsworks itself the client would move the files otherwise.
            model.save(str(folder), keep_original_files=True)

    # -------------------------------------------------------------- datasets

    def _versions_in(self, folder: str) -> list[str]:
        return sorted(name for name in self._list(folder) if is_commit(Path(name)))

    def _list(self, folder: str) -> list[str]:
        """The names in a folder; none where there is no such folder."""
        with _asking(f"list {folder}"):
            if not self._exists(folder):
                return []
            found = page = self._datasets.list(folder, limit=PAGE)
            while len(page) == PAGE:
                page = self._datasets.list(folder, offset=len(found), limit=PAGE)
                found = found + page
            return [path.rstrip("/").rpartition("/")[2] for path in found]

    def _exists(self, path: str) -> bool:
        """The client says "no" to any failed request, so ask for what every project has, too."""
        if self._datasets.exists(path):
            return True
        if not self._datasets.exists("Resources"):
            raise StoreError(
                f"{self} does not show even its data set Resources: it is not reachable, or the key "
                "lacks the dataset scopes. Try again, or make a key with all scopes."
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
    """Of each key the row ingested last, from data that Hopsworks returned with all columns."""
    return in_order(group, newest_rows(_as_declared(group, rows), group.primary_key))


def _as_declared(group: FeatureGroup, rows: pd.DataFrame) -> pd.DataFrame:
    """Rows of Hopsworks with the declared names and aware times, and INGESTED."""
    back = {stored: name for name, stored in _names(group).items()} | {STAMP: INGESTED}
    rows = rows[list(back)].rename(columns=back)
    for name, dtype in group.dtypes.items():
        if isinstance(dtype, pd.DatetimeTZDtype):
            rows[name] = pd.to_datetime(rows[name], utc=True).astype(dtype)
    return rows.astype({INGESTED: "int64"})


def _names(group: FeatureGroup) -> dict[str, str]:
    """Each column's name in Hopsworks, which knows lower case alone."""
    check_name(group.name)
    names = {name: name.lower().replace(" ", "_") for name in group.columns}
    twins = [n for n in group.columns if list(names.values()).count(names[n]) > 1]
    if twins or STAMP in names.values():
        raise StoreError(
            f"In Hopsworks the columns {', '.join(twins) or STAMP} of {group.label} would have the "
            "same name: it tells no upper from lower case, and keeps ingested_us for itself. "
            "Rename them in the lab's schema.py."
        )
    for name, column in group.schema.columns.items():
        if str(column.dtype) not in TYPES:
            raise InvalidRows(
                f"{name} of {group.label} is of type {column.dtype}, which the Hopsworks store does "
                f"not know. Choose one of: {', '.join(TYPES)}."
            )
    return names


def _inside(times: pd.Series, since: datetime | None, until: datetime | None) -> pd.Series:
    inside = pd.Series(True, index=times.index)
    if since is not None:
        inside &= times >= since
    if until is not None:
        inside &= times < until
    return inside


def _micros(moment: datetime) -> int:
    return (moment - datetime(1970, 1, 1, tzinfo=UTC)) // timedelta(microseconds=1)


def _is_delta_refusal(error: Exception) -> bool:
    """Whether the client cannot write DELTA from here: no library, or no way to the data nodes."""
    said = str(error.__cause__ or error).lower()
    return "delta library is not installed" in said or "load balancer" in said


def _materialize(job: Any) -> None:
    """Run the job that makes sent rows readable, to its end. Raises where it fails.

    While another insert's run goes on, the client starts none and returns None. That run may have
    begun before our rows were sent, so only one of our own will do.
    """
    end = time.monotonic() + WAIT_AT_MOST
    while job.run(await_termination=True) is None:
        if time.monotonic() > end:
            raise StoreError(f"The job {job.name} has been busy for an hour: see it there.")
        time.sleep(WAIT_SECONDS)


def _described(model: Any) -> dict[str, Any]:
    """What `_register` has written into a model's description; nothing for other people's models."""
    try:
        words = json.loads(model.description)[MARK]
        own = is_commit(Path(words["version"])) and "/" not in words["version"]
        return words if own else {}
    except (TypeError, ValueError, KeyError):
        return {}


def _summary(version: str, found: Any, metric: str) -> dict[str, Any]:
    """What `best_version` looks at, of one of the registry's models.

    The client respells what it gets back (coverage_90 as coverage__90), and figures may be text.
    """
    figures = {_plain(name): value for name, value in (found.training_metrics or {}).items()}
    value = figures.get(_plain(metric))
    metrics = {} if value is None else {metric: float(value)}
    real = "real" if _described(found).get("real") else None
    return {"version": version, "metrics": metrics, "metadata": {"data": real}}


def _plain(name: str) -> str:
    return name.replace("_", "").lower()


def _check_downloadable(folder: Path) -> None:
    """Refuse what the registry takes and its download then leaves out."""
    for inside in [folder, *folder.rglob("*")]:
        if inside.is_dir() and (inside.name == "Artifacts" or len(list(inside.iterdir())) > PAGE):
            raise StoreError(
                f"The folder {inside.name} of the model is one that Hopsworks' registry does not "
                f"return: it must not be called Artifacts, nor hold more than {PAGE} files."
            )


@contextmanager
def _asking(what: str) -> Iterator[None]:
    """The client's many kinds of error as one that says what was asked of Hopsworks."""
    try:
        yield
    except StoreError:
        raise
    except Exception as error:
        said = " ".join(str(error).split())[:300].rstrip(".") or type(error).__name__
        raise StoreError(
            f"Hopsworks could not {what}: {said}. Try again; if it stays, check HOPSWORKS_HOST, the "
            "key's scopes in HOPSWORKS_API_KEY and the project's members, or see docs/hopsworks.md."
        ) from error


def _client() -> Any:
    """The client, imported here only: it takes seconds, and sets up logging for everybody."""
    root = logging.getLogger()
    level, handlers = root.level, list(root.handlers)
    try:
        import hopsworks
    except ImportError as error:
        raise StoreError(
            f"The Hopsworks client is not installed ({error}). Run: pip install 'ml-labs[hopsworks]'"
        ) from None
    finally:
        root.setLevel(level)
        for handler in [h for h in root.handlers if h not in handlers]:
            root.removeHandler(handler)
    return hopsworks
