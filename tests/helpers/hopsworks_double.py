"""A double of Hopsworks: the real client's classes, autospecced, over a cluster in memory.

Where the client has a function for what it does (changing column names and times, checking schemas,
cutting filters to seconds, changing metric names), that function is called here. The rest is
written after its source, release 5.2.1:

- columns are lower-cased, aware times become naive UTC, and rows and columns come back in any
  order;
- "no version" means version 1;
- a group is registered by its first insert even where writing its DELTA table then fails, as it
  does outside a cluster without load balancers (`outside`);
- a group that was registered but never written to cannot be read; one that exists only in a store
  shared with the project (`shared`) raises an error where other absent groups are None;
- HUDI rows can be read once a job has run that began after they were sent; while the run of
  another writer goes on (`busy`) the client starts none, afterwards the job's state is that
  run's, and a failing job (`failing`) raises an error;
- a feature view returns labels separately in training data, which end now, and leaves them out
  of batch data;
- `exists` is False for whatever fails (`down`); folders are made one by one, listed 1000 at a
  time, and nothing is overwritten unless requested;
- a model's version is a running number; its download leaves out folders called Artifacts;
- a group's own `read` obeys HOPS_START_TIME and HOPS_END_TIME, its end is exclusive, and only
  Spark can read the past.
"""

from __future__ import annotations

import inspect
import json
import random
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from unittest.mock import create_autospec

import hopsworks
import hsfs.util
import hsml.python.signature
import humps
import numpy as np
import pandas as pd
import requests
from hopsworks_common.client.exceptions import (
    DatasetException,
    FeatureStoreException,
    JobException,
    JobExecutionException,
    ModelRegistryException,
    RestAPIError,
)
from hopsworks_common.core.dataset_api import DatasetApi
from hopsworks_common.core.type_systems import _cast_column_to_offline_type
from hopsworks_common.execution import Execution
from hopsworks_common.job import Job
from hopsworks_common.project import Project
from hsfs.constructor.filter import Filter, Logic
from hsfs.constructor.query import Query
from hsfs.core.delta_engine import DeltaEngine
from hsfs.core.schema_validation import DataFrameValidator
from hsfs.engine.python import Engine
from hsfs.feature import Feature
from hsfs.feature_group import FeatureGroup
from hsfs.feature_store import FeatureStore
from hsfs.feature_view import FeatureView
from hsml.model import Model
from hsml.model_registry import ModelRegistry

NO_LOAD_BALANCER = (
    "Failed to write to delta table in external cluster. Make sure datanode load balancer has been "
    "setup on the cluster."
)
COMPARE = {
    Filter.GE: np.greater_equal,
    Filter.GT: np.greater,
    Filter.LE: np.less_equal,
    Filter.LT: np.less,
    Filter.EQ: np.equal,
}


def spec(cls: type, *others: str, **behaviour):
    """An autospec of those attributes of a class's instances that are used here.

    Functions become what its methods do, values its values; `others` get their behaviour later. An
    attribute that the real class lacks raises AttributeError, here or when it is used. An autospec
    of the whole class would cost 20 times as much, and half the CPU time of these tests.
    """
    names = [*others, *behaviour]
    used = type(cls.__name__, (), {name: inspect.getattr_static(cls, name) for name in names})
    double = create_autospec(used, instance=True, spec_set=True)
    for name, value in behaviour.items():
        if callable(value):
            getattr(double, name).side_effect = value
        else:
            setattr(double, name, value)
    return double


def rest_error(status: int, reason: str) -> RestAPIError:
    response = requests.Response()
    response.status_code, response.reason = status, reason
    response._content = json.dumps({"errorMsg": reason}).encode()
    return RestAPIError("url", response)


@dataclass
class Group:
    """What the cluster keeps of a feature group."""

    name: str
    version: int
    description: str
    time_travel_format: str
    primary_key: list[str]
    event_time: str
    features: list[Feature] = field(default_factory=list)
    rows: pd.DataFrame | None = None
    pending: list[pd.DataFrame] = field(default_factory=list)  # sent, but no job has run yet
    last_run: str = ""  # how the job's last run ended
    commits: int = 0


