"""Shards: what is kept, what is dropped, interruptions, a full disk, processes, real voices."""

import csv
import errno
import os
import signal
import subprocess
import sys
import time
import unicodedata
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from helpers.speech import DIGITS, line, mp3, needs_digits, release, tone, wav
from hypothesis import given
from hypothesis import strategies as st

from lab2_whisper import audio
from lab2_whisper.features import shards as features
from lab2_whisper.features import stored
from lab2_whisper.features.clips import Recipe
from lab2_whisper.features.report import describe
from lab2_whisper.features.shards import build_corpus
from lab2_whisper.features.sources import common_voice, nano, own_recordings
from lab2_whisper.features.stored import mix, open_corpus
from lab2_whisper.schema import COLUMNS, LabError
from lab2_whisper.text import normalise, text_problem
from labstore import NotFound, StoreError, open_store
from labstore.files import FileStore

ROOT = Path(__file__).parents[3]


@pytest.fixture
def store(tmp_path):
    return open_store(tmp_path / "store")


@pytest.fixture
def speech(tmp_path):
    """A release of 40 whole clips of 1 s."""
    lines = [line(f"{i}.mp3", f"Zdanie numer {i}", f"s{i % 5}") for i in range(40)]
    clips = {f"{i}.mp3": mp3(1, pitch=100 + 10 * i) for i in range(40)}
    tables = {"train": lines[:30], "dev": lines[30:35], "test": lines[35:]}
    return common_voice(release(tmp_path, tables, clips))


def build(store, source, name="corpus", **options):
    recipe = options.pop("recipe", Recipe())
    return build_corpus(store, source, name, recipe, **{"processes": 1, **options})


@pytest.mark.parametrize("codec", ["opus", "source"])
def test_a_corpus_there_and_back(store, speech, codec):
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


def test_opus_is_asked_for_by_bitrate_and_complexity(store, speech):
    sizes = [
        sum(map(len, open_corpus(store, name)["audio"]))
        for name, bitrate in [("low", 12_000), ("high", 48_000)]
        if build(store, speech, name, recipe=Recipe(bitrate=bitrate, complexity=3))
    ]
    assert sizes[1] > 2 * sizes[0]
    for wrong in ({"codec": "flac"}, {"bitrate": 1}, {"complexity": 11}, {"max_seconds": 31}):
        with pytest.raises(LabError):
            Recipe(**wrong)


BAD_SOUNDS = {
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
    "latin1": ("Za\udcbf", "characters outside the language"),
}


@pytest.mark.parametrize("codec", ["opus", "source"])
def test_every_bad_clip_is_dropped_counted_and_listed(store, tmp_path, codec):
    lines = [line(f"{name}.mp3") for name in [*BAD_SOUNDS, "absent", "stereo", "good"]]
    lines += [line(f"{n}.mp3", text.replace("\udcbf", "\ufffd")) for n, (text, _) in
              BAD_TEXTS.items()]  # fmt: skip
    lines += [line("../../climb.mp3"), line("tab.mp3", "a\tb")]
    clips = {f"{name}.mp3": data for name, (data, _) in BAD_SOUNDS.items()}
    stereo = np.stack([tone(1, 48_000)] * 2, axis=1)
    clips |= {"good.mp3": mp3(1), "stereo.mp3": wav(stereo, 48_000)}
    made = build(store, common_voice(release(tmp_path, {"train": lines}, clips)),
                 recipe=Recipe(codec))  # fmt: skip
    with (made.path / "dropped.tsv").open(encoding="utf-8") as file:
        rows = list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))
    expected = {name: reason for name, (_, reason) in {**BAD_SOUNDS, **BAD_TEXTS}.items()}
    expected |= {"absent": "listed but absent", "../../climb": "path outside the folder"}
    expected |= {f"train.tsv:{len(lines) + 1}": "malformed line"}  # the last, below the head
    assert {row["clip_id"]: row["reason"] for row in rows} == expected
    assert sum(made.metadata["dropped"].values()) == len(expected)
    assert sorted(open_corpus(store, "corpus")["clip_id"]) == ["good", "stereo"]


def test_a_corpus_of_which_nothing_is_left(store, tmp_path):
    home = release(tmp_path, {"train": [line("a.mp3"), line("b.mp3", "")]}, {})
    with pytest.raises(LabError, match=r"No clip of .*empty text 1, listed but absent 1"):
        build(store, common_voice(home))
    with pytest.raises(NotFound):
        open_corpus(store, "corpus")


