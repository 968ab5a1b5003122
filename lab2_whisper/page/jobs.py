"""A job queue for many visitors and one model: one thread runs their jobs in turn.

    queue = Queue(size=20)
    visitor = Visitors(queue, away_seconds=120).welcome(is_here)
    job = visitor.add("interview.mp4", lambda stop, progress: transcribe(..., stop, progress))

Everything that a job yields is in `job.items` at once, so a page can show it while the job runs.
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
from typing import Any, Literal, Protocol

from lab2_whisper.schema import LabError


class JobProgress(Protocol):
    """Called with the seconds done and the seconds in all, None while the length is unknown.

    `step` names what is done before the work itself, such as "fetching".
    """

    def __call__(self, done: float, total: float | None, step: str = "") -> None: ...


Work = Callable[[threading.Event, JobProgress], Generator[Any, None, None]]
"""Starts a job. Once the event is set, the generator must end as soon as it can."""

State = Literal["waiting", "running", "done", "stopped", "failed"]

log = logging.getLogger(__name__)


class QueueFull(LabError):
    """The queue is full."""


class TooMany(LabError):
    """The visitor has the maximum number of jobs."""


@dataclass(eq=False)
class Job:
    """A piece of work and how far it is. Only the queue changes it."""

    name: str  # for display
    work: Work
    media: Path | None = None  # the visitor's file, deleted with the job
    state: State = "waiting"
    items: list[Any] = field(default_factory=list)  # what the work has yielded so far
    seconds_done: float = 0.0
    seconds_total: float | None = None  # None while unknown
    step: str = ""  # what is done before the work itself, such as "fetching"
    error: BaseException | None = None  # why it failed
    stop: threading.Event = field(default_factory=threading.Event)
    id: str = field(default_factory=lambda: uuid.uuid4().hex)
    _started: float = 0.0

    @property
    def active(self) -> bool:
        """Whether the job is waiting or running."""
        return self.state in ("waiting", "running")

    def seconds_left(self) -> float | None:
        """Return the seconds until the job is done, at its pace so far; None while unknown."""
        if self.state != "running" or not self.seconds_done or self.seconds_total is None:
            return None
        pace = (time.monotonic() - self._started) / self.seconds_done
        return max(0.0, pace * (self.seconds_total - self.seconds_done))


class Queue:
    """Runs jobs in the order of their arrival, one at a time, in a thread of its own.

    `size` is the number of jobs that may wait.
    """

    def __init__(self, size: int) -> None:
        self.size = size
        self._waiting: list[Job] = []
        self._changed = threading.Condition()
        threading.Thread(target=self._serve, daemon=True, name="jobs").start()

    def add(self, job: Job) -> None:
        """Append a job. Raises QueueFull."""
        with self._changed:
            if len(self._waiting) >= self.size:
                raise QueueFull(
                    f"The queue is full: {self.size} recordings are waiting. "
                    "Try again in a few minutes."
                )
            self._waiting.append(job)
            self._changed.notify()

    def place(self, job: Job) -> int:
        """Return a job's place: 1 for the next one to run, 0 for one that is not waiting."""
        with self._changed:
            return self._waiting.index(job) + 1 if job in self._waiting else 0

    def stop(self, job: Job) -> None:
        """Stop a job; the items it has yielded so far are kept.

        Its state changes at once, its thread ends after the window that is being transcribed.
        """
        job.stop.set()
        with self._changed:
            if job in self._waiting:
                self._waiting.remove(job)
            if job.active:
                job.state = "stopped"

    def _serve(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: bool(self._waiting))
                job = self._waiting.pop(0)
                job.state, job._started = "running", time.monotonic()
            self._run(job)

    def _run(self, job: Job) -> None:
        def progress(done: float, total: float | None, step: str = "") -> None:
            if step != job.step:  # each step has its own pace
                job.step, job._started = step, time.monotonic()
            job.seconds_done, job.seconds_total = done, total

        try:
            items = job.work(job.stop, progress)
            for item in items:
                if not self._keep(job, item):
                    items.close()
                    break
            self._end(job, "done")
        except BaseException as error:  # pyo3's PanicException, of libraries in Rust, is one
            if not isinstance(error, LabError):
                log.exception("a job failed")
            self._end(job, "failed", error)

    def _keep(self, job: Job, item: Any) -> bool:
        """Keep an item, unless its job was stopped meanwhile; return whether the job goes on."""
        with self._changed:
            if job.state == "running":
                job.items.append(item)
            return job.state == "running"

    def _end(self, job: Job, state: State, error: BaseException | None = None) -> None:
        with self._changed:
            if job.state == "running":
                job.state, job.error = state, error


class Visitor:
    """One session: its jobs, and a folder that is deleted when the visitor leaves."""

    def __init__(self, queue: Queue, is_here: Callable[[], bool]) -> None:
        self.queue = queue
        self.is_here = is_here
        self.jobs: list[Job] = []
        self._folder = tempfile.TemporaryDirectory(prefix="whisper-", ignore_cleanup_errors=True)
        self.folder = Path(self._folder.name)
        self.left = False  # once True it stays so: a visitor who returns gets a new Visitor
        self._seen = time.monotonic()

    @property
    def max_jobs(self) -> int:
        """Half the queue: no visitor can fill it alone, or keep recordings without limit."""
        return max(1, self.queue.size // 2)

    def check_limit(self) -> None:
        """Raise TooMany if the visitor may not add another job."""
        if len(self.jobs) >= self.max_jobs:
            raise TooMany(
                f"You have {len(self.jobs)} recordings here, the maximum for one visitor. "
                "Remove one from the list first."
            )

    def add(self, name: str, work: Work, media: Path | None = None) -> Job:
        """Queue a job for this visitor and return it. Raises QueueFull or TooMany."""
        self.check_limit()
        job = Job(name, work, media)
        self.jobs.append(job)
        try:
            self.queue.add(job)
        except QueueFull:
            self.remove(job)
            raise
        if self.left:  # the visitor left meanwhile: nobody would ever see the result
            self.remove(job)
        return job

    def remove(self, job: Job) -> None:
        """Stop a job, forget its result and delete its file. Removing it again does nothing."""
        self.queue.stop(job)
        if job in self.jobs:
            self.jobs.remove(job)
        if job.media:
            job.media.unlink(missing_ok=True)

    def seconds_away(self) -> float:
        """Return the seconds since this visitor was last connected."""
        now = time.monotonic()
        if self.is_here():
            self._seen = now
        return now - self._seen

    def leave(self) -> None:
        """Remove all jobs and the folder."""
        self.left = True
        for job in list(self.jobs):
            self.remove(job)
        self._folder.cleanup()


class Visitors:
    """All connected visitors. One who is disconnected for `away_seconds` has left."""

    def __init__(self, queue: Queue, away_seconds: float) -> None:
        self.queue = queue
        self.away_seconds = away_seconds
        self._here: list[Visitor] = []
        threading.Thread(target=self._watch, daemon=True, name="visitors").start()

    def welcome(self, is_here: Callable[[], bool]) -> Visitor:
        """Return a new visitor. `is_here` is called about once a second, from another thread."""
        visitor = Visitor(self.queue, is_here)
        self._here.append(visitor)
        return visitor

    def _watch(self) -> None:
        while True:
            time.sleep(1)
            for visitor in list(self._here):
                try:
                    if visitor.seconds_away() > self.away_seconds:
                        self._here.remove(visitor)
                        visitor.leave()
                except Exception:  # one visitor's error must not end the watch for the others
                    log.exception("checking on a visitor failed")
