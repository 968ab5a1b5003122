"""Checkpoints: incomplete ones are noticed, two generations are kept."""

import json
import os
import tarfile

import pytest
from helpers import hostile

from lab2_whisper.schema import LabError
from lab2_whisper.training import checkpoints
from lab2_whisper.training.loop import train
from labstore import NotWritable, open_store


@pytest.mark.parametrize("what", ["header", "short", "longer", "tensor", "state", "empty"])
def test_damaged_checkpoints_are_incomplete(stopped, what):
    folder = stopped / "work" / "r" / "checkpoint-1"
    checkpoints.check(folder)
    weights = folder / "model.safetensors"
    match what:
        case "header":
            weights.write_bytes(b"\xff" * 100)
        case "short":
            os.truncate(weights, weights.stat().st_size - 1)
        case "longer":
            weights.write_bytes(weights.read_bytes() + bytes(8))
        case "tensor":
            weights.write_bytes(weights.read_bytes().replace(b'"F32"', b'"F64"', 1))
        case "state":
            (folder / "trainer_state.json").write_text('{"global_')
        case "empty":
            os.truncate(folder / "scheduler.pt", 0)
    with pytest.raises(checkpoints.Incomplete):
        checkpoints.check(folder)


def test_the_cause_of_damage_is_kept(stopped):
    folder = stopped / "work" / "r" / "checkpoint-1"
    os.truncate(folder / "model.safetensors", 20)
    with pytest.raises(
        checkpoints.Incomplete, match=r"model.safetensors is damaged .*header"
    ) as caught:
        checkpoints.check(folder)
    assert caught.value.__cause__ is not None


def test_two_generations_are_kept(store, tmp_path):
    folder = tmp_path / "c"
    folder.mkdir()
    for step in range(4):
        (folder / "trainer_state.json").write_text(json.dumps({"global_step": step}))
        checkpoints.publish(store, "x", folder, {})
    versions = store.list_files("checkpoint_x")
    assert [store.open_files("checkpoint_x", v).metadata["step"] for v in versions] == [2, 3]
    assert len(list((store.root / "files" / "checkpoint_x").iterdir())) == 2


def test_an_unpublished_checkpoint_is_used_only_where_it_is_right(
    store, run, tmp_path, monkeypatch
):
    """Not with other settings, beside a newer one, or damaged."""
    save, home = store.save_files, tmp_path / "r"

    def full(*_):
        raise NotWritable("No space left on device.")

    monkeypatch.setattr(store, "save_files", full)
    train(store, run, minutes=1e-9, folder=tmp_path)
    monkeypatch.setattr(store, "save_files", save)
    settings = json.loads((home / checkpoints.UNPUBLISHED).read_text())["settings"]
    assert checkpoints.unpublished(store, "r", home, settings) == home / "checkpoint-1"
    assert checkpoints.unpublished(store, "r", home, settings | {"seed": 1}) is None
    newer = store.save_files("checkpoint_r", home, {"settings": settings, "step": 2})
    assert checkpoints.unpublished(store, "r", home, settings) is None
    store.remove("files", "checkpoint_r", newer.version)
    assert checkpoints.unpublished(store, "r", home, settings)
    (home / "checkpoint-1" / "model.safetensors").write_bytes(b"short")
    assert checkpoints.unpublished(store, "r", home, settings) is None


# ------------------------------------------------------------------ a checkpoint made to do harm


def stored(folder, archive: bytes, step: object = 1):
    """Return a store with one checkpoint of the run "r", whose manifest agrees with its archive."""
    (folder / "packed").mkdir()
    (folder / "packed" / checkpoints.ARCHIVE).write_bytes(archive)
    store = open_store(folder / "store")
    store.save_files("checkpoint_r", folder / "packed", {"settings": {}, "step": step})
    return store


def restore(store, folder, capsys) -> str:
    """Try to restore the only checkpoint, which must be refused; return why."""
    with pytest.raises(LabError, match="None of the 1 checkpoints"):
        checkpoints.latest_valid(store, "r", folder / "work", {})
    printed = capsys.readouterr().out
    assert printed.startswith("Checkpoint ") and printed.count("\n") == 1
    return printed


