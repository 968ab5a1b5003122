"""The command line: it transcribes many files, and goes on after one that fails."""

import io
import json
import os
import re
import shutil
import subprocess
import sys

import numpy as np
import pytest
import webvtt
from helpers.media import BAD, film
from helpers.speech import wav

from lab2_whisper.inference import __main__ as command_line
from lab2_whisper.inference.segments import Segment
from lab2_whisper.schema import NANO_CORPUS, NANO_MODEL

CLIPS = sorted(NANO_CORPUS.rglob("*.mp3"))
FORMS = ("vtt", "srt", "txt", "json")


@pytest.fixture(scope="module")
def done(tmp_path_factory, published_nano):
    """One real run, in a process of its own: good files and bad ones, in mixed order."""
    folder = tmp_path_factory.mktemp("recordings")
    for name, clip in (("zażółć gęślą.mp3", CLIPS[0]), ("b.mp3", CLIPS[1])):
        (folder / name).write_bytes(clip.read_bytes())
    (folder / "notes.mp3").write_text("to nie jest nagranie\n" * 100)
    (folder / "silence.wav").write_bytes(wav(np.zeros(32_000, np.float32)))
    names = ["zażółć gęślą.mp3", "notes.mp3", "gone.mp3", "silence.wav", "b.mp3"]
    options = ["--model", published_nano, "--into", folder / "texts"]
    command = [sys.executable, "-m", "lab2_whisper.inference", *(folder / n for n in names)]
    environment = os.environ | {"PYTHONUTF8": "1", "HF_HUB_OFFLINE": "1"}
    run = subprocess.run(
        [*command, *options], capture_output=True, text=True, check=False, env=environment
    )
    return folder / "texts", run


def test_good_files_get_all_four_formats_and_bad_ones_a_sentence(done):
    texts, run = done
    assert run.returncode == 1
    assert re.search(r"notes\.mp3: This is not audio that can be read", run.stderr)
    assert re.search(r"gone\.mp3: There is no file", run.stderr)
    assert re.search(r"silence\.wav: no speech was found", run.stderr)
    assert "Traceback" not in run.stderr
    names = {f"{stem}.{form}" for stem in ("zażółć gęślą", "b", "silence") for form in FORMS}
    assert {path.name for path in texts.iterdir()} == names
    assert {line.rpartition("/")[2] for line in run.stdout.splitlines()} == names


def test_no_recording_makes_a_connection(tmp_path):
    """Watched by strace, as Python does not see what libav and onnxruntime do."""
    if (
        not shutil.which("strace")
        or subprocess.run(["strace", "-qq", "true"], check=False).returncode
    ):
        pytest.skip("needs strace (on Debian: apt-get install strace), and leave to use it")
    lists = {
        "list.mp3": "ffconcat version 1.0\nfile 'http://127.0.0.1:9/a.wav'\n",
        "playlist.mp3": "#EXTM3U\n#EXTINF:5,\nhttp://127.0.0.1:9/a.ts\n#EXT-X-ENDLIST\n",
    }
    contents = {name: content for name, (content, _) in BAD.items()}
    contents |= {name: text.encode() for name, text in lists.items()}
    contents["silent.mp4"] = film(1, None, tmp_path, "film.mp4")
    contents["good.mp3"] = CLIPS[0].read_bytes()
    for number, content in enumerate(contents.values()):
        (tmp_path / f"{number}.mp3").write_bytes(content)
    links = ["file:///etc/passwd", "http://127.0.0.1:9/a.mp3"]
    command = ["strace", "-f", "-qq", "--seccomp-bpf", "-e", "trace=connect,sendto,sendmsg"]
    command += ["-o", tmp_path / "calls", sys.executable, "-m", "lab2_whisper.inference", *links]
    command += [*tmp_path.glob("*.mp3"), "--model", NANO_MODEL, "--into", tmp_path / "texts"]
    run = subprocess.run(command, capture_output=True, text=True, check=False)
    assert run.returncode == 1 and "Traceback" not in run.stderr
    assert (
        run.stderr.count(".mp3: ") == len(contents) - 1 + 1
    )  # without the good one, with one of the links
    assert {path.suffix[1:] for path in (tmp_path / "texts").iterdir()} == set(FORMS)
    calls = (tmp_path / "calls").read_text()
    assert "AF_INET" not in calls, calls


def test_all_formats_hold_the_same_text(done):
    texts, _ = done
    for stem in ("zażółć gęślą", "b"):
        read = {form: (texts / f"{stem}.{form}").read_text(encoding="utf-8") for form in FORMS}
        captions = webvtt.from_string(read["vtt"], strict=True).captions
        cues = json.loads(read["json"])
        assert len(read["txt"].split()) >= 2
        assert " ".join(c.text for c in captions).split() == read["txt"].split()
        assert " ".join(cue["text"] for cue in cues).split() == read["txt"].split()
        assert all(cue["end"] < 30 for cue in cues)
    assert (texts / "silence.txt").read_text() == ""


