"""The Whisper page: a recording in, text and subtitles out, to read, mend, play and download.

Runs locally (`make ui-whisper`), and as a Hugging Face Space beside the lab's packages. The store is
LABS_STORE, the model its best one tuned on WHISPER_CORPUS, or the folder or Hub name in WHISPER_MODEL.
WHISPER_MAX_MINUTES, WHISPER_MAX_MB, WHISPER_QUEUE and WHISPER_AWAY are the limits (page.Settings).
"""

from __future__ import annotations

import logging
import os
import threading
import uuid
from pathlib import Path

import pandas as pd
import streamlit as st
from streamlit.runtime import get_instance
from streamlit.runtime.scriptrunner import get_script_run_ctx

from lab2_whisper.inference import subtitles, youtube
from lab2_whisper.inference import transcribe as inference
from lab2_whisper.inference.media import Limits
from lab2_whisper.page import parts as page
from lab2_whisper.page.jobs import Job, Progress, Queue, Visitor, Visitors
from lab2_whisper.page.texts import PAGE_LANGUAGES, SPOKEN, TEXTS
from lab2_whisper.schema import LANGUAGE, LabError
from labstore import NotFound, StoreError, default_address, open_store
from labstore.monitor import html

log = logging.getLogger(__name__)


@st.cache_resource(max_entries=1, show_spinner=False)
def load(address: str, corpus: str, model: str) -> inference.Transcriber:
    """One model in memory for all visitors, until the page is started again."""
    threads = page.threads()
    if model:
        return inference.load(model, threads=threads)
    return inference.load_from_store(open_store(address), corpus, threads=threads)


@st.cache_resource
def visitors(limits: page.Settings) -> Visitors:
    return Visitors(Queue(limits.queue), limits.away)


def visitor(limits: page.Settings) -> Visitor:
    """This session's visitor, a new one after an absence that was taken for leaving."""
    if "visitor" not in st.session_state or st.session_state.visitor.left:
        session, runtime = get_script_run_ctx().session_id, get_instance()
        st.session_state.visitor = visitors(limits).welcome(
            lambda: runtime.is_active_session(session)
        )
    return st.session_state.visitor


def tell(error: Exception | str) -> None:
    """One sentence where a visitor sees it, never a stack trace."""
    if isinstance(error, Exception):
        if not isinstance(error, (LabError, StoreError)):
            log.error("the page failed", exc_info=error)
        error = page.sentence(error, st.session_state.ui, page.settings())
    st.html(html.message([error]))


def page_language() -> dict[str, str]:
    """The texts of the page, in the visitor's choice, at first the browser's language."""
    if "ui" not in st.session_state:
        st.session_state.ui = "pl" if (st.context.locale or "").startswith("pl") else "en"
    title, choice = st.columns([3, 1], vertical_alignment="bottom")
    with choice:
        st.segmented_control(
            TEXTS[st.session_state.ui]["page language"],
            list(PAGE_LANGUAGES),
            format_func=PAGE_LANGUAGES.get,
            key="ui",
            required=True,
            label_visibility="collapsed",
        )
    t = TEXTS[st.session_state.ui]
    title.title(t["title"])
    st.write(t["intro"])
    return t


