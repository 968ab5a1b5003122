"""The Whisper page in a real browser, offline, with the nano model, and its parts without one."""

from __future__ import annotations

import contextlib
import csv
import json
import re
import shutil
import string
import threading
import time
from pathlib import Path
from unittest.mock import create_autospec

import av
import numpy as np
import pysubs2
import pytest
import webvtt
from helpers.pages import CHROMIUM_FLAGS, ROOT, free_port, serving, upload
from helpers.speech import wav
from hypothesis import given
from hypothesis import strategies as st
from playwright.sync_api import TimeoutError
from streamlit.testing.v1 import AppTest

from lab2_whisper import audio
from lab2_whisper.inference import subtitles, youtube
from lab2_whisper.inference.engines import Transcriber
from lab2_whisper.inference.media import Limits
from lab2_whisper.inference.segments import Segment
from lab2_whisper.inference.subtitles import Cue
from lab2_whisper.inference.transcribe import load, load_from_store, transcribe
from lab2_whisper.page import jobs, parts
from lab2_whisper.page.texts import ERRORS, PAGE_LANGUAGES, SPOKEN, TEXTS
from lab2_whisper.schema import (
    NANO_CORPUS,
    SAMPLE_RATE,
    LabError,
    model_of,
)
from labstore import Damaged, StoreError, open_store

SPEECHLESS = np.zeros(SAMPLE_RATE * 2, np.float32)
APP = ROOT / "lab2_whisper/app/app.py"


@pytest.fixture(scope="module")
def store(published_nano, tmp_path_factory):
    """A store's folder with that model in it."""
    folder = tmp_path_factory.mktemp("whisper") / "store"
    open_store(folder).save_model(
        model_of("nano_pl"), published_nano, {"wer": 0.5}, {"data": "nano"}
    )
    return folder


@pytest.fixture(scope="module")
def speech():
    """speech(start, count): `count` Polish sentences, each followed by a second of silence."""
    table = (NANO_CORPUS / "pl" / "test.tsv").read_text(encoding="utf-8").splitlines()
    clips = [
        NANO_CORPUS / "pl" / "clips" / row["path"] for row in csv.DictReader(table, delimiter="\t")
    ]
    silence = np.zeros(SAMPLE_RATE, np.float32)

    def join(start: int, count: int) -> np.ndarray:
        chosen = (audio.decode(clip.read_bytes()) for clip in clips[start : start + count])
        return np.concatenate([part for samples in chosen for part in (samples, silence)])

    return join


@pytest.fixture(scope="module")
def texts_of(published_nano):
    """texts_of(file): the texts that the model makes of a file, to compare with the page."""
    transcriber = load(published_nano)
    return lambda data: [segment.text for segment in transcribe(data, transcriber)]


def mp3(samples: np.ndarray) -> bytes:
    return audio.encode(samples, SAMPLE_RATE, 64_000, container="mp3", codec="libmp3lame")


@pytest.fixture(scope="module")
def long_file(speech):
    """About twelve minutes, which no machine transcribes before a button can be pressed."""
    return mp3(np.tile(speech(0, 12), 25))


TIMEOUT_MS = 120_000  # a busy machine is not an error


@pytest.fixture
def guest(browser):
    """guest(address): another visitor's page, ready to be used."""
    contexts, errors = [], []

    def come(address: str):
        context = browser.new_context(viewport={"width": 1200, "height": 900})
        context.set_default_timeout(TIMEOUT_MS)
        contexts.append(context)
        tab = context.new_page()
        tab.on("pageerror", lambda error: errors.append(str(error)))
        tab.goto(address)
        tab.get_by_test_id("stAppViewContainer").get_by_role("heading", level=1).wait_for()
        return tab

    yield come
    for context in contexts:
        context.close()
    assert not errors, errors