def test_a_shard_of_which_nothing_is_left(store, tmp_path):
    lines = [line(f"{i}.mp3") for i in range(100)]
    clips = {f"{i}.mp3": mp3(0.5) if i < 70 else b"text" for i in range(100)}
    made = build(store, common_voice(release(tmp_path, {"train": lines}, clips)), shard_mb=0.01)
    last = store.open_files(*made.metadata["shards"][-1])
    assert last.metadata["clips"] == 0
    assert len(open_corpus(store, "corpus", "train")) == 70
    assert made.metadata["dropped"] == {"undecodable audio": 30}


def test_a_bad_name_is_refused_before_the_work(store):
    with pytest.raises(StoreError, match="not a valid name in a store"):
        build(store, None, "Nano PL")


def test_text_is_nfc():
    assert normalise(unicodedata.normalize("NFD", "Zażółć\tgęślą ")) == "Zażółć gęślą"
    assert text_problem(normalise(unicodedata.normalize("NFD", "Zażółć")), "pl") is None


@pytest.mark.parametrize("text", ["„Tak” - 5% z 20°, 'no'… quiz & vox?", "2 + 2 = 4 €"])
def test_what_polish_people_write_is_let_in(text):
    assert text_problem(text, "pl") is None


@pytest.mark.parametrize(
    ("text", "locale"), [("Grüß Gott", "de"), ("Привет", "uk"), ("你好", "zh")]
)
def test_other_locales_have_their_letters(text, locale):
    assert text_problem(text, locale) is None


@given(st.text())
def test_any_text_is_kept_or_has_a_reason(text):
    assert text_problem(normalise(text), "pl") in (
        None, "empty text", "characters outside the language",
    )  # fmt: skip


def test_processes_give_what_one_gives(store, speech):
    build(store, speech, "one", processes=1, shard_mb=0.05)
    build(store, speech, "two", processes=2, shard_mb=0.05)
    assert open_corpus(store, "one").to_list() == open_corpus(store, "two").to_list()


def test_the_archive_gives_what_the_folder_gives(store, speech, tmp_path):
    import tarfile

    archive = tmp_path / "cv-corpus-26.0.tar.gz"
    with tarfile.open(archive, "w:gz") as tar:
        tar.add(speech.folder.parent, "cv-corpus-26.0")
    build(store, speech, "unpacked")
    build(store, common_voice(archive), "packed", shard_mb=0.05)
    rows = [{row["clip_id"]: row for row in open_corpus(store, name)} for name in
            ("unpacked", "packed")]  # fmt: skip
    assert rows[0] == rows[1]


def test_shards_are_of_about_the_size_asked_for(store, speech):
    made = build(store, speech, shard_mb=0.05)
    paths = [store.open_files(*shard).path / "clips.arrow" for shard in made.metadata["shards"]]
    sizes = [path.stat().st_size for path in paths]
    assert len(sizes) > 2
    assert all(0.03e6 < size < 0.07e6 for size in sizes[:-1])


def test_each_shard_has_a_manifest(store, speech):
    import json

    made = build(store, speech)
    shard = store.open_files(*made.metadata["shards"][0])
    assert shard.metadata["clips"] == 40
    assert shard.metadata["dropped"] == {}
    manifest = json.loads((shard.path / "manifest.json").read_text())
    assert len(manifest["files"]["clips.arrow"]["sha256"]) == 64


def test_running_again_makes_nothing_new(store, speech):
    first = build(store, speech, shard_mb=0.05)
    assert build(store, speech, shard_mb=0.05).version == first.version


def test_mended_recordings_are_read_anew(store, tmp_path):
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


def test_source_bytes_know_no_bitrate(store, speech):
    first = build(store, speech, recipe=Recipe("source"))
    assert build(store, speech, recipe=Recipe("source", 24_000, 5)).version == first.version
    assert "bitrate" not in first.metadata["recipe"]


def test_few_batches_wait_for_the_processes(speech):
    """Two for each process, however many cores there are."""
    submitted, results = [], mock.Mock()
    executor = mock.Mock(submit=lambda *_: submitted.append(1) or results)
    plan = features.plan_corpus(speech, "corpus")
    sounds = iter(range(20 * features.BATCH))
    next(features._prepared(plan, sounds, features._Pool(executor, 3)))
    assert len(submitted) == 6


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
from lab2_whisper.features import shards as features
from lab2_whisper.features.sources import nano
from labstore import open_store

