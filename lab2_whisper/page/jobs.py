"""Many visitors, one model: their jobs are done in turn by one thread, from a bounded queue.

    queue = Queue(size=20)
    visitor = Visitors(queue, away_seconds=120).welcome(is_here)
    job = visitor.add("interview.mp4", lambda stop, progress: transcribe(..., stop, progress))

What a job yields is in `job.items` at once, so that a page can show it while the job runs.
"""

from __future__ import annotations

import logging
import tempfile
import threading
import time
import uuid
from collections.abc import Callable, Generator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lab2_whisper.schema import LabError

Progress = Callable[..., None]
"""Called with the seconds that are done, the seconds in all (None where nobody knows), and, for
what comes before the work proper, the name of that step."""

Work = Callable[[threading.Event, Progress], Generator[Any, None, None]]
"""Begins a job. Once the event is set, the generator is to end as soon as it can."""

State = Literal["waiting", "running", "done", "stopped", "failed"]

log = logging.getLogger(__name__)


class QueueFull(LabError):
    """So many jobs are waiting that no other is taken."""


class TooMany(LabError):
    """One visitor has as many jobs as one may have."""


@dataclass(eq=False)
class Job:
    """A piece of work on its way from waiting to done. Only the queue changes it."""

    name: str  # to show
    work: Work
    media: Path | None = None  # the visitor's file, which goes with the job
    state: State = "waiting"
    items: list[Any] = field(default_factory=list)  # what the work has yielded so far
    seconds_done: float = 0.0
    seconds_total: float | None = None  # None while nobody knows
    step: str = ""  # what is done before the work proper, such as fetching
    error: BaseException | None = None  # why it failed
    stop: threading.Event = field(default_factory=threading.Event)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _started: float = 0.0

    @property
    def active(self) -> bool:
        return self.state in ("waiting", "running")

    def seconds_left(self) -> float | None:
        """Until it is done, if it goes on as fast as it went so far; None while unknown."""
        if self.state != "running" or not self.seconds_done or self.seconds_total is None:
            return None
        pace = (time.monotonic() - self._started) / self.seconds_done
        return max(0.0, pace * (self.seconds_total - self.seconds_done))


class Queue:
    """Jobs in the order in which they came, one at a time in a thread of its own."""

    def __init__(self, size: int) -> None:
        """`size`: how many may wait."""
        self.size = size
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, daemon=True, name="jobs").start()

    def add(self, job: Job) -> None:
        """Put a job at the end. Raises QueueFull."""
        with self._changed:
            if len(self._waiting) >= self.size:
                raise QueueFull(
                    f"{self.size} recordings are waiting, as many as this server takes. "
                    "Try again in a few minutes."
                )
            self._waiting.append(job)
            self._changed.notify()

    def place(self, job: Job) -> int:
        """1 for the job that comes next, 2 for the one after it; 0 for one that does not wait."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def stop(self, job: Job) -> None:
        """End a job at once as far as anybody can see; what it yielded so far stays."""
        job.stop.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
            if job.active:
                job.state = "stopped"

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting)
                job = self._waiting.pop(0)
                job.state, job._started = "running", time.monotonic()
            self._run(job)

    def _run(self, job: Job) -> None:
        def progress(done: float, total: float | None, step: str = "") -> None:
            if step != job.step:  # another pace
                job.step, job._started = step, time.monotonic()
            job.seconds_done, job.seconds_total = done, total

        try:
            items = job.work(job.stop, progress)
            for item in items:
                if not self._keep(job, item):
                    items.close()
                    break
            self._end(job, "done")
        except BaseException as error:  # of libraries in Rust, some are no Exception
            if not isinstance(error, LabError):
                log.exception("a job failed")
            self._end(job, "failed", error)

    def _keep(self, job: Job, item: Any) -> bool:
        """Keep what a job yielded, unless it was stopped meanwhile; whether it goes on."""
        with self._changed:
            if job.state == "running":
                job.items.append(item)
            return job.state == "running"

    def _end(self, job: Job, state: State, error: BaseException | None = None) -> None:
        with self._changed:
            if job.state == "running":
                job.state, job.error = state, error


class Visitor:
    """One session: its jobs, and a folder that goes when the visitor does."""

    def __init__(self, queue: Queue, is_here: Callable[[], bool]) -> None:
        self.queue = queue
        self.is_here = is_here
        self.jobs: list[Job] = []
        self._folder = tempfile.TemporaryDirectory(prefix="whisper-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.left = False  # whether this visitor was taken for gone; who comes back is a new one
        self._seen = time.monotonic()

    @property
    def most_jobs(self) -> int:
        """Half the queue: nobody can fill it alone, nor keep recordings without end."""
        return max(1, self.queue.size // 2)

    def check_room(self) -> None:
        """Raises TooMany where `add` would."""
        if len(self.jobs) >= self.most_jobs:
            raise TooMany(
                f"You have {len(self.jobs)} recordings here, as many as one visitor may have. "
                "Remove one from the list first."
            )

    def add(self, name: str, work: Work, media: Path | None = None) -> Job:
        """Queue a job of this visitor's. Raises QueueFull or TooMany."""
        self.check_room()
        job = Job(name, work, media)
        self.jobs.append(job)
        try:
            self.queue.add(job)
        except QueueFull:
            self.remove(job)
            raise
        if self.left:  # meanwhile: nobody would ever see it
            self.remove(job)
        return job

    def remove(self, job: Job) -> None:
        """Stop a job and forget what it was given and what it made; twice does no more."""
        self.queue.stop(job)
        if job in self.jobs:
            self.jobs.remove(job)
        if job.media:
            job.media.unlink(missing_ok=True)

    def away(self) -> float:
        """Seconds since this visitor was here."""
        now = time.monotonic()
        if self.is_here():
            self._seen = now
        return now - self._seen

    def leave(self) -> None:
        """Stop what is left to do and remove the folder."""
        self.left = True
        for job in list(self.jobs):
            self.remove(job)
        self._folder.cleanup()


class Visitors:
    """Everybody who is here. Who is away for too long has left."""

    def __init__(self, queue: Queue, away_seconds: float) -> None:
        self.queue = queue
        self.away_seconds = away_seconds
        self._here: list[Visitor] = []
        threading.Thread(target=self._watch, daemon=True, name="visitors").start()

    def welcome(self, is_here: Callable[[], bool]) -> Visitor:
        """A new visitor; `is_here` is asked about once a second, from another thread."""
        visitor = Visitor(self.queue, is_here)
        self._here.append(visitor)
        return visitor

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            for visitor in list(self._here):
                try:
                    if visitor.away() > self.away_seconds:
                        self._here.remove(visitor)
                        visitor.leave()
                except Exception:  # one visitor's trouble is not the others'
                    log.exception("a visitor was not looked after")