def streamlit(start, **env):
    port = free_port()
    command = ["-m", "streamlit", "run", str(APP), "--server.port", str(port)]
    command += ["--server.headless", "true", "--browser.gatherUsageStats", "false"]
    command += ["--server.fileWatcherType", "none", "--client.toolbarMode", "viewer"]
    return start(command, env, port)


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Where the served page keeps its visitors' folders."""
    return tmp_path_factory.mktemp("visitors")


@pytest.fixture(scope="module")
def address(store, folders, tmp_path_factory):
    """The one page that all tests share, like visitors, unless they need special settings."""
    with serving(tmp_path_factory.mktemp("page")) as start:
        yield streamlit(start, LABS_STORE=str(store), TMPDIR=str(folders), WHISPER_AWAY="1")


def row(tab, name: str):
    """The box of one recording in the list."""
    return tab.locator("[class*=st-key-job-]").filter(has=tab.get_by_text(name, exact=True))


def wait_for(tab, text: str) -> None:
    tab.get_by_text(text).first.wait_for()


def download(tab, ending: str) -> tuple[str, str]:
    """Name and content of what the button for a format gives."""
    with tab.expect_download() as info:
        tab.get_by_role("button", name=ending, exact=False).click()
    return info.value.suggested_filename, info.value.path().read_text(encoding="utf-8")


SUBTITLES = "() => [...document.querySelector('video').textTracks[0].cues ?? []].map(c => c.text)"


def wait_for_subtitle(tab, text: str) -> None:
    tab.wait_for_function(f"text => ({SUBTITLES})().includes(text)", arg=text)


COLUMNS = {
    "mark": 16,
    "play": 88,
    "start": 190,
    "end": 280,
    "text": 400,
}  # pixels from the left edge of the table


TABLE_IS_THERE = """() => document.querySelectorAll('[data-testid=stDataFrame]').length == 1 &&
    document.querySelector('[data-test-script-state]').dataset.testScriptState == 'notRunning'"""


def cell(tab, line: int, column: str) -> tuple[float, float]:
    """The place on the page of a cell in the table of cues, which is drawn on a canvas."""
    tab.wait_for_function(TABLE_IS_THERE)
    where = "table => table.getBoundingClientRect().toJSON()"
    box = tab.get_by_test_id("stDataFrame").evaluate(where)
    header, height = 36, 35
    return box["x"] + COLUMNS[column], box["y"] + header + height * (line + 0.5)


def again_and_again(tab, attempt, unless: str) -> None:
    """A click is lost while the table is being drawn, so it is repeated, as people do."""
    for _ in range(20):
        with contextlib.suppress(TimeoutError):
            attempt()
            return
        tab.keyboard.press("Escape")
    pytest.fail(unless)


def write(tab, line: int, column: str, text: str) -> None:
    """Replace the text of a cell."""
    editor = tab.locator(".gdg-input")

    def attempt():
        tab.mouse.dblclick(*cell(tab, line, column))
        editor.wait_for(timeout=2000)

    again_and_again(tab, attempt, f"line {line} could not be edited")
    editor.fill(text)
    editor.press("Enter")
    editor.wait_for(state="detached")


def remove(tab, line: int) -> None:
    """Select a row, which shows the button that deletes it."""
    button = tab.get_by_role("button", name="Delete row(s)")
    marked = tab.locator(f"tr[aria-rowindex='{line + 2}'][aria-selected=true]")

    def attempt():
        tab.mouse.click(*cell(tab, line, "mark"))
        marked.wait_for(state="attached", timeout=2000)
        button.click(timeout=2000)

    again_and_again(tab, attempt, f"line {line} could not be removed")
    button.wait_for(state="detached")


def play_from(tab, line: int, seconds: float) -> None:
    """Click a row's play button until the player is past the row's start."""
    passed = "start => document.querySelector('video').currentTime >= start - 0.01"

    def attempt():
        tab.mouse.click(*cell(tab, line, "play"))
        tab.wait_for_function(passed, arg=seconds, timeout=3000)

    again_and_again(tab, attempt, f"the player did not go to line {line}")