class Desk:
    """Where recordings are handed in: what one visitor may ask of the model."""

    def __init__(self, t, limits: page.Settings, transcriber: inference.Transcriber) -> None:
        self.t, self.limits, self.transcriber = t, limits, transcriber
        self.visitor = visitor(limits)
        self.media = Limits(seconds=limits.max_minutes * 60, bytes=limits.max_mb * 2**20)

    def show(self) -> None:
        """Three ways in."""
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
            self.upload()
        with microphone, st.form("microphone", clear_on_submit=True, border=False):
            self.record()
        with tube, st.form("youtube", border=False):
            self.youtube()

    def upload(self) -> None:
        limits = {"mb": self.limits.max_mb, "minutes": self.limits.max_minutes}
        files = st.file_uploader(
            self.t["files"].format(**limits),
            type=page.UPLOADS,
            accept_multiple_files=True,
            max_upload_size=self.limits.max_mb,
            key="files",
        )
        if st.form_submit_button(self.t["transcribe"], type="primary"):
            for file in files:
                self.take(file.name, file)
            if not files:
                tell(self.t["no files"])

    def record(self) -> None:
        sound = st.audio_input(self.t["record"], sample_rate=16_000, key="voice")
        if st.form_submit_button(self.t["transcribe"], type="primary"):
            if sound:
                number = st.session_state.get("recordings", 0) + 1
                st.session_state.recordings = number
                self.take(self.t["recording"].format(number=number) + ".wav", sound)
            else:
                tell(self.t["nothing recorded"])

    def take(self, name: str, file) -> None:
        """Keep a file in the visitor's folder and queue it, or say why not."""
        size = file.size / 2**20
        if size > self.limits.max_mb:
            tell(self.t["too large"].format(name=name, size=size, mb=self.limits.max_mb))
            return
        path = self.visitor.folder / uuid.uuid4().hex  # a name of ours: theirs may be anything
        try:
            self.check_room()
            path.write_bytes(file.getbuffer())
            self.visitor.add(name, lambda stop, progress: self.hear(path, stop, progress), path)
        except Exception as error:  # a full disk, for one: half a file would stay
            path.unlink(missing_ok=True)
            tell(error)

    def check_room(self) -> None:
        self.visitor.check_room()
        page.check_space(self.visitor.folder)

    def hear(self, path: Path, stop: threading.Event, progress: Progress):
        with open(path, "rb") as media:
            yield from inference.transcribe(
                media,
                self.transcriber,
                self.language,
                limits=self.media,
                stop=stop,
                on_progress=progress,
            )

    def youtube(self) -> None:
        st.caption(self.t["honest"])
        pasted = st.text_input(self.t["link"].format(minutes=self.limits.max_minutes), key="link")
        right = st.checkbox(self.t["right"], key="right")
        if not st.form_submit_button(self.t["transcribe"], type="primary"):
            return
        if not right:
            tell(self.t["need right"])
            return
        try:
            self.check_room()
            with st.spinner(self.t["looking"]):
                video = youtube.look_up(youtube.video_id(pasted))
            self.check_length(video)
            self.visitor.add(video.title, lambda stop, progress: self.fetch(video, stop, progress))
        except LabError as error:
            tell(error)

    def check_length(self, video: youtube.Video) -> None:
        most = self.limits.max_minutes
        if video.seconds > most * 60:
            raise youtube.VideoError("too long", minutes=video.seconds / 60, limit=most)

    def fetch(self, video: youtube.Video, stop: threading.Event, progress: Progress):
        def came(done: int, total: int | None) -> None:
            part = done / total if total else 0
            progress(part * video.seconds, video.seconds, "fetching")

        most = self.media
        with youtube.fetch_audio(video, most.seconds, most.bytes, came, stop) as path:
            yield from self.hear(path, stop, progress)


def show_jobs(t, here: Visitor) -> None:
    """This visitor's recordings, looked at again every second while one is under way."""
    busy = any(job.active for job in here.jobs)
    st.session_state.seen = [(job, job.state) for job in here.jobs]
    st.fragment(job_list, run_every=1 if busy else None)(t, here)


def job_list(t, here: Visitor) -> None:
    for job in here.jobs:
        with st.container(border=True, key=f"job-{job.id}"):
            show_job(t, here, job)
    if [(job, job.state) for job in here.jobs] != st.session_state.seen:
        st.rerun()  # the whole page: something ended, so there is a result to show


def show_job(t, here: Visitor, job: Job) -> None:
    """A recording's name, how far it is, its text so far, and the button that ends or removes it."""
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
                st.text(f"{page.clock(segment.start)}  {segment.text}")


def show_state(t, here: Visitor, job: Job) -> None:
    if job.state == "waiting":
        st.caption(t["waiting"].format(place=here.queue.place(job)))
    elif job.state == "running":
        st.progress(*progress(t, job))
    elif job.state == "failed":
        # as a sentence: the queue has logged the error already, and this is drawn again and again
        tell(page.sentence(job.error, st.session_state.ui, page.settings()))
    if job.items and job.state in ("stopped", "failed"):
        st.caption(t[f"{job.state} early"])
    elif job.state in ("stopped", "done"):
        st.caption(t[job.state] if job.items or job.state == "stopped" else t["silence"])


def progress(t, job: Job) -> tuple[float, str]:
    """How much of a job is done, from 0 to 1, and in words."""
    done, total, left = job.seconds_done, job.seconds_total, job.seconds_left()
    if job.step:
        return min(1.0, done / total) if total else 0.0, t[job.step]
    if not done:
        return 0.0, t["starting"]
    if not total:
        return 0.0, t["progress open"].format(done=page.clock(done))
    words = t["progress"] if left is None else t["progress left"]
    times = {"done": page.clock(done), "total": page.clock(total), "left": page.clock(left or 0)}
    return min(1.0, done / total), words.format(**times)


