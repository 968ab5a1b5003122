"""Shards: what is stored, what is dropped; kills, a full disk, worker processes, real voices."""

import csv
import errno
import json
import multiprocessing
import os
import signal
import subprocess
import sys
import tarfile
import time
from concurrent.futures import Future
from pathlib import Path

import numpy as np
import pytest
from helpers.speech import DIGITS, line, mp3, needs_digits, release, tone, wav

from lab2_whisper import audio
from lab2_whisper.features import shards, stored
from lab2_whisper.features.clips import Recipe
from lab2_whisper.features.report import describe
from lab2_whisper.features.shards import build_corpus
from lab2_whisper.features.sources import Source, common_voice, nano, own_recordings
from lab2_whisper.features.stored import mix, open_corpus
from lab2_whisper.schema import COLUMNS, NANO_CORPUS, LabError
from labstore import NotFound, StoreError, open_store
from labstore.files import FileStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


@pytest.fixture(scope="module")
def speech(tmp_path_factory) -> Source:
    """A release of 40 whole clips of 1 s; no test changes it."""
    lines = [line(f"{i}.mp3", f"Zdanie numer {i}", f"s{i % 5}") for i in range(40)]
    clips = {f"{i}.mp3": mp3(1, pitch=100 + 10 * i) for i in range(40)}
    tables = {"train": lines[:30], "dev": lines[30:35], "test": lines[35:]}
    return common_voice(release(tmp_path_factory.mktemp("speech"), tables, clips))


def build(store, source, name="corpus", **options):
    recipe = options.pop("recipe", Recipe())
    return build_corpus(store, source, name, recipe, **{"processes": 1, **options})


@pytest.mark.parametrize("codec", ["opus", "source"])
def test_a_stored_corpus_has_the_clips_of_its_source(store, speech, codec):
    made = build(store, speech, recipe=Recipe(codec))
    clips = open_corpus(store, "corpus")
    assert clips.column_names == list(COLUMNS)
    assert made.metadata["clips"] == len(clips) == 40
    assert made.metadata["seconds"] == pytest.approx(40, abs=2)
    assert len(open_corpus(store, "corpus", "test")) == 5
    row = clips[7]
    assert (row["text"], row["split"], row["locale"]) == ("Zdanie numer 7", "train", "pl")
    assert len(audio.decode(row["audio"])) / 16_000 == pytest.approx(row["seconds"], abs=0.1)
    original = dict(speech.read(speech.listing()[0]))
    if codec == "source":
        assert all(row["audio"] in original.values() for row in clips)
    assert str(describe(clips))


def test_a_recipe_sets_opus_bitrate_and_complexity(store, speech):
    sizes = [
        sum(map(len, open_corpus(store, name)["audio"]))
        for name, bitrate in [("low", 12_000), ("high", 48_000)]
        if build(store, speech, name, recipe=Recipe(bitrate=bitrate, complexity=3))
    ]
    assert sizes[1] > 2 * sizes[0]
    for wrong in ({"codec": "flac"}, {"bitrate": 1}, {"complexity": 11}, {"max_seconds": 31}):
        with pytest.raises(LabError):
            Recipe(**wrong)