def test_a_polish_clip_becomes_text_subtitles_and_four_files(
    address, guest, screenshot, speech, texts_of
):
    clip = mp3(speech(0, 8))
    texts = texts_of(clip)
    tab = guest(address)
    tab.get_by_text("Polski", exact=True).click()
    wait_for(tab, "Zamiana mowy na tekst")
    upload(tab, ("rozmowa.mp3", clip))
    wait_for(tab, "Gotowe")
    tab.locator("video").wait_for()
    tab.wait_for_function(f"({SUBTITLES})().length > 0")
    shown = " ".join(" ".join(tab.evaluate(SUBTITLES)).split())
    assert shown == " ".join(texts)
    assert tab.evaluate("document.querySelector('video').duration") > 10
    assert tab.evaluate("document.querySelector('video').textTracks[0].mode") == "showing"
    wait_for(tab, "Model: whisper_nano_pl")

    write(tab, 0, "text", "Łódź <żegluje> & śpiewa.")
    wait_for_subtitle(tab, "Łódź &lt;żegluje&gt; &amp; śpiewa.")
    screenshot(tab, "whisper-pl")
    files = {ending: download(tab, ending.upper()) for ending in parts.DOWNLOADS}
    assert [name for name, _ in files.values()] == [f"rozmowa.{e}" for e in parts.DOWNLOADS]
    rest = " ".join(texts).removeprefix(texts[0]).split()
    cues = json.loads(files["json"][1])
    assert cues[0]["text"] == "Łódź <żegluje> & śpiewa."
    assert " ".join(cue["text"] for cue in cues[1:]).split() == rest
    assert files["txt"][1].split() == ["Łódź", "<żegluje>", "&", "śpiewa.", *rest]
    assert len(webvtt.from_string(files["vtt"][1])) == len(cues)
    srt = pysubs2.SSAFile.from_string(files["srt"][1])
    assert srt[0].plaintext.endswith("& śpiewa.") and len(srt) == len(cues)

    write(tab, 1, "start", "jutro")  # nothing is lost by a mistake
    wait_for(tab, "Nie można odczytać któregoś z czasów")
    assert download(tab, "JSON")[1] == files["json"][1]
    write(tab, 1, "start", f"{cues[1]['start'] + 0.25:.3f}".replace(".", ","))
    tab.get_by_text("Nie można odczytać któregoś z czasów").wait_for(state="detached")
    moved = json.loads(download(tab, "JSON")[1])
    assert moved[1]["start"] == pytest.approx(cues[1]["start"] + 0.25) and moved[0] == cues[0]

    tab.get_by_text("English", exact=True).click()  # nor by another language
    wait_for(tab, "Speech to text")
    wait_for_subtitle(tab, "Łódź &lt;żegluje&gt; &amp; śpiewa.")
    for _ in range(2):  # a second click on the same line goes back to it
        tab.evaluate("document.querySelector('video').currentTime = 0")
        play_from(tab, 2, moved[2]["start"])
    tab.locator(".spoken").get_by_text(moved[2]["text"].split("\n")[0]).wait_for()
    screenshot(tab, "whisper")


def test_rows_added_after_others_were_removed_are_kept(address, guest, speech):
    tab = guest(address)
    upload(tab, ("a.wav", wav(speech(0, 8))))
    tab.locator("video").wait_for()
    cues = json.loads(download(tab, "JSON")[1])
    remove(tab, 1)
    tab.wait_for_function(f"n => ({SUBTITLES})().length == n", arg=len(cues) - 1)
    tab.get_by_text("Polski", exact=True).click()  # the table is drawn again
    wait_for(tab, "Zamiana mowy na tekst")
    last = len(cues) - 1
    for column, text in {"start": "1:00.000", "end": "1:02.000", "text": "Dodane."}.items():
        write(tab, last, column, text)
    wait_for_subtitle(tab, "Dodane.")
    texts = [cue["text"] for cue in json.loads(download(tab, "JSON")[1])]
    assert texts == [cue["text"] for i, cue in enumerate(cues) if i != 1] + ["Dodane."]
    play_from(tab, 1, cues[2]["start"])  # the second of those that are left