if __name__ == "__main__":
    features.build_corpus(open_store(sys.argv[1]), nano(), "nano_pl", processes=2, shard_mb=0.2)
"""


def test_after_a_kill_it_goes_on_where_it_was(store, tmp_path):
    script = tmp_path / "build.py"
    script.write_text(KILLED)
    command = [sys.executable, str(script), str(store.root)]
    process = subprocess.Popen(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)},
        stderr=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    shards = store.root / "files"
    deadline = time.monotonic() + 60
    while len(list(shards.glob("*/*/manifest.json"))) < 3 and time.monotonic() < deadline:
        time.sleep(0.02)
    os.killpg(process.pid, signal.SIGKILL)
    process.wait()
    done = {path.parent for path in shards.glob("*/*/manifest.json")}
    assert 3 <= len(done) < 15
    with pytest.raises(NotFound):
        open_corpus(store, "nano_pl")

    made = build(store, nano(), "nano_pl", shard_mb=0.2)
    versions = {store.root / "files" / name / v for name, v in made.metadata["shards"]}
    assert done < versions  # every shard made before the kill is used
    whole = open_store(tmp_path / "whole")
    build(whole, nano(), "nano_pl", shard_mb=0.2)
    assert open_corpus(store, "nano_pl").to_list() == open_corpus(whole, "nano_pl").to_list()


def test_a_full_disk_is_one_sentence_and_the_store_stays_readable(store, speech, monkeypatch):
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
def test_a_disk_that_refuses_to_write(tmp_path, speech):
    """The same with a real failing write: no file may grow past 20 kB."""
    script = tmp_path / "limited.py"
    script.write_text(
        "import resource, signal, sys\n"
        "from lab2_whisper import schema\n"
        "from lab2_whisper.features import shards as features, sources as corpora\n"
        "from labstore import open_store\n"
        "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))\n"
        "try:\n"
        "    features.build_corpus(open_store(sys.argv[1]), corpora.common_voice(sys.argv[2]),\n"
        "                          'corpus', processes=1)\n"
        "except schema.LabError as error:\n"
        "    print(error)\n"
    )
    command = [sys.executable, str(script), str(tmp_path / "s"), str(speech.folder.parent)]
    answer = subprocess.run(
        command, cwd=ROOT, env={**os.environ, "PYTHONPATH": str(ROOT)}, capture_output=True,
        text=True, check=True, timeout=120,
    )  # fmt: skip
    assert "Free some space" in answer.stdout


def die(batch, recipe):
    os._exit(1)


def test_a_worker_that_dies(store, speech, monkeypatch):
    monkeypatch.setattr(features, "_clips_per_shard", lambda *_: 100)
    monkeypatch.setattr(features, "prepare", die)
    with pytest.raises(LabError, match="worker process died"):
        build(store, speech, processes=2, shard_mb=200)


def test_a_copy_for_a_slow_drive(store, speech, tmp_path):
    build(store, speech)
    copied = open_corpus(store, "corpus", "train", cache_dir=tmp_path / "local")
    (file,) = (tmp_path / "local").iterdir()
    assert copied.cache_files[0]["filename"] == str(file)
    assert len(open_corpus(store, "corpus", "train", cache_dir=tmp_path / "local")) == 30


def test_a_copy_to_a_full_disk_leaves_nothing(store, speech, tmp_path, monkeypatch):
    build(store, speech)

    def full(source, target):
        Path(target).write_bytes(b"part")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(stored.shutil, "copyfile", full)
    with pytest.raises(LabError, match=r"No space left on device.*cache_dir"):
        open_corpus(store, "corpus", cache_dir=tmp_path / "local")
    assert not list((tmp_path / "local").iterdir())


def test_corpora_mix_by_weight_without_a_copy(store, speech):
    build(store, speech, "a")
    build(store, nano(), "b")
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


def test_names_that_are_no_corpus(store, speech, tmp_path):
    build(store, speech)
    with pytest.raises(LabError, match="none of train, validation, test"):
        open_corpus(store, "corpus", "dev")
    (tmp_path / "x").mkdir()
    (tmp_path / "x" / "x.txt").write_text("x")
    store.save_files("other", tmp_path / "x", {})
    with pytest.raises(LabError, match="'other' is no corpus"):
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
    assert report.plot_lengths().axes


@needs_digits
def test_real_voices_run_through_as_own_recordings(store, tmp_path):
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