@pytest.fixture
def no_model(monkeypatch):
    """Replace the model: the text of a recording is the content of its file."""

    class Model:
        def check(self, language):
            pass

    def read(file, *args, on_progress, **kwargs):
        on_progress(0, None)
        yield Segment(0, 1, file.read_bytes().decode(), (), 1)
        on_progress(1, 1)

    monkeypatch.setattr(command_line, "load", lambda model: Model())
    monkeypatch.setattr(command_line, "transcribe", read)
    return monkeypatch


def record(folder, *names):
    paths = [folder / name for name in names]
    for path in paths:
        path.write_bytes(f"tu {path.name}".encode())
    return [str(path) for path in paths]


def test_outputs_lie_beside_their_files_in_the_formats_given(no_model, tmp_path, capsys):
    files = record(tmp_path, "a.mp3", "b.wav")
    (tmp_path / "a.vtt").write_text("old")
    assert command_line.main([*files, "--formats", "vtt, TXT"]) == 0
    assert sorted(p.name for p in tmp_path.iterdir()) == [
        "a.mp3",
        "a.txt",
        "a.vtt",
        "b.txt",
        "b.vtt",
        "b.wav",
    ]
    assert (tmp_path / "a.txt").read_text() == "tu a.mp3\n"
    assert "tu a.mp3" in (tmp_path / "a.vtt").read_text()


def test_a_file_that_fails_midway_keeps_its_old_text_and_the_next_is_transcribed(
    no_model, tmp_path, capsys
):
    files = record(tmp_path, "a.mp3", "b.mp3")
    (tmp_path / "a.txt").write_text("old")
    read = command_line.transcribe

    def fail(file, *args, **kwargs):
        yield from read(file, *args, **kwargs)
        if file.name == "a.mp3":
            raise MemoryError("too much")

    no_model.setattr(command_line, "transcribe", fail)
    assert command_line.main([*files, "--formats", "txt"]) == 1
    assert "a.mp3: MemoryError: too much" in capsys.readouterr().err
    assert (tmp_path / "a.txt").read_text() == "old"
    assert (tmp_path / "b.txt").read_text() == "tu b.mp3\n"
    assert len(list(tmp_path.iterdir())) == 4


def test_a_bug_is_not_reported_as_a_fault_of_the_file(no_model, tmp_path, capsys):
    def broken(file, *args, **kwargs):
        raise TypeError("unexpected keyword")
        yield

    no_model.setattr(command_line, "transcribe", broken)
    assert command_line.main(record(tmp_path, "a.mp3")) == 1
    printed = capsys.readouterr().err
    assert "a.mp3: TypeError: unexpected keyword" in printed
    assert "Traceback" in printed and "bug in the program, not a fault of the file" in printed


def test_a_full_disk_leaves_no_partial_file(no_model, tmp_path, capsys):
    (file,) = record(tmp_path, "a.mp3")

    def full(self, text, **kwargs):
        with open(self, "w", encoding="utf-8") as half:
            half.write(text[:3])
        raise OSError(28, "No space left on device")

    no_model.setattr(command_line.Path, "write_text", full)
    assert command_line.main([file, "--formats", "vtt"]) == 1
    assert "No space left" in capsys.readouterr().err
    assert [p.name for p in tmp_path.iterdir()] == ["a.mp3"]


def test_after_ctrl_c_the_files_written_so_far_are_complete(no_model, tmp_path, capsys):
    files = record(tmp_path, "a.mp3", "b.mp3")
    read = command_line.transcribe

    def interrupted(file, *args, **kwargs):
        if file.name == "b.mp3":
            raise KeyboardInterrupt
        yield from read(file, *args, **kwargs)

    no_model.setattr(command_line, "transcribe", interrupted)
    assert command_line.main([*files, "--formats", "txt"]) == 130
    assert sorted(p.name for p in tmp_path.iterdir()) == ["a.mp3", "a.txt", "b.mp3"]


def test_a_bar_shows_the_file_and_its_progress(no_model, tmp_path):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    files, terminal = record(tmp_path, "a.mp3", "b.mp3"), Terminal()
    no_model.setattr(sys, "stderr", terminal)
    assert command_line.main(files) == 0
    assert "1/2 a.mp3 |" in terminal.getvalue()
    assert re.search(r"2/2 b\.mp3 \|[^|]+\| 1/1 s of sound", terminal.getvalue())


@pytest.mark.parametrize("names", [("a.mp3", "a.wav"), ("a.vtt",), ("a.vtt", "a.mp3")])
def test_no_output_replaces_another_or_a_recording(no_model, tmp_path, capsys, names):
    files = record(tmp_path, *names)
    assert command_line.main(files) == 1
    assert "would replace" in capsys.readouterr().err
    assert len(list(tmp_path.iterdir())) == len(names)


def test_errors_in_options_name_the_valid_ones(tmp_path, capsys):
    with pytest.raises(SystemExit, match="2"):
        command_line.main(["a.mp3", "--formats", "vtt,doc"])
    assert "'doc' must be one of vtt, srt, txt, json" in capsys.readouterr().err
    assert command_line.main(["a.wav", "--model", str(tmp_path / "none")]) == 1
    assert str(tmp_path / "none") in capsys.readouterr().err
