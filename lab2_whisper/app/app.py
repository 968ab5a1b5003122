"""The Whisper page: turns recordings into text and subtitles to read, edit, play and download.

It runs locally (`make ui-whisper`), and as a Hugging Face Space beside the lab's packages. It serves
the best model tuned on WHISPER_CORPUS in the store LABS_STORE, or the model whose folder or Hub name
is in WHISPER_MODEL. WHISPER_MAX_MINUTES, WHISPER_MAX_MB, WHISPER_QUEUE and WHISPER_AWAY set its
limits (lab2_whisper.page.parts.Settings).
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from collections.abc import Generator
from functools import partial
from pathlib import Path
from typing import Any

import pandas as pd
import streamlit as st
from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from lab2_whisper.inference import subtitles, youtube
from lab2_whisper.inference.media import Limits, clock
from lab2_whisper.inference.segments import Segment
from lab2_whisper.inference.transcribe import Transcriber, load, load_from_store, transcribe
from lab2_whisper.page import parts
from lab2_whisper.page.jobs import Job, JobProgress, Queue, Visitor, Visitors
from lab2_whisper.page.texts import PAGE_LANGUAGES, SPOKEN, TEXTS
from lab2_whisper.schema import LANGUAGE, SAMPLE_RATE, LabError
from labstore import NotFound, StoreError, default_address, open_store
from labstore.monitor import html

Texts = dict[str, str]  # one language of lab2_whisper.page.texts.TEXTS

log = logging.getLogger(__name__)


@st.cache_resource(max_entries=1, show_spinner=False)
def load_model(address: str, corpus: str, model: str) -> Transcriber:
    """Load the one model that all visitors share until the page is restarted."""
    threads = parts.threads()
    if model:
        return load(model, threads=threads)
    return load_from_store(open_store(address), corpus, threads=threads)


@st.cache_resource
def visitors(limits: parts.Settings) -> Visitors:
    """Return all visitors of this server, with their one queue."""
    return Visitors(Queue(limits.queue), limits.away)


def visitor(limits: parts.Settings) -> Visitor:
    """Return this session's visitor, a new one if the session was away for too long."""
    if "visitor" not in st.session_state or st.session_state.visitor.left:
        context, runtime = get_script_run_ctx(), get_instance()
        if context is None:
            raise RuntimeError("There is no session. Start the page with `streamlit run`.")
        session = context.session_id
        st.session_state.visitor = visitors(limits).welcome(
            lambda: runtime.is_active_session(session)
        )
    return st.session_state.visitor


def show_message(text: str) -> None:
    """Show a sentence in a box that screen readers announce."""
    st.html(html.message([text]))


def show_error(error: Exception) -> None:
    """Show an error as one sentence, never a stack trace; log it if it is unexpected."""
    if not isinstance(error, (LabError, StoreError)):
        log.error("the page failed", exc_info=error)
    show_message(parts.sentence(error, st.session_state.ui, parts.settings()))


def show_header() -> Texts:
    """Show title and language choice; return the texts in the language chosen.

    The first choice is the browser's language.
    """
    if "ui" not in st.session_state:
        st.session_state.ui = "pl" if (st.context.locale or "").startswith("pl") else "en"
    title, choice = st.columns([3, 1], vertical_alignment="bottom")
    with choice:
        st.segmented_control(
            TEXTS[st.session_state.ui]["page language"],
            list(PAGE_LANGUAGES),
            format_func=PAGE_LANGUAGES.__getitem__,
            key="ui",
            required=True,
            label_visibility="collapsed",
        )
    t = TEXTS[st.session_state.ui]
    title.title(t["title"])
    st.write(t["intro"])
    return t


