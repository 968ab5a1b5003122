"""Checkpoints: incomplete ones are noticed, two generations are kept."""

import json
import os

import pytest

from lab2_whisper.training import checkpoints
from lab2_whisper.training.loop import train
from labstore import NotWritable


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