class Cluster:
    """One project. `login` stands for `hopsworks.login`; the module's docstring lists the switches."""

    def __init__(self, project: str = "labs", seed: int = 0):
        self.project_name = project
        self.groups: dict[tuple[str, int], Group] = {}
        self.views: dict[tuple[str, int], dict] = {}
        self.models: dict[tuple[str, int], dict] = {}
        self.files: dict[str, bytes] = {}
        self.folders = {"Resources", "Models"}
        self.shared: set[str] = set()  # names of groups in a store shared with the project
        self.outside = self.failing = self.down = False
        self.busy = 0  # how often a job's state is requested before another run ends
        self.jobs_run = 0
        self.random = random.Random(seed)
        self._handles: dict[int, object] = {}
        self._one_query = spec(Query, "read", "filter")
        self.login = create_autospec(hopsworks.login, side_effect=self._login)

    def state(self) -> tuple:
        """Return everything that is kept, for comparison."""
        groups = {key: (group.commits, len(group.pending)) for key, group in self.groups.items()}
        return groups, dict(self.files), sorted(self.folders), dict(self.models)

    def _login(self, **arguments):
        assert arguments["project"] and arguments["engine"] == "python"
        self._answer()
        return spec(
            Project,
            "get_url",
            name=self.project_name,
            get_feature_store=self._feature_store,
            get_dataset_api=self._dataset_api,
            get_model_registry=self._model_registry,
        )

    def _answer(self) -> None:
        if self.down:
            raise rest_error(503, "Service Unavailable")

    # -------------------------------------------------------- feature groups

    def _feature_store(self, name=None):
        return spec(
            FeatureStore,
            get_feature_group=self._get_group,
            get_feature_groups=self._get_groups,
            get_or_create_feature_group=self._get_or_create_group,
            get_or_create_feature_view=self._get_or_create_view,
        )

    def _get_group(self, name, version=None):
        self._answer()
        group = self.groups.get((name, version or FeatureStore.DEFAULT_VERSION))
        if not group and name in self.shared:
            raise FeatureStoreException(
                f"`{name}` is not in `labs`, but exists in shared store `x`."
            )
        return group and self._handle(group)

    def _get_groups(self, name=None):
        self._answer()
        return [self._handle(g) for g in self.groups.values() if name in (None, g.name)]

    def _get_or_create_group(self, name, version, primary_key, event_time, **more):
        self._answer()
        found = self.groups.get((name, version))
        if found:
            return self._handle(found)  # whatever else was requested
        fix = hsfs.util._autofix_feature_name
        group = Group(
            name=name,
            version=version,
            description=more["description"],
            time_travel_format=more["time_travel_format"] or "DELTA",
            primary_key=[fix(key) for key in primary_key],
            event_time=fix(event_time),
        )
        return self._handle(group)

    def _handle(self, group: Group):
        """The client's object of a group; one of each is enough, since making an autospec is slow."""
        if id(group) not in self._handles:
            self._handles[id(group)] = spec(
                FeatureGroup,
                *("features", "columns", "id"),
                name=group.name,
                version=group.version,
                description=group.description,
                time_travel_format=group.time_travel_format,
                primary_key=list(group.primary_key),
                event_time=group.event_time,
                get_feature=lambda name: next((f for f in group.features if f.name == name), None),
                insert=partial(self._insert, group),
                select=lambda names: self._query(group, names, []),
                read=partial(self._read, group),
                commit_details=lambda wallclock_time=None, limit=None: self._commits(group, limit),
                delete=lambda: self.groups.pop((group.name, group.version)),
            )
        handle = self._handles[id(group)]
        handle.features = handle.columns = list(group.features)
        handle.id = 1 if (group.name, group.version) in self.groups else None
        return handle

    def _read(self, group, wallclock_time=None, start_time=None, end_time=None, **more):
        if wallclock_time:
            raise FeatureStoreException("Python environments does not support incremental queries.")
        window = hsfs.util._apply_scheduler_time_defaults(start_time, end_time)
        feature = next(f for f in group.features if f.name == group.event_time)
        condition = hsfs.util._build_time_filter(feature, *window)
        names = [f.name for f in group.features]
        return self._query(group, names, [condition] if condition else []).read(**more)

    def _commits(self, group, limit):
        self._answer()
        return {number: {} for number in range(group.commits)[:limit]}

    def _insert(self, group, features, operation="upsert", wait=False, **options):
        self._answer()
        rows = Engine._convert_to_default_dataframe(None, features)
        found = Engine._parse_schema_feature_group(None, rows)
        if options.get("validation_options", {}).get("schema_validation", True):
            found = DataFrameValidator()._validate_schema(self._handle(group), rows, found)
        if (group.name, group.version) not in self.groups:
            group.features = found
            self.groups[group.name, group.version] = group
        wanted = {f.name: f.type for f in group.features}
        if {f.name: f.type for f in found} != wanted:
            raise FeatureStoreException("Features are not compatible with Feature Group schema")
        rows = DeltaEngine._prepare_df_for_delta(rows).to_pandas()
        if group.time_travel_format == "DELTA":
            if self.outside:
                raise FeatureStoreException(NO_LOAD_BALANCER)
            self._commit(group, rows, operation)
            return None, None
        group.pending.append(rows)
        job = self._job(group, operation)
        if options.get("write_options", {}).get("start_offline_materialization", True):
            job.run(await_termination=wait)
        return job, None

    def _commit(self, group, rows, operation="upsert"):
        group.commits += 1
        rows = rows if group.rows is None else pd.concat([group.rows, rows], ignore_index=True)
        if operation == "upsert":
            rows = rows.drop_duplicates([*group.primary_key, group.event_time], keep="last")
        group.rows = rows.reset_index(drop=True)

    def _job(self, group, operation):
        def run(args=None, await_termination=True, **_):
            if Job._is_materialization_running(job, args):
                return None
            self.jobs_run += 1
            if await_termination:
                self._materialize(group, operation)
            else:
                self.busy = 1  # nobody waits for it, so its rows cannot be read yet
            return spec(Execution)

        name = f"{group.name}_{group.version}_offline_fg_materialization"
        job = spec(
            Job, "get_url", name=name, run=run, get_final_state=partial(self._state_of_job, group)
        )
        return job

    def _materialize(self, group, operation):
        group.last_run = "FAILED" if self.failing else "SUCCEEDED"
        if self.failing:
            raise JobExecutionException("The Hopsworks Job failed, use the Hopsworks UI")
        while group.pending:
            self._commit(group, group.pending.pop(0), operation)

    def _state_of_job(self, group):
        if self.busy:
            self.busy -= 1
            group.last_run = "SUCCEEDED"  # the other's, when it is over
            return "UNDEFINED"
        if not group.last_run:
            raise JobException("No executions found for job")
        return group.last_run

    def _query(self, group, names, filters):
        def read(online=False, dataframe_type="default", **_):
            self._answer()
            types = {feature.name: feature.type for feature in group.features}
            if group.rows is None:
                raise FeatureStoreException("There is no table at the group's location")
            rows = group.rows
            for condition in filters:
                rows = rows[_holds(condition, rows)]
            order = list(range(len(rows)))
            self.random.shuffle(order)
            rows = rows[list(names)].iloc[order].reset_index(drop=True)
            any_order = self.random.sample(list(names), len(names))
            return pd.DataFrame(
                {name: _cast_column_to_offline_type(rows[name], types[name]) for name in any_order}
            )

        assert set(names) <= {feature.name for feature in group.features}, names
        # One autospec serves all queries, since each is read before the next is made.
        self._one_query.read.side_effect = read
        self._one_query.filter.side_effect = lambda f: self._query(group, names, [*filters, f])
        return self._one_query

    def _get_or_create_view(self, name, query, version, description="", labels=None):
        asked = {"read": query.read.side_effect, "labels": labels}
        kept = self.views.setdefault((name, version), asked)
        group = self.groups[name, version]

        def columns(rows, primary_key=False, event_time=False):
            unasked = [] if primary_key else group.primary_key
            return rows.drop(columns=[*unasked, *([] if event_time else [group.event_time])])

        def training_data(**asked):
            rows = kept["read"]()
            rows = rows[rows[group.event_time] < pd.Timestamp.now("UTC").tz_localize(None)]
            rows = columns(rows, **asked)
            return Engine._split_labels(Engine.__new__(Engine), rows, kept["labels"], "default")

        def batch_data(**asked):
            return columns(kept["read"](), **asked).drop(columns=kept["labels"])

        return spec(
            FeatureView,
            name=name,
            version=version,
            labels=kept["labels"],
            get_batch_data=batch_data,
            training_data=training_data,
        )

    # -------------------------------------------------------------- datasets

    def _dataset_api(self):
        return spec(
            DatasetApi,
            exists=self._exists,
            mkdir=self._mkdir,
            list=self._list,
            upload=self._upload,
            download=self._download,
            move=self._move,
            remove=self._remove,
        )

    def _exists(self, path):
        return not self.down and (path in self.files or path in self.folders)

    def _mkdir(self, path):
        self._answer()
        if self._exists(path):
            raise rest_error(400, "Directory already exists")
        if not self._exists(path.rpartition("/")[0]):
            raise rest_error(400, "Parent directory does not exist")
        self.folders.add(path)
        return f"/Projects/{self.project_name}/{path}"

    def _list(self, path, offset=0, limit=1000):
        self._answer()
        if path not in self.folders:
            raise rest_error(404, "Not found")
        inside = {p for p in [*self.files, *self.folders] if p.rpartition("/")[0] == path}
        return [f"/{p}" for p in sorted(inside, key=lambda p: p[::-1])][
            offset : offset + min(limit, 1000)
        ]

    def _upload(self, local_path, upload_path, overwrite=False, **_):
        self._answer()
        source, target = Path(local_path), f"{upload_path}/{Path(local_path).name}"
        if not self._exists(upload_path):
            raise rest_error(404, "Not found")
        if self._exists(target):
            if not overwrite:
                raise DatasetException(f"{target} already exists, set overwrite=True")
            self._remove(target)
        if source.is_file():
            self.files[target] = source.read_bytes()
            return target
        self._mkdir(target)
        for child in source.iterdir():
            self._upload(str(child), target)
        return target

    def _download(self, path, local_path=None, overwrite=False, **_):
        self._answer()
        if path not in self.files:
            raise rest_error(404, "Not found")
        target = Path(local_path)
        target = target / Path(path).name if target.is_dir() else target
        if target.exists() and not overwrite:
            raise OSError(f"{target} already exists, set overwrite=True to overwrite it")
        target.write_bytes(self.files[path])
        return str(target)

    def _move(self, source_path, destination_path, overwrite=False):
        self._answer()
        if self._exists(destination_path):
            raise DatasetException(f"{destination_path} already exists, set overwrite=True")
        if not self._exists(destination_path.rpartition("/")[0]):
            raise rest_error(404, "Not found")

        def moved(path):
            inside = path == source_path or path.startswith(source_path + "/")
            return destination_path + path[len(source_path) :] if inside else path

        self.files = {moved(path): data for path, data in self.files.items()}
        self.folders = {moved(path) for path in self.folders}

    def _remove(self, path):
        self._answer()
        if not self._exists(path):
            raise rest_error(404, "Not found")
        kept = [
            p for p in [*self.files, *self.folders] if p != path and not p.startswith(path + "/")
        ]
        self.files = {p: data for p, data in self.files.items() if p in kept}
        self.folders &= set(kept)

    # ---------------------------------------------------------------- models

    def _model_registry(self):
        registry = spec(
            ModelRegistry,
            "python",
            get_model=self._get_model,
            get_models=self._get_models,
            get_best_model=self._get_best,
        )
        registry.python.create_model = create_autospec(
            hsml.python.signature.create_model, side_effect=self._create_model
        )
        return registry

    def _get_model(self, name, version=None):
        self._answer()
        key = (name, version or ModelRegistry.DEFAULT_VERSION)
        return self._model(key) if key in self.models else None

    def _get_models(self, name):
        self._answer()
        found = [self._model(key) for key in self.models if key[0] == name]
        self.random.shuffle(found)
        return found

    def _get_best(self, name, metric, direction):
        models = [m for m in self._get_models(name) if metric in m.training_metrics]
        sign = 1 if direction == "max" else -1
        return max(models, key=lambda m: sign * m.training_metrics[metric], default=None)

    def _create_model(self, name, version=None, metrics=None, description=None, **_):
        metrics = {key: float(value) for key, value in (metrics or {}).items()}
        facts = {"metrics": metrics, "description": description}
        return spec(Model, name=name, save=partial(self._save_model, name, version, facts))

    def _save_model(self, name, version, facts, model_path, keep_original_files=False, **_):
        self._answer()
        json.dumps(facts, allow_nan=False)
        if not keep_original_files and "hopsfs" in model_path:
            raise AssertionError("the client would have moved the caller's files")
        if version is None:
            version = max((v for n, v in self.models if n == name), default=0) + 1
        home = f"Models/{name}/{version}"
        if self._exists(home):
            raise ModelRegistryException(f"{home} already exists, please select another version.")
        for folder in (f"Models/{name}", home):
            if not self._exists(folder):
                self._mkdir(folder)
        self._mkdir(f"{home}/Files")
        try:
            for child in Path(model_path).iterdir():
                self._upload(str(child), f"{home}/Files")
        except Exception:
            self._remove(home)
            raise
        self.models[name, version] = facts

    def _model(self, key):
        name, version = key
        answer = humps.decamelize(self.models[key])
        return spec(
            Model,
            name=name,
            version=version,
            description=answer["description"],
            training_metrics=answer["metrics"],
            download=lambda local_path=None: self._download_model(key, Path(local_path)),
        )

    def _download_model(self, key, target):
        self._answer()
        home = f"Models/{key[0]}/{key[1]}/Files"
        for path in [p for p in self.files if p.startswith(home + "/")]:
            inside = path[len(home) + 1 :]
            if "Artifacts" not in inside.split("/")[:-1]:
                (target / inside).parent.mkdir(parents=True, exist_ok=True)
                (target / inside).write_bytes(self.files[path])
        return str(target)


def _holds(condition: Filter | Logic, rows: pd.DataFrame) -> pd.Series:
    if isinstance(condition, Logic):
        parts = [condition._left_f, condition._left_l, condition._right_f, condition._right_l]
        left, right = (_holds(part, rows) for part in parts if part is not None)
        return left & right
    value = condition.to_dict()["value"]  # text, as it is sent
    column = rows[condition.feature.name]
    if condition.feature.type == "timestamp":
        return COMPARE[condition.condition](column, pd.Timestamp(value))
    return COMPARE[condition.condition](column, int(value))