class Forms:
    """The forms by which a visitor adds recordings: upload, microphone and YouTube."""

    def __init__(self, t: Texts, limits: parts.Settings, transcriber: Transcriber) -> None:
        self.t, self.limits, self.transcriber = t, limits, transcriber
        self.visitor = visitor(limits)
        self.media = Limits(seconds=limits.max_minutes * 60, bytes=limits.max_mb * 2**20)

    def show(self) -> None:
        names = SPOKEN[st.session_state.ui]
        known = sorted(self.transcriber.languages, key=lambda code: (code != LANGUAGE, code))
        self.language = st.selectbox(
            self.t["spoken"],
            known,
            format_func=lambda code: names.get(code, code),
            width=260,
            key="language",
        )
        upload, microphone, tube = st.tabs(
            [self.t["upload"], self.t["microphone"], self.t["youtube"]]
        )
        with upload, st.form("upload", clear_on_submit=True, border=False):
            self.upload_form()
        with microphone, st.form("microphone", clear_on_submit=True, border=False):
            self.microphone_form()
        with tube, st.form("youtube", border=False):
            self.youtube_form()

    def upload_form(self) -> None:
        limits = {"mb": self.limits.max_mb, "minutes": self.limits.max_minutes}
        files = st.file_uploader(
            self.t["files"].format(**limits),
            type=parts.UPLOADS,
            accept_multiple_files=True,
            max_upload_size=self.limits.max_mb,
            key="files",
        )
        if st.form_submit_button(self.t["transcribe"], type="primary"):
            for file in files:
                self.add_file(file.name, file)
            if not files:
                show_message(self.t["no files"])

    def microphone_form(self) -> None:
        sound = st.audio_input(self.t["record"], sample_rate=SAMPLE_RATE, key="voice")
        if st.form_submit_button(self.t["transcribe"], type="primary"):
            if sound:
                number = st.session_state.get("recordings", 0) + 1
                st.session_state.recordings = number
                self.add_file(self.t["recording"].format(number=number) + ".wav", sound)
            else:
                show_message(self.t["nothing recorded"])

    def add_file(self, name: str, file: Any) -> None:
        """Save an uploaded file in the visitor's folder and queue it, or show why not."""
        size = file.size / 2**20
        if size > self.limits.max_mb:
            text = self.t["too large"]
            show_message(text.format(name=name, size=size, mb=self.limits.max_mb))
            return
        path = self.visitor.folder / uuid.uuid4().hex  # the visitor's name for it may be anything
        try:
            self.check_limits()
            path.write_bytes(file.getbuffer())
            self.visitor.add(name, partial(self.transcribe, path), path)
        except Exception as error:  # such as a full disk, which leaves half a file
            path.unlink(missing_ok=True)
            show_error(error)

    def check_limits(self) -> None:
        """Raise LabError if the visitor or the disk can take no more recordings."""
        self.visitor.check_limit()
        parts.check_space(self.visitor.folder)

    def transcribe(
        self, path: Path, stop: threading.Event, progress: JobProgress
    ) -> Generator[Segment, None, None]:
        """Yield the segments of a file, within the limits of this server."""
        with open(path, "rb") as media:
            yield from transcribe(
                media,
                self.transcriber,
                self.language,
                limits=self.media,
                stop=stop,
                on_progress=progress,
            )

    def youtube_form(self) -> None:
        st.caption(self.t["youtube note"])
        pasted = st.text_input(self.t["link"].format(minutes=self.limits.max_minutes), key="link")
        right = st.checkbox(self.t["right"], key="right")
        if not st.form_submit_button(self.t["transcribe"], type="primary"):
            return
        if not right:
            show_message(self.t["need right"])
            return
        try:
            self.check_limits()
            with st.spinner(self.t["looking"]):
                video = youtube.look_up(youtube.video_id(pasted))
            self.check_length(video)
            self.visitor.add(video.title, partial(self.fetch, video))
        except LabError as error:
            show_error(error)

    def check_length(self, video: youtube.Video) -> None:
        """Raise VideoError if the video is over the limit of minutes."""
        limit = self.limits.max_minutes
        if video.seconds > limit * 60:
            raise youtube.VideoError("too long", minutes=video.seconds / 60, limit=limit)

    def fetch(
        self, video: youtube.Video, stop: threading.Event, progress: JobProgress
    ) -> Generator[Segment, None, None]:
        """Fetch a video's sound and yield its segments; the sound is then deleted."""

        def fetched(done: int, total: int | None) -> None:
            part = done / total if total else 0
            progress(part * video.seconds, video.seconds, "fetching")

        limits = self.media
        with youtube.fetch_audio(video, limits.seconds, limits.bytes, fetched, stop) as path:
            yield from self.transcribe(path, stop, progress)


