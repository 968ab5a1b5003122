"""The job queue of the Whisper page, with plain generators as the work."""

from __future__ import annotations

import threading
import time

import pytest

from lab2_whisper.page import jobs
from lab2_whisper.schema import LabError


@pytest.fixture
def queue():
    return jobs.Queue(size=4)


@pytest.fixture
def visitor(queue):
    visitor = jobs.Visitor(queue, lambda: True)
    yield visitor
    visitor.leave()


def until(condition, seconds: float = 20) -> None:
    """Wait for another thread; fail if the condition stays false."""
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "never happened"
        time.sleep(0.005)


class Windows:
    """Work in windows that wait for the test's permission; it stops as `transcribe` does."""

    def __init__(self, count: int = 3) -> None:
        self.count, self.started, self.gate = count, 0, threading.Semaphore(0)

    def __call__(self, stop, progress):
        for number in range(self.count):
            if stop.is_set():
                return
            self.started += 1
            self.gate.acquire()
            progress(number + 1.0, float(self.count))
            yield number


def quick(*items):
    return lambda stop, progress: (item for item in items)


def test_the_items_of_a_job_are_available_while_it_runs(visitor):
    work = Windows(3)
    job = visitor.add("a", work)
    until(lambda: work.started == 1)
    assert (job.state, job.items, job.seconds_left()) == ("running", [], None)
    work.gate.release()
    until(lambda: work.started == 2)
    assert job.items == [0] and (job.seconds_done, job.seconds_total) == (1, 3)
    assert job.seconds_left() > 0
    work.gate.release(2)
    until(lambda: job.state == "done")
    assert job.items == [0, 1, 2] and job.seconds_left() is None and not job.active


def test_jobs_run_one_at_a_time_in_order_and_have_places(queue, visitor):
    work = [Windows(1) for _ in range(2)]
    other = jobs.Visitor(queue, lambda: True)
    first = visitor.add("first", work[0])
    until(lambda: work[0].started == 1)
    second, third = other.add("second", work[1]), visitor.add("third", quick("x"))
    assert [queue.place(job) for job in (first, second, third)] == [0, 1, 2]
    assert (second.state, third.state) == ("waiting", "waiting") and work[1].started == 0
    work[0].gate.release()
    until(lambda: work[1].started == 1)
    assert queue.place(third) == 1 and first.state == "done"
    work[1].gate.release()
    until(lambda: third.state == "done")
    assert other.jobs == [second] and visitor.jobs == [first, third]
    other.leave()


def test_stop_takes_effect_at_once_and_no_further_window_is_started(queue, visitor):
    work, after = Windows(100), quick("x")
    job = visitor.add("long", work)
    work.gate.release(2)
    until(lambda: work.started == 3)
    queue.stop(job)  # in the middle of the third window
    assert job.state == "stopped"
    next_job = visitor.add("next", after)
    work.gate.release(97)
    until(lambda: next_job.state == "done")  # the thread is free again
    assert work.started == 3 and job.items == [0, 1] and job.state == "stopped"


def test_work_that_ignores_the_stop_event_is_ended_too(queue, visitor):
    closed = threading.Event()

    def stubborn(stop, progress):
        try:
            while True:
                time.sleep(0.01)
                yield "more"
        finally:
            closed.set()

    job = visitor.add("stubborn", stubborn)
    until(lambda: job.items)
    queue.stop(job)
    count = len(job.items)
    assert closed.wait(20) and len(job.items) == count


def test_a_waiting_job_is_stopped_before_it_starts(queue, visitor):
    first, second = Windows(1), Windows(1)
    running = visitor.add("running", first)
    until(lambda: first.started == 1)
    waiting = visitor.add("waiting", second)
    queue.stop(waiting)
    assert waiting.state == "stopped" and queue.place(waiting) == 0
    first.gate.release()
    until(lambda: running.state == "done")
    queue.stop(running)
    assert running.state == "done" and second.started == 0


class Panic(BaseException):
    """As pyo3's PanicException for a panic in a Rust library, this is not an Exception."""


ERRORS = [LabError("This is not audio."), ZeroDivisionError("x"), Panic("x")]


