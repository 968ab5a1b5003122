"""The Hopsworks store and its client's peculiarities, beyond the contract (test_contract_*.py)."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from datetime import UTC, datetime, timedelta
from pathlib import Path
from unittest.mock import create_autospec

import pandas as pd
import pandera.pandas as pa
import pytest

hopsworks = pytest.importorskip("hopsworks")

from helpers.hopsworks_double import Cluster, rest_error  # noqa: E402
from helpers.stores import (  # noqa: E402
    FLOWERS,
    HIGH_SCORE,
    SECOND_VERSION,
    flower,
    folder_of,
    frame,
    group,
    ids,
)
from hopsworks_common.core.project_api import ProjectApi  # noqa: E402

import labstore.hopsworks as adapter  # noqa: E402
from labstore import (  # noqa: E402
    UTC_TIME,
    Damaged,
    FeatureGroup,
    Model,
    NotFound,
    StoreError,
    open_store,
)
from labstore.files import FileStore  # noqa: E402
from labstore.monitor import snapshot  # noqa: E402
from labstore.versions import manifest_text  # noqa: E402
from tests.labstore import test_contract_rows as contract  # noqa: E402

START = datetime(2026, 1, 1, tzinfo=UTC)
SECOND, DAY = timedelta(seconds=1), timedelta(days=1)


@pytest.fixture
def cluster(monkeypatch, tmp_path):
    """A cluster in memory that `hopsworks.login` opens, with a key in the environment."""
    cluster = Cluster()
    monkeypatch.setattr(hopsworks, "login", cluster.login)
    for name in ("HOPSWORKS_PROJECT", "HOPSWORKS_HOST", "REST_ENDPOINT", "LABS_STORE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOPSWORKS_API_KEY", "a key\n")
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    return cluster


@pytest.fixture
def store(cluster):
    return open_store("hopsworks:labs")


# --------------------------------------------------------------------------------- opening


def test_opening_passes_project_key_and_host_so_that_the_client_does_not_prompt(
    cluster, monkeypatch
):
    monkeypatch.setenv("HOPSWORKS_HOST", "https://my.cluster.org/")
    assert repr(open_store("hopsworks:labs")) == "hopsworks:labs"
    cluster.login.assert_called_once_with(
        host="my.cluster.org", project="labs", api_key_value="a key", engine="python"
    )


def test_the_project_may_come_from_the_environment(cluster, monkeypatch):
    monkeypatch.setenv("HOPSWORKS_PROJECT", "labs")
    open_store("hopsworks:")
    assert cluster.login.call_args.kwargs["project"] == "labs"
    assert cluster.login.call_args.kwargs["host"] is None


@pytest.mark.parametrize(
    ("address", "key", "named"),
    [
        ("hopsworks:labs", "", "without HOPSWORKS_API_KEY"),
        ("hopsworks:", "k", "without HOPSWORKS_PROJECT"),
        ("hopsworks:", " ", "without HOPSWORKS_PROJECT.*HOPSWORKS_API_KEY"),
    ],
)
def test_what_is_missing_is_named_before_the_client_is_imported(
    cluster, monkeypatch, address, key, named
):
    monkeypatch.setenv("HOPSWORKS_API_KEY", key)
    monkeypatch.setattr(adapter, "_client", pytest.fail)
    with pytest.raises(StoreError, match=f"{named}.*docs/hopsworks.md"):
        open_store(address)


def test_the_real_login_prompts_for_nothing_and_passes_over_an_older_key(monkeypatch, tmp_path):
    """The client's own code, up to the connection; the folder holds a key file of an earlier login."""
    connection = create_autospec(hopsworks._load_connection_class(), instance=True)
    connection._project_api = create_autospec(ProjectApi, instance=True)
    project = Cluster().login(project="labs", engine="python")
    connection._project_api._get_project.return_value = project
    connect = create_autospec(hopsworks._load_connection_class()._connection)
    connect.return_value = connection
    monkeypatch.setattr(hopsworks, "_hw_connection", connect)
    for name in ("logout", "_set_active_project", "_initialize_module_apis"):
        monkeypatch.setattr(hopsworks, name, lambda *_: None)
    monkeypatch.setattr(hopsworks, "_connected_project", None)
    for prompt in ("builtins.input", "getpass.getpass"):
        monkeypatch.setattr(prompt, lambda *_: pytest.fail("the client prompts"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".hw_api_key").write_text("an older key")
    monkeypatch.delenv("REST_ENDPOINT", raising=False)
    monkeypatch.setenv("HOPSWORKS_API_KEY", "our key")
    assert repr(open_store("hopsworks:labs")) == "hopsworks:labs"
    assert connect.call_args.kwargs["api_key_value"] == "our key"
    assert "api_key_file" not in connect.call_args.kwargs
    connection._project_api._get_project.assert_called_once_with("labs")


def test_another_project_than_the_one_asked_for_is_refused(cluster, monkeypatch):
    """Inside Hopsworks the client opens the job's own project, whatever it is asked for."""
    monkeypatch.setenv("REST_ENDPOINT", "https://inside")
    monkeypatch.delenv("HOPSWORKS_API_KEY")
    with pytest.raises(StoreError, match=r"opened the project 'labs', not 'other'"):
        open_store("hopsworks:other")
    assert repr(open_store("hopsworks:Labs")) == "hopsworks:labs"


def test_a_refused_login_is_reported_with_what_to_check(cluster):
    cluster.down = True
    with pytest.raises(StoreError, match=r"could not open the project 'labs'.*503.*HOPSWORKS_HOST"):
        open_store("hopsworks:labs")


def test_without_the_client_the_package_to_install_is_named(cluster, monkeypatch):
    monkeypatch.setitem(sys.modules, "hopsworks", None)
    with pytest.raises(StoreError, match=r"not installed.*ml-labs\[hopsworks\]"):
        open_store("hopsworks:labs")


def test_the_client_is_imported_by_opening_alone_and_leaves_logging_as_it_was():
    code = """
import logging, sys
import labstore.hopsworks, labstore.copying
assert "hopsworks" not in sys.modules
labstore.hopsworks._client()
assert "hopsworks" in sys.modules
root = logging.getLogger()
assert (root.level, root.handlers) == (logging.WARNING, []), (root.level, root.handlers)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


# ------------------------------------------------------------------------------------ rows


def test_upper_case_and_spaces_of_columns_come_back(store, cluster):
    mixed = FeatureGroup(
        name="mixed",
        version=1,
        primary_key="flowerID",
        event_time="Measured At",
        schema=pa.DataFrameSchema(
            {
                "flowerID": pa.Column(str),
                "Measured At": pa.Column(UTC_TIME),
                "pH": pa.Column(float),
                "seen_at": pa.Column(UTC_TIME),
                "fresh": pa.Column(bool),
            },
            strict=True,
        ),
    )
    rows = pd.DataFrame({"flowerID": ["a", "b"], "pH": [1.0, 2.0], "fresh": [True, False]})
    rows["Measured At"] = pd.Series([START, START + DAY], dtype=UTC_TIME)
    seen = rows["Measured At"] + pd.Timedelta(microseconds=123_456)
    rows["seen_at"] = seen.astype(UTC_TIME)
    store.insert(mixed, rows)
    (stored,) = cluster.groups.values()
    assert set(stored.rows) == {
        *("flowerid", "measured_at", "ph", "seen_at", "fresh"),
        adapter.STAMP,
    }
    assert stored.primary_key == ["flowerid", adapter.STAMP] and stored.event_time == "measured_at"
    pd.testing.assert_frame_equal(store.read(mixed), rows[mixed.columns])
    pd.testing.assert_frame_equal(
        store.read(mixed, since=START + DAY), rows[mixed.columns][1:].reset_index(drop=True)
    )


@pytest.mark.parametrize("name", ["PETALS", adapter.STAMP])
def test_columns_that_would_have_one_name_in_hopsworks_are_refused(store, cluster, name):
    twins = group(**{name: pa.Column(int)})
    with pytest.raises(StoreError, match=f"{name}.*same name.*Rename"):
        store.insert(twins, frame(flower("a", **{name: 1})))
    assert not cluster.groups


def test_a_type_that_hopsworks_does_not_know_is_refused_with_those_it_does(store):
    odd = group(petals=pa.Column("uint8"))
    with pytest.raises(StoreError, match=r"petals.*uint8.*Choose one of: str, float64"):
        store.read(odd)


def test_times_are_kept_as_naive_utc_and_come_back_aware(store, cluster):
    rows = frame(flower("a"))
    rows["measured_at"] = pd.to_datetime(["2026-01-01T09:00+09:00"]).tz_convert("Asia/Tokyo")
    store.insert(FLOWERS, rows)
    kept = next(iter(cluster.groups.values())).rows["measured_at"]
    assert kept.dt.tz is None and kept[0] == datetime(2026, 1, 1)
    assert store.read(FLOWERS)["measured_at"].tolist() == [START]


@pytest.mark.parametrize("tenths", range(0, 25, 3))
def test_windows_are_exact_though_the_client_cuts_times_to_seconds(store, tenths):
    store.insert(FLOWERS, frame(*(flower(f"{n:02}", n / 864_000) for n in range(25))))
    moment = START + tenths * SECOND / 10
    assert ids(store.read(FLOWERS, since=moment)) == [f"{n:02}" for n in range(tenths, 25)]
    assert ids(store.read(FLOWERS, until=moment)) == [f"{n:02}" for n in range(tenths)]


def test_a_scheduled_job_in_hopsworks_reads_all_rows_not_only_its_hours(store, monkeypatch):
    store.insert(FLOWERS, frame(flower("a", 0), flower("b", 9)))
    monkeypatch.setenv("HOPS_START_TIME", "2026-01-01T00:00:00.000000Z")
    monkeypatch.setenv("HOPS_END_TIME", "2026-01-02T00:00:00.000000Z")
    assert ids(store.read(FLOWERS)) == ["a", "b"]
    assert ids(store.read(FLOWERS, since=START)) == ["a", "b"]


def test_a_group_with_another_key_needs_a_new_version(store):
    store.insert(FLOWERS, frame(flower("a")))
    other = FeatureGroup(**{**vars(FLOWERS), "primary_key": "species"})
    with pytest.raises(StoreError, match=r"hopsworks:labs holds other columns.*new version"):
        store.read(other)


def test_a_group_in_a_store_shared_with_the_project_is_ignored(store, cluster):
    cluster.shared = {"flowers"}
    assert store.read(FLOWERS).empty
    store.insert(FLOWERS, frame(flower("a")))
    assert ids(store.read(FLOWERS)) == ["a"]


def test_no_statistics_and_no_online_store_are_requested(store, cluster):
    """Either costs a job or a table for each insert, and nothing here reads them."""
    created = store._features.get_or_create_feature_group
    store.insert(FLOWERS, frame(flower("a")))
    asked = created.call_args.kwargs
    assert asked["statistics_config"] is False and asked["online_enabled"] is False
    assert asked["version"] == 1 and asked["time_travel_format"] == "DELTA"


def test_inserts_append_and_merge_nothing(store):
    """No row is ever updated, and a merge would read the whole table each time."""
    for name in "ab":
        store.insert(FLOWERS, frame(flower(name)))
    assert store._find(FLOWERS).insert.call_args.kwargs["operation"] == "insert"


def test_long_texts_are_kept(store):
    """The client's own check has the online store's limit of 100 letters, which does not apply."""
    long = "x" * 5000
    for name in (long, long + "y"):
        store.insert(FLOWERS, frame(flower(name)))
    assert ids(store.read(FLOWERS)) == [long, long + "y"]


# -------------------------------------------------------------------------- DELTA and HUDI

BUSY = pytest.mark.filterwarnings("ignore:Materialization job is already running")  # the client's
ROWS = [  # the contract's tests of rows
    test
    for name, test in vars(contract).items()
    if name.startswith("test_") and list(inspect.signature(test).parameters) == ["store"]
]


@pytest.mark.parametrize("test", ROWS, ids=lambda test: test.__name__)
def test_the_contract_for_rows_holds_with_hudi_too(store, cluster, test):
    cluster.outside = True
    test(store)
    assert {stored.time_travel_format for stored in cluster.groups.values()} <= {"HUDI"}


def test_where_delta_cannot_be_written_the_group_becomes_a_hudi_one(store, cluster):
    cluster.outside = True
    store.insert(FLOWERS, frame(flower("a")))
    store.insert(FLOWERS, frame(flower("b", 1)))
    (stored,) = cluster.groups.values()
    assert stored.time_travel_format == "HUDI" and cluster.jobs_run == 2
    assert ids(store.read(FLOWERS)) == ["a", "b"]


def test_rows_written_with_delta_inside_are_not_dropped_outside(store, cluster):
    store.insert(FLOWERS, frame(flower("a")))
    cluster.outside = True
    with pytest.raises(StoreError, match=r"flowers v1.*DELTA.*load balancers.*job in Hopsworks"):
        store.insert(FLOWERS, frame(flower("b")))
    assert ids(store.read(FLOWERS)) == ["a"]


def test_a_group_becomes_a_hudi_one_whatever_its_older_version_is(store, cluster):
    store.insert(FLOWERS, frame(flower("a")))
    cluster.outside = True
    store.insert(SECOND_VERSION, frame(flower("b", petals=5.0)))
    assert ids(store.read(FLOWERS)) == ["a"] and ids(store.read(SECOND_VERSION)) == ["b"]


def test_a_group_that_another_writer_made_a_hudi_one_meanwhile_is_kept(store, cluster):
    store.insert(FLOWERS, frame(flower("lost")))
    (registered,) = cluster.groups.values()
    registered.commits = 0  # as left by a writer that was killed before it wrote
    cluster.outside = True
    ours = cluster._handle(registered)
    insert = ours.insert.side_effect

    def overtaken(*arguments, **options):
        ours.insert.side_effect = insert
        store.insert(FLOWERS, frame(flower("a")))
        return insert(*arguments, **options)

    ours.insert.side_effect = overtaken
    store.insert(FLOWERS, frame(flower("b", 1)))
    assert ids(store.read(FLOWERS)) == ["a", "b"]


def test_any_other_refusal_of_an_insert_removes_nothing(store, cluster):
    store.insert(FLOWERS, frame(flower("a")))
    stored = next(iter(cluster.groups.values()))
    stored.commits = 0  # not even if the cluster reports no commit
    cluster._handle(stored).insert.side_effect = rest_error(500, "load is high")
    with pytest.raises(StoreError, match=r"could not insert 1 rows.*load is high"):
        store.insert(FLOWERS, frame(flower("b")))
    assert cluster.groups


@BUSY
@pytest.mark.parametrize("asked", [1, 3])
def test_an_insert_waits_for_the_job_of_another_and_then_runs_its_own(
    store, cluster, monkeypatch, asked
):
    """The other run began before the rows were sent, so they cannot be read yet when it ends."""
    waits = []
    monkeypatch.setattr(adapter.time, "sleep", waits.append)
    cluster.outside, cluster.busy = True, asked
    store.insert(FLOWERS, frame(flower("a")))
    assert len(waits) == asked and cluster.jobs_run == 1
    assert ids(store.read(FLOWERS)) == ["a"]


@BUSY
def test_a_job_that_stays_busy_or_fails_is_an_error(store, cluster, monkeypatch):
    cluster.outside, cluster.busy = True, 10**9
    monkeypatch.setattr(adapter, "MAX_WAIT_SECONDS", -1)
    with pytest.raises(StoreError, match="busy for an hour"):
        store.insert(FLOWERS, frame(flower("a")))
    cluster.busy, cluster.failing = 0, True
    with pytest.raises(StoreError, match=r"could not insert 1 rows.*Job failed"):
        store.insert(FLOWERS, frame(flower("b")))
    assert store.read(FLOWERS).empty  # registered, but nothing was ever written to it
    cluster.failing = False
    store.insert(FLOWERS, frame(flower("c")))
    assert ids(store.read(FLOWERS)) == ["a", "b", "c"]  # what was sent is not lost


def test_rows_that_cannot_be_read_are_an_error_not_an_empty_group(store, cluster):
    store.insert(FLOWERS, frame(flower("a")))
    store._find(FLOWERS).select.side_effect = rest_error(500, "query service")
    with pytest.raises(StoreError, match=r"could not read flowers.*query service"):
        store.read(FLOWERS)


# --------------------------------------------------------------------------- feature views


def test_a_feature_view_has_the_groups_columns_and_labels(store, cluster):
    with pytest.raises(NotFound, match=r"no flowers v1 yet"):
        store.feature_view(FLOWERS)
    store.insert(FLOWERS, frame(flower("a", 0, 1.0), flower("b", 1)))
    store.insert(FLOWERS, frame(flower("a", 0, 2.0)))
    view = store.feature_view(FLOWERS, labels=["species"])
    assert (view.name, view.version, view.labels) == ("flowers", 1, ["species"])
    features, labels = view.training_data(primary_key=True, event_time=True)
    assert len(features) == 3 and list(labels) == ["species"]  # every insert
    rows = adapter.newest(FLOWERS, features.join(labels))
    pd.testing.assert_frame_equal(rows, store.read(FLOWERS))


def test_a_feature_view_without_labels_has_all_columns_in_batch_data(store, cluster):
    store.insert(FLOWERS, frame(flower("a", 0, 1.0), flower("b", 1)))
    store.insert(FLOWERS, frame(flower("a", 0, 2.0)))
    rows = store.feature_view(FLOWERS).get_batch_data(primary_key=True, event_time=True)
    pd.testing.assert_frame_equal(adapter.newest(FLOWERS, rows), store.read(FLOWERS))


def test_a_feature_view_has_its_groups_version_and_the_names_of_hopsworks(store):
    smelling = FeatureGroup(**{**vars(group(Smell=pa.Column(str))), "version": 2})
    store.insert(smelling, frame(flower("a", Smell="sweet")))
    view = store.feature_view(smelling, labels=["Smell"])
    assert (view.version, view.labels) == (2, ["smell"])


# ------------------------------------------------------------------------ files and models


def test_a_failed_request_is_not_taken_for_an_absent_file(store, cluster, tmp_path):
    store.save_files("shards", folder_of(tmp_path / "source", a="1"), {})
    cluster.down = True
    with pytest.raises(StoreError, match="not reachable") as refused:
        store.open_files("shards")
    assert not isinstance(refused.value, NotFound)
    with pytest.raises(StoreError, match="not reachable"):
        snapshot.publish(store, "shards", {"through": "2026-01-01"})


def test_more_versions_than_one_page_lists_are_listed(store, cluster, tmp_path):
    last = store.save_files("shards", folder_of(tmp_path / "source", a="1"), {}).version
    home = "Resources/ml-labs/files/shards/"
    older = [f"20200101T000000{n:06}Z-{n:08x}" for n in range(1234)]
    cluster.folders |= {home + version for version in older}
    assert store.list_files("shards") == [*older, last]


def test_an_interrupted_upload_leaves_no_version(store, cluster, tmp_path):
    source = folder_of(tmp_path / "source", a="1", b="2")
    first = store.save_files("shards", source, {})
    move = store._datasets.move.side_effect
    store._datasets.move.side_effect = rest_error(500, "broken")
    with pytest.raises(StoreError, match=r"could not upload files/shards"):
        store.save_files("shards", source, {})
    store._datasets.move.side_effect = move
    assert store.list_files("shards") == [first.version] == store._local.list_files("shards")
    assert len(store._list("Resources/ml-labs/uploads/shards")) == 1
    second = store.save_files("shards", source, {})
    store.prune_files("shards", keep=1)
    assert store.list_files("shards") == [second.version]
    assert store._list("Resources/ml-labs/uploads/shards") == []


def test_folders_are_made_once_and_may_be_made_by_another_writer_meanwhile(
    store, cluster, tmp_path
):
    source = folder_of(tmp_path / "source", a="1")

    def overtaken(path):
        cluster._mkdir(path)
        return cluster._mkdir(path)

    store._datasets.mkdir.side_effect = overtaken
    first = store.save_files("shards", source, {})
    store._datasets.mkdir.side_effect = rest_error(400, "Directory already exists")
    asked = store._datasets.mkdir.call_count
    second = store.save_files("shards", source, {})
    assert store.list_files("shards") == [first.version, second.version]
    assert store._datasets.mkdir.call_count == asked


def test_an_interrupted_upload_can_be_tried_again(store, tmp_path):
    """A copy from another store sends a version under the id that it has there."""
    there = FileStore(tmp_path / "there")
    saved = there.save_files("shards", folder_of(tmp_path / "source", a="1"), {})
    move = store._datasets.move.side_effect
    store._datasets.move.side_effect = rest_error(500, "broken")
    with pytest.raises(StoreError, match=r"could not upload files/shards"):
        store.adopt("files", saved.path)
    store._datasets.move.side_effect = move
    assert store.adopt("files", saved.path)
    assert store.list_files("shards") == [saved.version]


def test_a_model_that_is_not_registered_is_not_there(store, cluster, tmp_path):
    source = folder_of(tmp_path / "source", a="1")
    first = store.save_model(HIGH_SCORE, source, {"score": 0.1}, {})
    upload, cluster._upload = cluster._upload, pytest.fail
    create = store._registry.python.create_model
    create.side_effect = rest_error(500, "broken")
    with pytest.raises(StoreError, match="could not register the model flower_score"):
        store.save_model(HIGH_SCORE, source, {"score": 0.9}, {})
    create.side_effect, cluster._upload = cluster._create_model, upload
    assert store.load_model(HIGH_SCORE) == first
    assert store.save_model(HIGH_SCORE, source, {"score": 0.2}, {}) == store.load_model(HIGH_SCORE)


@pytest.fixture
def elsewhere(cluster, monkeypatch, tmp_path):
    """Opens the project as from another machine, with an empty cache."""

    def open_elsewhere():
        monkeypatch.setenv("HOME", str(tmp_path / "elsewhere"))
        return open_store("hopsworks:labs")

    return open_elsewhere


def test_another_machine_downloads_once_and_again_what_was_damaged(
    store, cluster, elsewhere, tmp_path
):
    source = folder_of(tmp_path / "source", **{"deep__a.txt": "1"})
    files = store.save_files("shards", source, {"n": 1})
    model = store.save_model(HIGH_SCORE, source, {"score": 0.5}, {"n": 2})
    there = elsewhere()
    for opened, saved in (
        (there.open_files("shards"), files),
        (there.load_model(HIGH_SCORE), model),
    ):
        assert (opened.path / "deep/a.txt").read_text() == "1" and opened.path != saved.path
        assert (opened.version, opened.metadata) == (saved.version, saved.metadata)
    assert there.load_model(HIGH_SCORE).metrics == {"score": 0.5}
    downloads = there._datasets.download.call_count
    again = there.open_files("shards")
    assert there._datasets.download.call_count == downloads
    (again.path / "deep/a.txt").write_text("2")
    assert (there.open_files("shards").path / "deep/a.txt").read_text() == "1"
    assert not list(there._local.root.glob("download-*"))


@pytest.mark.parametrize("file", ["a.txt", "manifest.json"])
def test_what_changed_in_hopsworks_is_not_opened(store, cluster, elsewhere, tmp_path, file):
    source = folder_of(tmp_path / "source", **{"a.txt": "1"})
    store.save_files("shards", source, {})
    store.save_model(HIGH_SCORE, source, {"score": 0.5}, {})
    for path in cluster.files:
        if path.endswith(file):
            cluster.files[path] = cluster.files[path][:-3] + b"..."
    there = elsewhere()
    for attempt in (lambda: there.open_files("shards"), lambda: there.load_model(HIGH_SCORE)):
        with pytest.raises(Damaged, match=file):
            attempt()


def test_a_manifest_that_points_outside_its_folder_is_not_followed(
    store, cluster, elsewhere, tmp_path
):
    saved = store.save_files("shards", folder_of(tmp_path / "source", a="1"), {})
    path = f"Resources/ml-labs/files/shards/{saved.version}/manifest.json"
    manifest = json.loads(cluster.files[path])
    del manifest["manifest_sha256"]
    manifest["files"]["../../../stolen"] = {"bytes": 0, "sha256": ""}
    cluster.files[path] = manifest_text(manifest)
    downloads = elsewhere()
    with pytest.raises(Damaged, match="outside its folder"):
        downloads.open_files("shards")
    assert downloads._datasets.download.call_count == 1  # the manifest alone


def test_metrics_whose_names_the_client_changes_still_decide(store, tmp_path):
    model = Model("covering", metric="coverage_90", direction="max")
    source = folder_of(tmp_path / "source", a="1")
    for figure in (0.5, 0.9, 0.7):
        metrics = {"coverage_90": figure, "no number": float("nan")}
        store.save_model(model, source, metrics, {})
    assert store.load_model(model).metrics["coverage_90"] == 0.9


def test_other_peoples_models_and_groups_are_left_alone(store, cluster, tmp_path):
    source = folder_of(tmp_path / "source", a="1")
    saved = store.save_model(HIGH_SCORE, source, {"score": 0.1}, {})
    path = json.dumps({"ml-labs": {"version": f"../{saved.version}"}})
    for number, words in enumerate(["mine", "[1]", "7", '{"ml-labs": 1}', path, None]):
        theirs = {"metrics": {"score": 1.0}, "description": words}
        cluster.models["flower_score", 90 + number] = theirs
    assert store.load_model(HIGH_SCORE) == saved == store.load_model(HIGH_SCORE, "latest")
    store.insert(FLOWERS, frame(flower("a")))
    next(iter(cluster.groups.values())).description = "theirs"
    cluster._handles.clear()
    cluster.models["TheirModel", 1] = {"metrics": {}, "description": None}
    cluster.folders |= {"Models/TheirModel", "Resources/ml-labs", "Resources/ml-labs/files"}
    cluster.files["Resources/ml-labs/files/README.md"] = b"theirs"
    assert store.contents().groups == [] == list(store.contents().files)
    assert store.contents().models == {"flower_score": [saved.version]}


def test_a_model_that_the_registry_would_not_return_whole_is_refused(store, cluster, tmp_path):
    source = folder_of(tmp_path / "source", **{"Artifacts__a.txt": "1"})
    with pytest.raises(StoreError, match=r"Artifacts.*1000 files"):
        store.save_model(HIGH_SCORE, source, {"score": 0.1}, {})
    assert not cluster.models and not any("flower_score" in path for path in cluster.files)


def test_a_models_files_are_not_moved_on_a_drive_of_hopsworks(cluster, tmp_path):
    """There the client moves the files it is given, unless it is asked to keep them."""
    project = cluster.login(project="labs", engine="python")
    store = adapter.HopsworksStore(project, tmp_path / "hopsfs")
    saved = store.save_model(HIGH_SCORE, folder_of(tmp_path / "s", a="1"), {"score": 0.1}, {})
    assert (saved.path / "a").read_text() == "1"
    assert Path(saved.path).is_relative_to(tmp_path / "hopsfs")