def show_jobs(t: Texts, here: Visitor) -> None:
    """Show this visitor's recordings, redrawn every second while one is in progress."""
    busy = any(job.active for job in here.jobs)
    st.session_state.seen = [(job, job.state) for job in here.jobs]
    st.fragment(job_list, run_every=1 if busy else None)(t, here)


def job_list(t: Texts, here: Visitor) -> None:
    """Draw the list; redraw the whole page when the state of a job has changed."""
    for job in here.jobs:
        with st.container(border=True, key=f"job-{job.id}"):
            show_job(t, here, job)
    if [(job, job.state) for job in here.jobs] != st.session_state.seen:
        st.rerun()  # a job may have ended, and its result is shown outside this fragment


def show_job(t: Texts, here: Visitor, job: Job) -> None:
    """Show a recording's name, progress, text so far, and the button that stops or removes it."""
    name, state, button = st.columns([3, 6, 1.4], vertical_alignment="center")
    name.text(job.name)
    with state:
        show_state(t, here, job)
    action, end = ("stop", here.queue.stop) if job.active else ("remove", here.remove)
    key = f"{action}-{job.id}"
    button.button(t[action], key=key, on_click=end, args=[job], width="stretch")
    if job.state == "running" and job.items:
        with st.container(height=220, border=False, autoscroll=True):
            for segment in list(job.items):
                st.text(f"{clock(segment.start)}  {segment.text}")


def show_state(t: Texts, here: Visitor, job: Job) -> None:
    if job.state == "waiting":
        st.caption(t["waiting"].format(place=here.queue.place(job)))
    elif job.state == "running":
        st.progress(*progress(t, job))
    elif job.state == "failed" and job.error:
        # not show_error: the queue has logged the error, and this is drawn again and again
        show_message(parts.sentence(job.error, st.session_state.ui, parts.settings()))
    if job.items and job.state in ("stopped", "failed"):
        st.caption(t[f"{job.state} early"])
    elif job.state in ("stopped", "done"):
        st.caption(t[job.state] if job.items or job.state == "stopped" else t["silence"])


def progress(t: Texts, job: Job) -> tuple[float, str]:
    """Return how much of a job is done, from 0 to 1, and the same in words."""
    done, total, left = job.seconds_done, job.seconds_total, job.seconds_left()
    if job.step:
        return min(1.0, done / total) if total else 0.0, t[job.step]
    if not done:
        return 0.0, t["starting"]
    if not total:
        return 0.0, t["progress open"].format(done=clock(done))
    words = t["progress"] if left is None else t["progress left"]
    times = {"done": clock(done), "total": clock(total), "left": clock(left or 0)}
    return min(1.0, done / total), words.format(**times)


def show_result(t: Texts, here: Visitor) -> None:
    """Show one recording that has ended: player, table of cues, downloads."""
    ended = {job.id: job for job in here.jobs if not job.active and job.items}
    for id in set(st.session_state.setdefault("kept", {})) - {job.id for job in here.jobs}:
        del st.session_state.kept[id]  # the recording was removed
    if not ended:
        return
    if st.session_state.get("shown") not in ended:
        st.session_state.shown = next(iter(ended))
    if len(ended) > 1:  # numbered, as two may have the same name
        labels = {job.id: f"{number}. {job.name}" for number, job in enumerate(here.jobs, 1)}
        st.selectbox(t["shown"], list(ended), format_func=labels.__getitem__, key="shown")
    Result(t, ended[st.session_state.shown]).show()