BAD_AUDIO = {
    "zero": (b"", "empty file"),
    "text": (b"to jest tekst\n" * 100, "undecodable audio"),
    "truncated": (mp3(4)[: len(mp3(4)) // 2], "cut short"),
    "blip": (wav(tone(0.05)), "too short"),
    "long": (mp3(31, 16_000), "too long"),
    "hours": (wav(np.zeros(3600 * 4_000, np.int16), 4_000), "too long"),
    "slow": (wav(tone(2, 1_000), 1_000), "undecodable audio"),  # 1,000 samples a second
    "video": (b"\0\0\0\x18ftypmp42" + bytes(100), "undecodable audio"),
}
BAD_TEXTS = {
    "silent": ("  ... ", "empty text"),
    "cyrillic": ("Привет", "characters outside the language"),
    "emoji": ("Cześć 😀", "characters outside the language"),
    "latin1": ("Za\ufffd", "characters outside the language"),
}


@pytest.mark.parametrize("codec", ["opus", "source"])
def test_every_bad_clip_is_dropped_counted_and_listed(store, tmp_path, codec):
    lines = [line(f"{name}.mp3") for name in [*BAD_AUDIO, "absent", "stereo", "good"]]
    lines += [line(f"{name}.mp3", text) for name, (text, _) in BAD_TEXTS.items()]
    lines += [line("../../climb.mp3"), line("tab.mp3", "a\tb")]
    clips = {f"{name}.mp3": data for name, (data, _) in BAD_AUDIO.items()}
    stereo = np.stack([tone(1, 48_000)] * 2, axis=1)
    clips |= {"good.mp3": mp3(1), "stereo.mp3": wav(stereo, 48_000)}
    made = build(store, common_voice(release(tmp_path, {"train": lines}, clips)),
                 recipe=Recipe(codec))  # fmt: skip
    with (made.path / "dropped.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    expected = {name: reason for name, (_, reason) in {**BAD_AUDIO, **BAD_TEXTS}.items()}
    expected |= {"absent": "listed but absent", "../../climb": "path outside the folder"}
    expected |= {f"train.tsv:{len(lines) + 1}": "malformed line"}  # the last, below the header
    assert {row["clip_id"]: row["reason"] for row in rows} == expected
    assert sum(made.metadata["dropped"].values()) == len(expected)
    assert sorted(open_corpus(store, "corpus")["clip_id"]) == ["good", "stereo"]


def test_a_source_without_a_usable_clip_is_refused(store, tmp_path):
    home = release(tmp_path, {"train": [line("a.mp3"), line("b.mp3", "")]}, {})
    with pytest.raises(LabError, match=r"No clip of .*empty text 1, listed but absent 1"):
        build(store, common_voice(home))
    with pytest.raises(NotFound):
        open_corpus(store, "corpus")


def test_a_shard_without_a_usable_clip_is_stored_empty(store, tmp_path):
    lines = [line(f"{i}.mp3") for i in range(100)]
    whole = mp3(0.5)
    clips = {f"{i}.mp3": whole if i < 70 else b"text" for i in range(100)}
    made = build(store, common_voice(release(tmp_path, {"train": lines}, clips)), shard_mb=0.01)
    last = store.open_files(*made.metadata["shards"][-1])
    assert last.metadata["clips"] == 0
    assert len(open_corpus(store, "corpus", "train")) == 70
    assert made.metadata["dropped"] == {"undecodable audio": 30}


def test_a_bad_name_is_refused_before_the_work(store):
    with pytest.raises(StoreError, match="not a valid name in a store"):
        build(store, None, "Nano PL")


def test_two_processes_store_what_one_stores(store, speech):
    build(store, speech, "one", processes=1, shard_mb=0.05)
    build(store, speech, "two", processes=2, shard_mb=0.05)
    assert open_corpus(store, "one").to_list() == open_corpus(store, "two").to_list()


def test_an_archive_gives_the_same_corpus_as_its_folder(store, speech, tmp_path):
    archive = tmp_path / "cv-corpus-26.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(speech.folder.parent, "cv-corpus-26.0")
    build(store, speech, "unpacked")
    build(store, common_voice(archive), "packed", shard_mb=0.05)
    rows = [{row["clip_id"]: row for row in open_corpus(store, name)} for name in
            ("unpacked", "packed")]  # fmt: skip
    assert rows[0] == rows[1]


def test_shards_have_about_the_size_asked_for(store, speech):
    made = build(store, speech, shard_mb=0.05)
    paths = [store.open_files(*shard).path / "clips.arrow" for shard in made.metadata["shards"]]
    sizes = [path.stat().st_size for path in paths]
    assert len(sizes) > 2
    assert all(0.03e6 < size < 0.07e6 for size in sizes[:-1])


def test_each_shard_has_a_manifest(store, speech):
    made = build(store, speech)
    shard = store.open_files(*made.metadata["shards"][0])
    assert shard.metadata["clips"] == 40
    assert shard.metadata["dropped"] == {}
    manifest = json.loads((shard.path / "manifest.json").read_text())
    assert len(manifest["files"]["clips.arrow"]["sha256"]) == 64


def test_running_again_returns_the_same_version(store, speech):
    first = build(store, speech, shard_mb=0.05)
    assert build(store, speech, shard_mb=0.05).version == first.version


def test_recordings_that_were_replaced_are_read_again(store, tmp_path):
    (tmp_path / "metadata.csv").write_text("file,text\na.wav,raz\nb.wav,dwa\n")
    (tmp_path / "a.wav").write_bytes(wav(tone(1)))
    first = build(store, own_recordings(tmp_path))
    assert first.metadata["dropped"] == {"listed but absent": 1}
    (tmp_path / "a.wav").write_bytes(wav(tone(2)))
    (tmp_path / "b.wav").write_bytes(wav(tone(3)))
    second = build(store, own_recordings(tmp_path))
    assert second.metadata["dropped"] == {}
    assert open_corpus(store, "corpus")["seconds"] == pytest.approx([2, 3], abs=0.1)
    assert build(store, own_recordings(tmp_path)).version == second.version


def test_another_recipe_is_another_version(store, speech):
    first = build(store, speech)
    second = build(store, speech, recipe=Recipe("source"))
    assert second.version != first.version
    assert len(open_corpus(store, "corpus", version=first.version)) == 40


def test_opus_settings_do_not_affect_source_bytes(store, speech):
    first = build(store, speech, recipe=Recipe("source"))
    assert build(store, speech, recipe=Recipe("source", 24_000, 5)).version == first.version
    assert "bitrate" not in first.metadata["recipe"]


class CountingPool:
    """An executor of this process that counts the batches that nobody has collected yet."""

    waiting = peak = 0

    def __init__(self, processes, mp_context):
        pass

    def __enter__(self):
        return self

    def __exit__(self, *_):
        pass

    def submit(self, function, *arguments):
        future = Future()
        future.set_result(function(*arguments))
        collect = future.result
        future.result = lambda: self.count(-1) or collect()
        self.count(1)
        return future

    def count(self, step):
        CountingPool.waiting += step
        CountingPool.peak = max(CountingPool.peak, CountingPool.waiting)


def test_two_batches_for_each_process_are_in_memory(store, speech, monkeypatch):
    """However large the corpus and however many cores there are."""
    monkeypatch.setattr(shards, "ProcessPoolExecutor", CountingPool)
    monkeypatch.setattr(shards, "BATCH_CLIPS", 2)
    assert build(store, speech, processes=3).metadata["clips"] == 40
    assert (CountingPool.peak, CountingPool.waiting) == (6, 0)


def test_a_damaged_shard_is_made_again(store, speech):
    first = build(store, speech, shard_mb=0.05)
    shard = store.open_files(*first.metadata["shards"][1])
    path = shard.path / "clips.arrow"
    path.write_bytes(path.read_bytes()[:-100])
    second = build(open_store(store.root), speech, shard_mb=0.05)
    kept = [a == b for a, b in zip(first.metadata["shards"], second.metadata["shards"],
                                   strict=True)]  # fmt: skip
    assert kept.count(False) == 1
    assert len(open_corpus(store, "corpus")) == 40


KILLED = """
import sys
from lab2_whisper.features.shards import build_corpus
from lab2_whisper.features.sources import common_voice
from labstore import open_store

if __name__ == "__main__":
    store, source = open_store(sys.argv[1]), common_voice(sys.argv[2])
    build_corpus(store, source, "corpus", processes=2, shard_mb=0.06)
"""


def test_after_a_kill_it_continues_where_it_stopped(store, tmp_path):
    """Real clips of the nano corpus, so that a shard takes long enough to be killed in time."""
    clips = sorted((NANO_CORPUS / "pl" / "clips").iterdir())[:160]
    lines = [line(clip.name, "Raz dwa", f"s{i % 9}") for i, clip in enumerate(clips)]
    contents = {clip.name: clip.read_bytes() for clip in clips}
    home = release(tmp_path, {"train": lines}, contents)
    script = tmp_path / "build.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(store.root), str(home)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    folder = store.root / "files"
    deadline = time.monotonic() + 60
    while len(list(folder.glob("*/*/manifest.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.01)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.parent for path in folder.glob("*/*/manifest.json")}
    with pytest.raises(NotFound):
        open_corpus(store, "corpus")

    made = build(store, common_voice(home), shard_mb=0.06)
    versions = {folder / name / version for name, version in made.metadata["shards"]}
    assert 3 <= len(done) < len(versions)
    assert done < versions  # every shard made before the kill is used
    whole = open_store(tmp_path / "whole")
    build(whole, common_voice(home), shard_mb=0.06)
    assert open_corpus(store, "corpus").to_list() == open_corpus(whole, "corpus").to_list()


def test_a_full_disk_is_a_clear_error_and_the_store_stays_readable(store, speech, monkeypatch):
    build(store, speech, "before")
    copied, real = [], FileStore._copy

    def full(self, source, target):
        copied.append(target)
        if len(copied) > 3:
            raise OSError(errno.ENOSPC, "No space left on device")
        return real(self, source, target)

    with monkeypatch.context() as patch:
        patch.setattr(FileStore, "_copy", full)
        with pytest.raises(LabError, match=r"No space left on device.*Free some space"):
            build(store, speech, shard_mb=0.05)
    assert len(open_corpus(store, "before")) == 40
    assert build(store, speech, shard_mb=0.05).metadata["clips"] == 40


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs limits of a Unix process")
def test_a_write_that_really_fails_is_a_clear_error(tmp_path, speech):
    """No file may grow past 20 kB, as on a full disk."""
    script = tmp_path / "limited.py"
    script.write_text(
        "import resource, signal, sys\n"
        "from lab2_whisper import schema\n"
        "from lab2_whisper.features import shards, sources\n"
        "from labstore import open_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        "    shards.build_corpus(open_store(sys.argv[1]), sources.common_voice(sys.argv[2]),\n"
        "                        'corpus', processes=1)\n"
        "except schema.LabError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "s"), str(speech.folder.parent)]
    answer = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "Free some space" in answer.stdout


class KillingSource:
    """A source that kills the worker processes while it is read."""

    def __init__(self, source: Source):
        self.source, self.name, self.locale = source, source.name, source.locale
        self.listing = source.listing

    def read(self, clips):
        for item in self.source.read(clips):
            yield item
            for worker in multiprocessing.active_children():
                if isinstance(worker, multiprocessing.context.SpawnProcess):  # not other tests'
                    worker.kill()


def test_a_worker_that_dies_is_a_clear_error(store, speech):
    with pytest.raises(LabError, match="worker process died"):
        build(store, KillingSource(speech), processes=2)


def test_shards_are_copied_once_to_a_local_folder(store, speech, tmp_path):
    build(store, speech)
    copied = open_corpus(store, "corpus", "train", cache_dir=tmp_path / "local")
    (file,) = (tmp_path / "local").iterdir()
    assert copied.cache_files[0]["filename"] == str(file)
    assert len(open_corpus(store, "corpus", "train", cache_dir=tmp_path / "local")) == 30


def test_a_copy_that_fills_the_disk_leaves_no_partial_file(store, speech, tmp_path, monkeypatch):
    build(store, speech)

    def full(source, target):
        Path(target).write_bytes(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stored.shutil, "copyfile", full)
    with pytest.raises(LabError, match=r"No space left on device.*cache_dir"):
        open_corpus(store, "corpus", cache_dir=tmp_path / "local")
    assert not list((tmp_path / "local").iterdir())


def test_corpora_are_mixed_by_weight_without_a_copy(store, speech):
    build(store, speech, "a")
    build(store, nano(), "b", recipe=Recipe("source"))  # faster to make
    a, b = open_corpus(store, "a"), open_corpus(store, "b")
    mixed = mix([(a, 3), (b, 1)], seed=1)
    sources = np.array(mixed["source"])
    assert 0.7 < (sources == "cv-corpus-26.0").mean() < 0.8
    assert set(mixed["clip_id"]) == set(a["clip_id"]) | set(b["clip_id"])
    assert {f["filename"] for f in mixed.cache_files} == {
        f["filename"] for corpus in (a, b) for f in corpus.cache_files
    }
    assert mix([(a, 3), (b, 1)], seed=1)["clip_id"] == mixed["clip_id"]
    for wrong in ([], [(a, 0)], [(a, 1), (b, -1)]):
        with pytest.raises(LabError, match="weights above 0"):
            mix(wrong)


def test_wrong_splits_and_names_are_refused(store, speech, tmp_path):
    build(store, speech)
    with pytest.raises(LabError, match="split must be one of train, validation, test, not 'dev'"):
        open_corpus(store, "corpus", "dev")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.txt").write_text("x")
    store.save_files("other", tmp_path / "x", {})
    with pytest.raises(LabError, match="'other' is not a corpus"):
        open_corpus(store, "other")


def test_the_report_finds_leaks(store, tmp_path):
    tables = {
        "train": [line("a.mp3", "Ala - ma kota.", "s1"), line("b.mp3", "Dwa", "s2")],
        "test": [line("c.mp3", "ala ma kota", "s1")],
    }
    home = release(tmp_path, tables, {f"{name}.mp3": mp3(1) for name in "abc"})
    build(store, common_voice(home))
    report = describe(open_corpus(store, "corpus"))
    assert report.shared_sentences == ["ala ma kota"]
    assert report.shared_speakers == ["s1"]
    assert report.splits.loc["train", "clips"] == 2
    assert report.characters["k"] == 2


@needs_digits
def test_real_voices_are_stored_from_own_recordings(store, tmp_path):
    words = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    files = sorted(DIGITS.glob("*.wav"))[::10]
    table = tmp_path / "digits.csv"
    with table.open("w", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(["file", "text", "speaker"])
        for path in files:
            digit, speaker, _ = path.stem.split("_")
            writer.writerow([path.name, words[int(digit)], speaker])
    made = build(store, own_recordings(DIGITS, table, "en"), "digits")
    clips = open_corpus(store, "digits")
    assert made.metadata["clips"] + sum(made.metadata["dropped"].values()) == len(files) == 200
    assert set(made.metadata["dropped"]) <= {"too short"}
    assert made.metadata["clips"] > 180
    speakers = [set(open_corpus(store, "digits", s)["speaker"]) for s in ("train", "test")]
    assert all(speakers)
    assert not speakers[0] & speakers[1]
    for row in clips.select(range(0, len(clips), 20)):
        before = audio.decode((DIGITS / row["clip_id"]).read_bytes())
        after = audio.decode(row["audio"])
        # Opus keeps how it sounds, not the wave: compare loudness over time
        frames = min(len(before), len(after)) // 400
        loud = [np.abs(x[: frames * 400]).reshape(frames, 400).mean(1) for x in (before, after)]
        assert np.corrcoef(*loud)[0, 1] > 0.95
