"""The folder store: does it lose rows when writers are killed, and how does its time grow?

    python benchmarks/store.py           8 writers x 200 inserts, twice; 10^4 and 10^6 rows
    python benchmarks/store.py --quick   the same code in seconds; keeps no results

First, 8 processes insert one row at a time into one group; each is killed (SIGKILL) at random
moments and started again. A writer acknowledges a row in a file after `insert` has returned, and
starts again after its last acknowledged row, so a row whose acknowledgement was cut off is
inserted twice and must be read once. The race is run a second time with links, renames and locks
that fail, as on a mounted Google Drive.

Then the time is measured to insert a group, to read one day of it and to read all of it, at 1,000
rows a day.
"""

from __future__ import annotations

import argparse
import errno
import fcntl
import multiprocessing
import os
import random
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import pandas as pd
import pandera.pandas as pa
from _report import report

from labstore import UTC_TIME, FeatureGroup
from labstore.files import FileStore

START = datetime(2020, 1, 1, tzinfo=UTC)
ROWS_A_DAY = 1_000
LABELS = ["setosa", "versicolor", "virginica"]
MEASURES = ["sepal_length", "sepal_width", "petal_length", "petal_width"]
GROUP = FeatureGroup(
    name="flowers",
    version=1,
    primary_key="flower_id",
    event_time="measured_at",
    schema=pa.DataFrameSchema(
        {
            "flower_id": pa.Column(str),
            "measured_at": pa.Column(UTC_TIME),
            **{name: pa.Column(float, pa.Check.in_range(0, 10)) for name in MEASURES},
            "species": pa.Column(str, pa.Check.isin(LABELS)),
        },
        strict=True,
    ),
)
REFUSED = [
    *((os, name) for name in ("link", "symlink", "rename", "replace", "renames")),
    *((fcntl, name) for name in ("flock", "lockf")),
]


# ------------------------------------------------------------------ writers that get killed


def race(
    root: Path,
    writers: int = 8,
    inserts: int = 200,
    *,
    links: bool = True,
    life: float = 0.4,
    seed: int = 0,
) -> dict[str, int]:
    """Kill processes while they insert; count the rows acknowledged, lost and duplicated.

    A writer lives about `life` seconds, a little longer after each kill, so that the race ends on a
    slow machine too. After each kill and at the end the store is read and compared with the
    acknowledgements made before.
    """
    root.mkdir(parents=True, exist_ok=True)
    luck = random.Random(seed)
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["labstore.files"])

    def start(writer: int) -> BaseProcess:
        process = context.Process(target=write, args=(root, writer, inserts, links), daemon=True)
        process.start()
        return process

    running = {writer: start(writer) for writer in range(writers)}
    kills = 0
    lost: set[str] = set()
    duplicated: set[str] = set()
    while running:
        time.sleep(luck.uniform(0, 2 * life / writers))
        writer = luck.randrange(writers)
        if writer in running and _kill(running[writer]):
            kills, life = kills + 1, life * 1.005
            missing, double = _compare(root)
            lost, duplicated = lost | missing, duplicated | double
            running[writer] = start(writer)
        running = {w: process for w, process in running.items() if not _finished(process)}
    missing, double = _compare(root)
    return {
        "acknowledged": len(_acknowledged(root)),
        "lost": len(lost | missing),
        "duplicated": len(duplicated | double),
        "kills": kills,
    }


def write(root: Path, writer: int, inserts: int, links: bool) -> None:
    """Insert and acknowledge the rows that this writer has not acknowledged yet."""
    if not links:
        for module, name in REFUSED:
            setattr(module, name, _refuse)
    done = _acknowledged(root)
    acks = os.open(root / "acknowledged", os.O_WRONLY | os.O_APPEND | os.O_CREAT)
    store = FileStore(root / "store")
    for number in range(inserts):
        row = _row(writer, number)
        if row["flower_id"] not in done:
            store.insert(GROUP, pd.DataFrame([row]))
            os.write(acks, f"{row['flower_id']}\n".encode())


def _refuse(*_: Any, **__: Any) -> None:
    raise OSError(errno.EPERM, "this folder has no links, renames or locks")


def _row(writer: int, number: int) -> dict[str, Any]:
    time_of_row = START + timedelta(hours=number)
    measures = dict.fromkeys(MEASURES, (number % 100) / 10)
    name = f"{writer}-{number}"
    return {"flower_id": name, "measured_at": time_of_row, **measures, "species": LABELS[0]}


def _acknowledged(root: Path) -> set[str]:
    try:
        return set((root / "acknowledged").read_text().split())
    except FileNotFoundError:
        return set()