class Result:
    """The result of one recording, with the visitor's edits."""

    def __init__(self, t: Texts, job: Job) -> None:
        self.t, self.job = t, job
        self.kept = st.session_state.kept.setdefault(job.id, {})

    def show(self) -> None:
        place, side = st.columns([1, 2])
        with side:
            rows = self.edit()
        try:
            self.kept["cues"] = parts.cues_of(rows)
        except LabError as error:
            with side:
                sentence = parts.sentence(error, st.session_state.ui, parts.settings())
                show_message(self.t["not yet"].format(error=sentence))
        with place:
            self.play()
            self.downloads()

    def edit(self) -> pd.DataFrame:
        """Show the table and return its rows as edited.

        The rows that the editor starts from must stay the same between runs, or it loses the edits.
        """
        key = f"cues-{self.job.id}-{st.session_state.ui}"
        if key not in st.session_state:
            if "rows" not in self.kept:
                self.kept["rows"] = parts.table(subtitles.cues(self.job.items))
            # numbered from 0: st.data_editor of Streamlit 1.67.0 shows any other index, and then
            # loses rows that are added
            self.kept["base"] = parts.with_buttons(self.kept["rows"].reset_index(drop=True))
        t, column = self.t, st.column_config
        st.caption(t["hint"])
        self.kept["rows"] = st.data_editor(
            self.kept["base"],
            key=key,
            num_rows="dynamic",
            hide_index=True,
            height=420,
            column_config={
                "play": column.ButtonColumn(
                    t["play"],
                    width=110,
                    key=f"play-{key}",
                    on_click=self.clicked,
                    args=[f"play-{key}"],
                ),
                "start": column.TextColumn(t["start"], width=90),
                "end": column.TextColumn(t["end"], width=90),
                "text": column.TextColumn(t["text"], width=350, max_chars=1000),
            },
        )
        if "clicked" in self.kept:  # where that row starts now, edits included
            self.kept["at"] = parts.start_of(self.kept["rows"], self.kept.pop("clicked"))
        return self.kept["rows"]

    def clicked(self, key: str) -> None:
        self.kept["clicked"] = st.session_state[key].row

    def play(self) -> None:
        """Show the player: st.video for sound too, as st.audio has no subtitles.

        Subtitles are passed as VTT: Streamlit 1.67.0 recognises SRT by its first 33 bytes, and
        fails where the first cue starts with a letter such as Ł.
        """
        if self.job.media is None:
            st.caption(self.t["no player"])
            return
        name = self.job.name
        st.video(
            self.job.media.read_bytes(),
            format=parts.media_type(name),
            subtitles=subtitles.to_vtt(self.kept["cues"]),
            alt=self.t["player"].format(name=name),
        )
        script = parts.player_script(self.kept.pop("at", None))
        st.html(script, unsafe_allow_javascript=True)

    def downloads(self) -> None:
        st.caption(self.t["downloads"])
        columns = st.columns(len(parts.DOWNLOADS), gap="xsmall")
        for place, (ending, mime) in zip(columns, parts.DOWNLOADS.items(), strict=True):
            place.download_button(
                ending.upper(),
                subtitles.WRITERS[ending](self.kept["cues"]),
                parts.file_name(self.job.name, ending),
                mime,
                on_click="ignore",
                width="stretch",
            )


def main() -> None:
    st.set_page_config(page_title="Speech to text", page_icon="💬", layout="wide")
    st.html(parts.STYLE)
    t, corpus = show_header(), os.environ.get("WHISPER_CORPUS") or "nano_pl"
    try:
        limits = parts.settings()
        # the browser alone enforces the uploader's own limit
        st.config.set_option("server.maxUploadSize", limits.max_mb)
        with st.spinner(t["loading"]):
            transcriber = load_model(
                default_address(),
                corpus,
                os.environ.get("WHISPER_MODEL", ""),
            )
    except (StoreError, LabError) as error:
        log.error("no model: %s", error)  # in English, whatever the page's language
        text = t["none made" if isinstance(error, NotFound) else "no model"]
        sentence = parts.sentence(error, st.session_state.ui, parts.Settings())
        show_message(text.format(error=sentence, corpus=corpus))
        return
    Forms(t, limits, transcriber).show()
    show_jobs(t, visitor(limits))
    show_result(t, visitor(limits))
    st.caption(t["model"].format(name=transcriber.name, engine=transcriber.engine))


try:
    main()
except Exception as error:  # the visitor gets a sentence, the log gets the stack trace
    show_error(error)