@pytest.mark.parametrize("error", ERRORS)
def test_a_failed_job_keeps_its_items_and_the_next_one_runs(visitor, error):
    def work(stop, progress):
        yield "text"
        raise error

    def at_once(stop, progress):
        raise error

    jobs_ = [visitor.add("bad", work), visitor.add("worse", at_once)]
    until(lambda: all(job.state == "failed" for job in jobs_))
    assert [job.items for job in jobs_] == [["text"], []]
    assert all(job.error is error for job in jobs_)
    visitor.remove(jobs_[0])
    good = visitor.add("good", quick("y"))
    until(lambda: good.state == "done")


def test_removing_a_job_deletes_its_file(visitor):
    media = visitor.folder / "1"
    media.write_bytes(b"sound")
    job = visitor.add("a", quick("x"), media)
    until(lambda: job.state == "done")
    assert media.exists()
    visitor.remove(job)
    assert not media.exists() and visitor.jobs == []
    visitor.remove(job)  # a second click, before the page has changed


def test_a_step_before_the_work_has_its_own_pace(visitor):
    gate = threading.Semaphore(0)

    def work(stop, progress):
        progress(5, 10, "fetching")
        gate.acquire()
        progress(0, 10)
        gate.acquire()
        yield "x"

    job = visitor.add("a", work)
    until(lambda: job.step == "fetching" and job.seconds_done == 5)
    began = job._started
    gate.release()
    until(lambda: job.step == "" and job.seconds_done == 0)
    assert job._started > began
    gate.release()
    until(lambda: job.state == "done")


def test_a_full_queue_and_a_visitor_with_too_many_jobs_get_an_error(queue):
    work = Windows(1)
    visitors = [jobs.Visitor(queue, lambda: True) for _ in range(4)]
    running = visitors[0].add("running", work)
    until(lambda: work.started == 1)
    visitors[0].add("waiting", quick())
    with pytest.raises(jobs.TooMany, match="Remove one from the list first"):
        visitors[0].add("third", quick())
    for name in ("a", "b"):
        visitors[1].add(name, quick())
    visitors[2].add("c", quick())
    with pytest.raises(jobs.QueueFull, match="The queue is full: 4 recordings are waiting"):
        visitors[3].add("d", quick())
    assert visitors[3].jobs == []
    visitors[1].leave()  # frees two places
    visitors[3].add("d", quick())
    work.gate.release()
    until(lambda: running.state == "done")
    for visitor in visitors:
        visitor.leave()


def test_a_visitor_who_leaves_midway_leaves_nothing_behind(queue):
    here, work, next_ones = [True], Windows(9), Windows(1)
    visitors = jobs.Visitors(queue, away_seconds=0)
    gone = visitors.welcome(lambda: here[0])
    stays = visitors.welcome(lambda: True)
    (gone.folder / "interview.wav").write_bytes(b"sound")
    running, waiting = gone.add("running", work), gone.add("waiting", quick())
    until(lambda: work.started == 1)
    kept = stays.add("kept", next_ones)
    here[0] = False
    until(lambda: gone.left)
    assert running.state == waiting.state == "stopped" and gone.jobs == []
    work.gate.release()
    until(lambda: next_ones.started == 1)
    assert work.started == 1 and stays.folder.exists() and stays.jobs == [kept]
    next_ones.gate.release()
    stays.leave()
    assert not stays.folder.exists()


def test_a_job_added_after_its_visitor_left_is_not_run(queue):
    gone, work = jobs.Visitor(queue, lambda: False), Windows(1)
    gone.leave()
    job = gone.add("a video that was looked up meanwhile", work)
    assert job.state == "stopped" and gone.jobs == [] and work.started == 0


def test_an_error_with_one_visitor_does_not_end_the_watch(queue):
    asked = []

    def is_here() -> bool:
        asked.append(1)
        if len(asked) == 1:
            raise RuntimeError("no session")
        return False

    visitor = jobs.Visitors(queue, away_seconds=0).welcome(is_here)
    until(lambda: visitor.left)


def test_a_visitor_away_for_a_moment_has_not_left(queue):
    here = [False]
    visitors = jobs.Visitors(queue, away_seconds=1000)
    visitor = visitors.welcome(lambda: here[0])
    until(lambda: visitor.seconds_away() > 1.5)  # the watch has looked at least once
    assert not visitor.left
    here[0] = True
    assert visitor.seconds_away() < 1
    visitor.leave()