def _compare(root: Path) -> tuple[set[str], set[str]]:
    """Return acknowledged rows that are missing or changed, and rows that are read twice."""
    acknowledged = _acknowledged(root)
    found = FileStore(root / "store").read(GROUP)
    right = {row["flower_id"] for row in found.to_dict("records") if _is_right(row)}
    counts = Counter(found["flower_id"])
    return acknowledged - right, {name for name, count in counts.items() if count > 1}


def _is_right(row: dict[str, Any]) -> bool:
    writer, _, number = row["flower_id"].partition("-")
    return row == _row(int(writer), int(number))


def _kill(process: BaseProcess) -> bool:
    """Kill a process. Returns whether it was still at work and died of this signal."""
    process.kill()
    process.join()
    return process.exitcode != 0 and not _finished(process)


def _finished(process: BaseProcess) -> bool:
    """Return whether a process wrote all its rows. Raises RuntimeError where it failed itself."""
    if process.exitcode is not None and process.exitcode > 0:
        raise RuntimeError(f"A writer failed with exit status {process.exitcode}; see above.")
    return process.exitcode == 0


# ------------------------------------------------------------------------------------- time


def flowers(count: int, seed: int = 0) -> pd.DataFrame:
    """Return rows in random order of time, 1,000 for each day from START."""
    chance, names = np.random.default_rng(seed), random.Random(seed)
    days = np.arange(count) // ROWS_A_DAY
    seconds = pd.to_timedelta(days * 86_400 + chance.integers(0, 86_400, count), unit="s")
    rows = pd.DataFrame(
        {
            "flower_id": [f"{names.getrandbits(128):032x}" for _ in range(count)],
            "measured_at": (pd.Timestamp(START) + seconds).astype(UTC_TIME),
            **{name: chance.uniform(0.1, 8, count) for name in MEASURES},
            "species": chance.choice(LABELS, count),
        }
    )
    return rows.sample(frac=1, random_state=seed, ignore_index=True)


def times(root: Path, count: int, repeats: int) -> dict[str, float]:
    """Return the median milliseconds to insert a group at once, to read one day and to read all."""
    rows = flowers(count)
    day = START + timedelta(days=count // ROWS_A_DAY // 2)
    fresh = (FileStore(root / f"{count}_{number}") for number in range(repeats))
    insert = _milliseconds(lambda: next(fresh).insert(GROUP, rows), repeats)
    filled = root / f"{count}_0"

    def read_day() -> pd.DataFrame:
        return FileStore(filled).read(GROUP, since=day, until=day + timedelta(days=1))

    def read_all() -> pd.DataFrame:
        return FileStore(filled).read(GROUP)

    assert (len(read_day()), len(read_all())) == (ROWS_A_DAY, count)
    return {
        "insert": insert,
        "read_day": _milliseconds(read_day, repeats + 2),
        "read_all": _milliseconds(read_all, repeats),
    }


def _milliseconds(work: Callable[[], Any], repeats: int) -> float:
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        work()
        taken.append(1000 * (time.perf_counter() - start))
    return round(median(taken), 1)


# ----------------------------------------------------------------------------------- report


def main() -> None:
    parser = argparse.ArgumentParser(description="Measure the folder store.")
    parser.add_argument("--quick", action="store_true", help="seconds; keeps no results")
    quick = parser.parse_args().quick
    writers, inserts = (2, 5) if quick else (8, 200)
    rows = [1_000, 10_000] if quick else [10_000, 1_000_000]
    with tempfile.TemporaryDirectory(prefix="labs-store-") as folder:
        root = Path(folder)
        usual = race(root / "usual", writers, inserts)
        without = race(root / "without", writers, inserts, links=False)
        small, large = (times(root, count, repeats=3) for count in rows)
    figures: dict[str, Any] = {**usual, **{f"{k}_without_links": v for k, v in without.items()}}
    for work, took in small.items():
        figures |= {f"{work}_ms_10k": took, f"{work}_ms_1m": large[work]}
    if quick:
        figures["quick"] = True
    races = pd.DataFrame({"links and locks work": usual, "they refuse": without}).T
    growth = pd.DataFrame({f"{rows[0]:,} rows": small, f"{rows[1]:,} rows": large})
    growth["growth"] = growth.iloc[:, 1] / growth.iloc[:, 0]
    table = f"{writers} writers x {inserts} inserts\n{races}\n\nMilliseconds\n{growth.round(1)}\n"
    report("store", figures, table, keep=not quick)


if __name__ == "__main__":
    main()