def show_result(t, here: Visitor) -> None:
    """One recording that has ended: player, table of cues, downloads."""
    ended = {job.id: job for job in here.jobs if not job.active and job.items}
    for id in set(st.session_state.setdefault("kept", {})) - {job.id for job in here.jobs}:
        del st.session_state.kept[id]  # of a recording that was removed
    if not ended:
        return
    if st.session_state.get("shown") not in ended:
        st.session_state.shown = next(iter(ended))
    if len(ended) > 1:  # names may be alike
        labels = {job.id: f"{number}. {job.name}" for number, job in enumerate(here.jobs, 1)}
        st.selectbox(t["shown"], list(ended), format_func=labels.get, key="shown")
    Result(t, ended[st.session_state.shown]).show()


class Result:
    """What came of one recording, with the visitor's edits."""

    def __init__(self, t, job: Job) -> None:
        self.t, self.job = t, job
        self.kept = st.session_state.kept.setdefault(job.id, {})

    def show(self) -> None:
        place, side = st.columns([1, 2])
        with side:
            rows = self.edit()
        try:
            self.kept["cues"] = page.cues_of(rows)
        except LabError as error:
            with side:
                tell(
                    self.t["not yet"].format(
                        error=page.sentence(error, st.session_state.ui, page.settings())
                    )
                )
        with place:
            self.play()
            self.downloads()

    def edit(self) -> pd.DataFrame:
        """The table as it stands. What the editor starts from only changes when it is drawn anew."""
        key = f"cues-{self.job.id}-{st.session_state.ui}"
        if key not in st.session_state:
            if "rows" not in self.kept:
                self.kept["rows"] = page.table(subtitles.cues(self.job.items))
            # numbered anew: the editor shows other numbers, and loses the lines added to them
            self.kept["base"] = page.with_buttons(self.kept["rows"].reset_index(drop=True))
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
        if "clicked" in self.kept:  # where that line starts now, after what was edited with it
            self.kept["at"] = page.start_of(self.kept["rows"], self.kept.pop("clicked"))
        return self.kept["rows"]

    def clicked(self, key: str) -> None:
        self.kept["clicked"] = st.session_state[key].row

    def play(self) -> None:
        """The player. An audio player could show no subtitles, a video player takes sound too."""
        if self.job.media is None:
            st.caption(self.t["no player"])
            return
        name = self.job.name
        st.video(
            self.job.media.read_bytes(),
            format=page.media_type(name),
            subtitles=subtitles.to_vtt(self.kept["cues"]),
            alt=self.t["player"].format(name=name),
        )
        script = page.player_script(self.kept.pop("at", None))
        st.html(script, unsafe_allow_javascript=True)

    def downloads(self) -> None:
        st.caption(self.t["downloads"])
        columns = st.columns(len(page.DOWNLOADS), gap="xsmall")
        for place, (ending, mime) in zip(columns, page.DOWNLOADS.items(), strict=True):
            place.download_button(
                ending.upper(),
                subtitles.WRITERS[ending](self.kept["cues"]),
                page.file_name(self.job.name, ending),
                mime,
                on_click="ignore",
                width="stretch",
            )


def main() -> None:
    st.set_page_config(page_title="Speech to text", page_icon="💬", layout="wide")
    st.html(page.STYLE)
    t, corpus = page_language(), os.environ.get("WHISPER_CORPUS") or "nano_pl"
    try:
        limits = page.settings()
        # the uploader's own limit is the browser's alone
        st.config.set_option("server.maxUploadSize", limits.max_mb)
        with st.spinner(t["loading"]):
            transcriber = load(
                default_address(),
                corpus,
                os.environ.get("WHISPER_MODEL", ""),
            )
    except (StoreError, LabError) as error:
        log.error("no model: %s", error)  # its own words, whatever the page's language
        text = t["none made" if isinstance(error, NotFound) else "no model"]
        error = page.sentence(error, st.session_state.ui, page.Settings())
        tell(text.format(error=error, corpus=corpus))
        return
    Desk(t, limits, transcriber).show()
    show_jobs(t, visitor(limits))
    show_result(t, visitor(limits))
    st.caption(t["model"].format(name=transcriber.name, engine=transcriber.engine))


try:
    main()
except Exception as error:  # a visitor gets a sentence, the log gets the rest
    tell(error)