def test_stop_in_the_middle_of_a_long_file(address, guest, speech, long_file):
    tab = guest(address)
    upload(tab, ("long.mp3", long_file), ("next.wav", wav(speech(0, 1))))
    row(tab, "next.wav").get_by_text("Place in the queue: 1").wait_for()
    wait_for(tab, "left")  # 0:31 of 13:34, about 0:20 left
    row(tab, "long.mp3").get_by_text(re.compile(r"^0:0\d  \S")).first.wait_for()
    row(tab, "long.mp3").get_by_role("button", name="Stop").click()
    wait_for(tab, "Stopped. The text so far is below.")
    row(tab, "next.wav").get_by_text("Done").wait_for()
    tab.get_by_role("combobox", name="Recording shown").click()
    tab.get_by_role("option", name="long.mp3").click()
    tab.wait_for_function("document.querySelector('video')?.duration > 600")
    cues = json.loads(download(tab, "JSON")[1])
    assert cues and cues[-1]["end"] < 500


def test_two_visitors_at_once_see_their_own(address, guest, speech, texts_of, long_file):
    ours, theirs = guest(address), guest(address)
    clip = wav(speech(20, 2))
    upload(ours, ("ours.mp3", long_file))
    row(ours, "ours.mp3").get_by_text(re.compile(r"^0:0\d  \S")).first.wait_for()
    upload(theirs, ("theirs.wav", clip))
    row(theirs, "theirs.wav").get_by_text("Place in the queue: 1").wait_for()
    ours.get_by_role("button", name="Stop").click()
    wait_for(theirs, "Done")
    theirs.locator("video").wait_for()
    theirs.wait_for_function(f"({SUBTITLES})().length > 0")
    assert " ".join(" ".join(theirs.evaluate(SUBTITLES)).split()) == " ".join(texts_of(clip))
    wait_for(ours, "Stopped.")
    assert "theirs.wav" not in ours.content() and "ours.mp3" not in theirs.content()


def test_a_visitor_who_leaves_midway_leaves_nothing(address, guest, folders, speech, long_file):
    tab, other = guest(address), guest(address)
    upload(tab, ("left.mp3", long_file))
    tab.get_by_text("left", exact=False).first.wait_for()
    assert any(path.stat().st_size == len(long_file) for path in folders.glob("whisper-*/*"))
    tab.context.close()
    upload(other, ("stays.wav", wav(speech(0, 1))))
    wait_for(other, "Done")  # the one thread is free
    assert not any(path.stat().st_size == len(long_file) for path in folders.glob("whisper-*/*"))


def test_a_microphone_recording_is_transcribed(address, browser, speech, tmp_path):
    (tmp_path / "voice.wav").write_bytes(wav(speech(0, 4)))
    flags = [
        "--use-fake-device-for-media-stream",
        "--use-fake-ui-for-media-stream",
        f"--use-file-for-fake-audio-capture={tmp_path / 'voice.wav'}",
    ]
    found = next(filter(None, map(shutil.which, ("chromium", "chromium-browser", "google-chrome"))))
    chromium = browser.browser_type.launch(executable_path=found, args=CHROMIUM_FLAGS + flags)
    tab = chromium.new_context(permissions=["microphone"]).new_page()
    tab.set_default_timeout(TIMEOUT_MS)
    tab.goto(address)
    tab.get_by_role("tab", name="Microphone").click()
    tab.get_by_role("button", name="Record", exact=True).click()
    tab.get_by_text(re.compile("00:0[4-9]")).wait_for()
    tab.get_by_role("button", name="Stop recording").click()
    tab.get_by_role("button", name="Play").wait_for()
    tab.get_by_role("button", name="Transcribe").click()
    row(tab, "Recording 1.wav").get_by_text("Done").wait_for()
    tab.wait_for_function("document.querySelector('video')?.duration > 3")
    tab.wait_for_function(f"({SUBTITLES})().length > 0")  # they load after the sound
    chromium.close()