@pytest.mark.parametrize("step", [
    "../../../victim", "../victim", "/tmp/victim", "1", "", ".", None, 1.0, True, -1, [1], {}, 10**13,
])  # fmt: skip
def test_a_step_that_is_not_a_number_is_refused(tmp_path, capsys, step):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    (tmp_path / "work").mkdir()
    store = stored(tmp_path, bytes(1024), step)
    with hostile.nothing_written(tmp_path, except_in=tmp_path / "nowhere"):
        assert "gives the step as" in restore(store, tmp_path, capsys)


@pytest.mark.parametrize("metadata", [
    {}, {"settings": {}}, {"step": 1}, {"settings": [], "step": 1}, {"settings": "x", "step": 1},
    {"settings": {"preset": "x"}, "step": 1}, {"settings": {"preset": None}, "step": 1},
])  # fmt: skip
def test_metadata_that_is_not_ours_is_refused(store, tmp_path, capsys, metadata):
    store.save_files("checkpoint_r", store.root / "files", metadata)
    assert "lacks the settings or the step" in restore(store, tmp_path, capsys)


def link(name: str, target: str, kind: bytes = tarfile.SYMTYPE) -> bytes:
    return hostile.header(name, 0, kind, linkname=target)


HARM = {
    "a chain of links": hostile.chain_of_links("../../victim", b"x"),
    "a link to the outside": link("kept", "../../victim") + hostile.file("kept/file", b"x"),
    "a hard link": link("hard", "../../victim/file", tarfile.LNKTYPE) + hostile.file("hard", b"x"),
    "a path to the outside": hostile.file("../../victim/file", b"x"),
    "an absolute path": hostile.file("/tmp/checkpoint-victim", b"x"),
    "a name that is there twice": hostile.file("a", b"x") + hostile.file("a", b"x"),
    "a file that is a folder": hostile.file("a", b"x") + hostile.file("a/b", b"x"),
    "a name with a zero": hostile.file("optimizer.pt", b"x").replace(b"zer.pt", b"z\0r.pt", 1),
    "deep folders": hostile.file("a/" * 40 + "b", b"x"),
    "many files": b"".join(hostile.file(f"f{i}", b"") for i in range(1_001)),
    "a sparse file": hostile.pax_hole("optimizer.pt", 1 << 40),
    "a size that is not there": hostile.header("optimizer.pt", 1 << 50),
    "a header of gigabytes": hostile.header("x", 3 << 30, tarfile.XHDTYPE),
    "devices": hostile.header("optimizer.pt", 0, tarfile.CHRTYPE, devmajor=1, devminor=5),
    "a compressed archive": hostile.bomb(hostile.header("a", 3 << 30), bytes(1 << 20), 100),
}  # fmt: skip


@pytest.mark.parametrize("kind", HARM)
def test_an_archive_writes_nothing_outside(tmp_path, capsys, kind):
    (tmp_path / "victim").mkdir()
    (tmp_path / "victim" / "file").write_text("mine")
    (tmp_path / "work").mkdir()
    store = stored(tmp_path, HARM[kind] + bytes(1024))
    with hostile.nothing_written(tmp_path, except_in=tmp_path / "nowhere"):
        assert len(restore(store, tmp_path, capsys)) < 1_000


@pytest.mark.parametrize(("kind", "why"), [
    ("a path to the outside", "not a trainer's file"), ("an absolute path", "not a trainer's file"),
    ("deep folders", "not a trainer's file"), ("many files", "not a trainer's file"),
    ("a name that is there twice", "File exists"),
])  # fmt: skip
def test_the_reason_why_an_archive_is_refused_is_given(tmp_path, capsys, kind, why):
    assert why in restore(stored(tmp_path, HARM[kind] + bytes(1024)), tmp_path, capsys)


def test_a_link_in_place_of_the_folder_is_not_followed(tmp_path, capsys):
    (tmp_path / "victim").mkdir()
    (tmp_path / "work").mkdir()
    (tmp_path / "work" / "checkpoint-1").symlink_to(tmp_path / "victim")
    restore(stored(tmp_path, hostile.file("a", b"x")), tmp_path, capsys)
    assert not list((tmp_path / "victim").iterdir())