def silent_video() -> bytes:
    """A second of grey without any sound."""
    import io

    buffer = io.BytesIO()
    with av.open(buffer, "w", format="mp4") as output:
        stream = output.add_stream("mpeg4", rate=5)
        stream.width = stream.height = 64
        for _ in range(5):
            frame = av.VideoFrame.from_ndarray(np.full((64, 64, 3), 128, np.uint8))
            output.mux(stream.encode(frame))
        output.mux(stream.encode(None))
    return buffer.getvalue()


def test_bad_files_end_in_one_sentence_each_and_the_page_goes_on(address, guest, speech):
    clip, options = wav(speech(0, 1)), {"container": "mp4", "codec": "aac"}
    m4a = audio.encode(speech(0, 1), SAMPLE_RATE, 64_000, **options)
    playlist = b"#EXTM3U\n#EXTINF:10,\nhttp://127.0.0.1:9/x.ts\n"
    bad = {  # name -> content and what the sentence says
        "text.mp3": (b"This is a letter, not a song.\n" * 100, "not audio|no sound"),
        "nothing.wav": (b"", "is empty"),
        "silent.mp4": (silent_video(), "no sound"),
        "list.mp3": (b"ffconcat version 1.0\nfile /etc/passwd\n", "not audio"),
        "playlist.mp3": (playlist, "not audio"),
        "cut.m4a": (m4a[: len(m4a) // 2], "not audio"),
    }
    tab = guest(address)
    upload(tab, *((name, content) for name, (content, _) in bad.items()))
    for name, (_, reason) in bad.items():
        alert = row(tab, name).get_by_role("alert")
        alert.wait_for()
        assert re.search(rf"^[A-Z].*({reason}).*\.$", alert.inner_text()), name
        assert "Something went wrong" not in alert.inner_text()
    upload(tab, ("silence.wav", wav(np.zeros(SAMPLE_RATE * 3, np.float32))))
    row(tab, "silence.wav").get_by_text("No speech was found").wait_for()
    row(tab, "text.mp3").get_by_role("button", name="Remove").click()
    tab.get_by_text("text.mp3", exact=True).wait_for(state="detached")
    upload(tab, ("**good**.wav", clip))
    row(tab, "**good**.wav").get_by_text("Done").wait_for()
    assert "Traceback" not in tab.content()


def test_youtube_needs_the_right_to_process_and_a_link_to_a_video(address, guest):
    tab = guest(address)
    tab.get_by_role("tab", name="YouTube").click()
    wait_for(tab, "YouTube blocks many servers")
    link, send = tab.get_by_label("Link or id"), tab.get_by_role("button", name="Transcribe")
    link.fill("https://youtu.be/dQw4w9WgXcQ")
    send.click()
    wait_for(tab, "first: YouTube's terms forbid downloads")
    tab.get_by_text("I have the right to process this", exact=True).click()
    for pasted in ("file:///etc/passwd", "--exec=reboot", "http://127.0.0.1/watch?v=dQw4w9WgXcQ"):
        link.fill("")
        link.fill(pasted)
        send.click()
        tab.get_by_role("alert").get_by_text("This is not a link to a YouTube video").wait_for()
    assert "Traceback" not in tab.content()


def test_without_a_model_the_page_names_the_command_that_makes_one(serve, guest, tmp_path):
    tab = guest(streamlit(serve, LABS_STORE=str(tmp_path / "nothing")))
    tab.get_by_role("alert").get_by_text("make whisper").wait_for()
    tab.get_by_text("Polski", exact=True).click()
    wait_for(tab, "Zamiana mowy na tekst nie jest jeszcze dostępna")
    assert "Traceback" not in tab.content()


def test_a_damaged_model_is_reported_in_one_sentence(serve, guest, store, tmp_path):
    copy = shutil.copytree(store, tmp_path / "store")
    model = next(copy.rglob("model.bin"))
    model.write_bytes(model.read_bytes()[:-100])
    tab = guest(streamlit(serve, LABS_STORE=str(copy)))
    tab.get_by_role("alert").get_by_text("model.bin").wait_for()
    assert "Traceback" not in tab.content()


# Without a browser


@pytest.fixture
def drawn(store, monkeypatch):
    """drawn(): one visitor's page as Streamlit runs it, and that visitor."""
    monkeypatch.setenv("LABS_STORE", str(store))
    visitor = jobs.Visitor(jobs.Queue(size=8), lambda: True)

    def draw():
        script = AppTest.from_file(str(APP), default_timeout=60)
        script.session_state.visitor = visitor
        return script.run(), visitor

    yield draw
    visitor.leave()


def until(condition) -> None:
    end = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.01)


def ended(visitor, name: str, error: Exception | None = None):
    """A job that has ended with some text."""

    def work(stop, progress):
        yield Segment(0.0, 2.0, "Dzień dobry.", (), 1.0)
        if error:
            raise error

    job = visitor.add(name, work)
    until(lambda: not job.active)
    return job


def alerts(script) -> str:
    return " ".join(block.proto.body for block in script.get("html") if "alert" in block.proto.body)


def test_two_recordings_of_one_name_can_both_be_chosen(drawn):
    script, visitor = drawn()
    first, second = ended(visitor, "a.wav"), ended(visitor, "a.wav")
    choice = script.run().selectbox(key="shown")
    assert choice.options == ["1. a.wav", "2. a.wav"]
    for job in (second, first):
        script.selectbox(key="shown").set_value(job.id).run()
        assert script.session_state.shown == job.id
    assert not script.exception


def test_a_recording_that_ends_does_not_replace_the_one_shown(drawn):
    script, visitor = drawn()
    script.file_uploader(key="files").set_value([("a.wav", wav(SPEECHLESS), "audio/wav")])
    next(button for button in script.button if button.label == "Transcribe").click().run()
    (later,) = visitor.jobs
    first = ended(visitor, "b.wav")  # and so has the one before it, in silence
    script.run()
    later.items.append(first.items[0])
    script.run()
    assert script.session_state.shown == first.id


def test_a_removed_recording_is_forgotten(drawn):
    script, visitor = drawn()
    jobs_ = [ended(visitor, name) for name in ("a.wav", "b.wav")]
    script.run()
    assert set(script.session_state.kept) == {jobs_[0].id}
    script.button(key=f"remove-{jobs_[0].id}").click().run().run()
    assert set(script.session_state.kept) == {jobs_[1].id}
    assert not script.exception


def test_an_unexpected_error_is_logged_once_however_often_it_is_drawn(drawn, caplog):
    script, visitor = drawn()
    ended(visitor, "a.wav", ZeroDivisionError("oops"))
    for _ in range(3):
        script.run()
    assert "Something went wrong" in alerts(script)
    assert caplog.text.count("oops") == 1


def test_an_upload_that_cannot_be_saved_shows_an_error_and_leaves_nothing(drawn, monkeypatch):
    script, visitor = drawn()

    def full(path, data):
        path.open("wb").write(data[:10])
        raise OSError(28, "No space left on device")

    def send() -> str:
        script.file_uploader(key="files").set_value([("a.wav", wav(SPEECHLESS), "audio/wav")])
        next(button for button in script.button if button.label == "Transcribe").click().run()
        assert not visitor.jobs and not list(visitor.folder.iterdir())
        return alerts(script)

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_bytes", full)
        assert "Something went wrong" in send()
    usage = shutil.disk_usage(visitor.folder)._replace(free=2**30)
    spec = create_autospec(shutil.disk_usage, return_value=usage)
    monkeypatch.setattr(parts.shutil, "disk_usage", spec)
    assert "no space left for recordings" in send()


def test_the_progress_of_a_download_from_youtube_is_shown(drawn, monkeypatch):
    """Autospecs of the two functions that ask YouTube."""
    gate, video = threading.Event(), youtube.Video("dQw4w9WgXcQ", "Wywiad", 60.0)

    @contextlib.contextmanager
    def fetch(video, max_seconds, max_bytes, on_progress=None, stop=None):
        on_progress(25, 100)
        gate.wait(60)
        raise youtube.VideoError("too slow")
        yield

    for name, more in {
        "look_up": {"return_value": video},
        "fetch_audio": {"side_effect": fetch},
    }.items():
        monkeypatch.setattr(youtube, name, create_autospec(getattr(youtube, name), **more))
    script, visitor = drawn()
    script.text_input(key="link").set_value(video.id)
    script.checkbox(key="right").set_value(True)
    [button for button in script.button if button.label == "Transcribe"][2].click().run()
    (job,) = visitor.jobs
    until(lambda: job.step)
    (bar,) = script.run().get("progress")
    assert (bar.proto.value, bar.proto.text) == (25, TEXTS["en"]["fetching"])
    gate.set()
    until(lambda: not job.active)
    assert "The download from YouTube takes too long" in alerts(script.run())


def test_the_player_goes_to_the_row_that_was_clicked():
    rows = parts.table([Cue(7.1, 7.4, "Raz."), Cue(7.6, 7.9, "Dwa.")])
    assert [parts.start_of(rows, number) for number in (0, 1, 2)] == [7.1, 7.6, None]
    rows.loc[1, "start"] = "jutro"
    assert parts.start_of(rows, 1) is None
    assert parts.start_of(rows.reindex(range(3)), 2) is None  # just added, still empty


def test_the_number_of_threads_is_the_first_in_omp_num_threads():
    for text, count in {"4": 4, "4,2": 4, "": 0, "many": 0}.items():
        assert parts.threads({"OMP_NUM_THREADS": text}) == count
    assert parts.threads({}) == 0


def test_errors_as_raised_have_polish_messages(tmp_path):
    def raised(call) -> Exception:
        with pytest.raises((LabError, StoreError)) as caught:
            call()
        return caught.value

    model = Transcriber("a stand-in", "none", ("pl",), False, False, lambda samples, language: None)
    sound = wav(SPEECHLESS)
    cut = mp3(np.tile(SPEECHLESS, 4))
    errors = [
        raised(lambda: list(transcribe(b"", model))),
        raised(lambda: list(transcribe(sound, model, limits=Limits(bytes=9)))),
        raised(lambda: list(transcribe(sound, model, limits=Limits(seconds=0.1)))),
        raised(lambda: list(transcribe(b"A letter.", model))),
        raised(lambda: list(transcribe(cut[: len(cut) // 2], model))),
        raised(lambda: list(transcribe(sound, model, "xx"))),
        raised(lambda: load_from_store(open_store(tmp_path), "nano_pl")),
        Damaged("model.bin has changed."),
    ]
    for error in errors:
        assert parts.sentence(error, "en", parts.Settings()) == str(error)
        polish = parts.sentence(error, "pl", parts.Settings())
        assert polish != str(error) and re.search("[ąćęłńóśźż]", polish), error


def fields(text: str) -> set[str]:
    return {name for _, name, _, _ in string.Formatter().parse(text) if name}


def test_both_languages_have_the_same_texts_and_fields():
    assert set(TEXTS) == set(PAGE_LANGUAGES) == set(SPOKEN)
    for key, text in TEXTS["en"].items():
        assert fields(TEXTS["pl"][key]) == fields(text), key
    assert set(TEXTS["pl"]) == set(TEXTS["en"]) and set(SPOKEN["pl"]) == set(SPOKEN["en"])
    used = re.findall(r'\bt\["([a-z ]+)"\]', APP.read_text())
    assert used and set(used) <= set(TEXTS["en"])


def test_every_error_that_a_visitor_may_see_has_a_polish_message():
    kinds = [audio.Undecodable, audio.CutShort, audio.TooLong, jobs.QueueFull, jobs.TooMany]
    kinds += [parts.BadTime, parts.BadCue]
    errors = [kind("In English.") for kind in kinds]
    values = {"minutes": 9, "limit": 9, "detail": "x"}
    errors += [youtube.VideoError(reason, **values) for reason in youtube.SENTENCES]
    limits = parts.Settings(max_minutes=7)
    for error in errors:
        assert parts.sentence(error, "en", limits) == str(error)
        polish = parts.sentence(error, "pl", limits)
        assert polish in ERRORS["pl"].values() or "7 min" in polish or "200 MB" in polish, error
    assert parts.sentence(ZeroDivisionError("/secret"), "en", limits).startswith("Something went")


def test_limits_come_from_the_environment():
    assert parts.settings({}) == parts.Settings(max_minutes=120, max_mb=200, queue=20, away=120)
    assert parts.settings({"WHISPER_MAX_MB": "5", "WHISPER_QUEUE": "2"}).max_mb == 5
    for value in ("0", "-3", "many", "1e9", "99999999"):
        with pytest.raises(LabError, match="WHISPER_QUEUE"):
            parts.settings({"WHISPER_QUEUE": value})


@given(st.integers(0, 359_999_999))
def test_a_time_in_the_table_is_read_back_unchanged(milliseconds):
    assert parts.seconds_of(parts.stamp(milliseconds / 1000)) == pytest.approx(milliseconds / 1000)


@given(st.text(max_size=30))
def test_any_other_text_is_refused_as_a_time(text):
    try:
        assert parts.seconds_of(text) >= 0
    except parts.BadTime as error:
        assert "Write it as 1:02.500" in str(error)


def test_times_may_be_written_in_different_ways():
    for text, seconds in {
        "7,25": 7.25,
        "1:05": 65,
        "62:03": 3723,
        " 1:02:03.004 ": 3723.004,
    }.items():
        assert parts.seconds_of(text) == pytest.approx(seconds)


def test_the_table_gives_back_its_cues():
    long = "Ala ma kota, a kot ma wszystko to, czego zapragnie, bo Ala o to dba."
    cues = [Cue(0.1, 2.0, "Dzień dobry."), Cue(3.25, 7.5, subtitles.break_lines(long))]
    rows = parts.table(cues)
    assert "\n" not in rows["text"][1] and parts.cues_of(rows) == cues
    rows = parts.with_buttons(parts.with_buttons(rows))
    assert list(rows) == ["play", "start", "end", "text"] and parts.cues_of(rows) == cues
    rows = rows.reindex(range(3))  # a row that was added and not filled in yet
    assert parts.cues_of(rows) == cues
    rows.loc[2, ["start", "end", "text"]] = ["0:02.500", "0:03.000", "Tak."]
    assert [cue.text for cue in parts.cues_of(rows)][1] == "Tak."
    rows.loc[2, "end"] = "0:02.400"
    with pytest.raises(parts.BadCue, match=re.escape("Tak.")):
        parts.cues_of(rows)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a talk.mp3", "a talk.vtt"),
        ("../../etc/passwd", "passwd.vtt"),
        ("Żółw<b>:|?.wav", "Żółw_b.vtt"),
        ("...", "recording.vtt"),
        ("x" * 300 + ".wav", "x" * 80 + ".vtt"),
    ],
)
def test_names_of_downloads_are_safe_for_file_systems(name, expected):
    assert parts.file_name(name, "vtt") == expected