ANY_CHECKPOINT = """
import contextlib, io, sys, tempfile
from pathlib import Path
from helpers import hostile
from lab2_whisper.schema import LabError
from lab2_whisper.training import checkpoints
from labstore import open_store

STEPS = [*range(10), -1, True, None, 0.5, [], "../../../victim", "1", 10**15]

def checked(folder):
    files = [path for path in folder.rglob("*") if not path.is_dir()]
    assert all(path.is_file() and not path.is_symlink() for path in files)
    assert sum(path.stat().st_size for path in files) <= size[0]
    seen.add(len(files))
    raise checkpoints.Incomplete("as any other")

def any_checkpoint(seed):
    data, step = hostile.random_archive(seed, zipped=seed % 9 == 0), STEPS[seed % len(STEPS)]
    with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
        home = Path(folder)
        (home / "packed").mkdir()
        (home / "packed" / "checkpoint.tar").write_bytes(data)
        size[0] = len(data)
        store = open_store(home / "store")
        store.save_files("checkpoint_r", home / "packed", {"settings": {}, "step": step})
        with hostile.nothing_written(Path(sys.argv[1]), except_in=home / "work"):
            with contextlib.redirect_stdout(io.StringIO()) as printed:
                try:
                    checkpoints.latest_valid(store, "r", home / "work", {})
                except LabError as error:
                    assert "None of the 1 checkpoints" in str(error)
            assert printed.getvalue().count(chr(10)) == 1, printed.getvalue()
        assert not list((home / "work").rglob("*"))

size, seen = [0], set()
checkpoints.check = checked
hostile.limit()
for seed in range(300):
    print("seed", seed, file=sys.stderr)
    any_checkpoint(seed)
print(max(seen))
"""


def test_any_checkpoint_is_refused_or_unpacks_to_plain_files_inside(tmp_path):
    printed = hostile.run_limited(ANY_CHECKPOINT, tmp_path, memory_mib=128)
    assert int(printed) > 1, "no archive got as far as being unpacked"


@pytest.mark.parametrize("state", [
    '{"global_step": "../../victim"}', '{"global_step": null}', "[1]", "5", "[" * 100_000,
    '{"global_step": 1' + " " * (33 << 20) + "}",
], ids=range(6))  # fmt: skip
def test_a_trainer_state_made_to_do_harm_is_incomplete(tmp_path, state):
    (tmp_path / "trainer_state.json").write_text(state)
    with pytest.raises(checkpoints.Incomplete):
        checkpoints.step(tmp_path)


@pytest.mark.parametrize("note", [
    {"settings": {}, "step": "../../victim"}, {"step": 1}, [], 5, {"settings": 1, "step": 1},
])  # fmt: skip
def test_an_unpublished_checkpoint_is_named_by_a_number(store, tmp_path, note):
    (tmp_path / checkpoints.UNPUBLISHED).write_text(json.dumps(note))
    assert checkpoints.unpublished(store, "r", tmp_path, {}) is None


def test_a_folder_is_not_a_file_of_a_checkpoint(stopped):
    folder = stopped / "work" / "r" / "checkpoint-1"
    (folder / "scheduler.pt").unlink()
    (folder / "scheduler.pt").mkdir()
    with pytest.raises(checkpoints.Incomplete, match=r"lacks scheduler.pt"):
        checkpoints.check(folder)


def test_linked_files_of_a_checkpoint_are_published_whole(stopped):
    folder, store = stopped / "work" / "r" / "checkpoint-1", open_store(stopped / "store")
    settings = store.open_files("checkpoint_r").metadata["settings"]
    (folder / "hard.bin").hardlink_to(folder / "optimizer.pt")
    (folder / "soft.bin").symlink_to(folder / "optimizer.pt")
    checkpoints.publish(store, "r", folder, settings)
    found = checkpoints.latest_valid(store, "r", stopped / "again", settings)
    expected = (folder / "optimizer.pt").read_bytes()
    for name in ("optimizer.pt", "hard.bin", "soft.bin"):
        assert (found / name).read_bytes() == expected and not (found / name).is_symlink()
