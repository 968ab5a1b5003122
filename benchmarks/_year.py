"""A year of daily runs in which much goes wrong, for the benchmarks and tests of every lab."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from labstore import NotWritable, Store, StoreError
from labstore.files import FileStore

FIRST = date(2026, 1, 1)


class FailingStore(FileStore):
    """A folder store whose n-th write stops in the middle, as a full disk or a kill does."""

    writes_left: int | None = None

    def _write(self, path, data):
        if self.writes_left is not None:
            self.writes_left -= 1
            if self.writes_left < 0:
                with self._create(path) as file:
                    file.write(bytes(data)[: len(data) // 2])
                raise NotWritable(f"Cannot write {path}: made to fail.")
        super()._write(path, data)


def simulate_year(
    run_daily: Callable[[Store, date], list[date]], root: Path, seed: int = 7, days: int = 365
) -> int:
    """Run the days of 2026 on a store with a model; the number of runs that failed.

    A tenth of the days the scheduler does not call; a fifth of the runs fail at a random write.
    The last day succeeds, as some day always will.
    """
    chance, failures = random.Random(seed), 0
    for number in range(days):
        last = number == days - 1
        if number > 0 and not last and chance.random() < 0.1:
            continue
        store = FailingStore(root)
        if not last and chance.random() < 0.2:
            # The first run of all must get as far as its first entry: before it, nothing is known.
            store.writes_left = chance.randrange(2 if number == 0 else 0, 9)
        try:
            run_daily(store, FIRST + timedelta(days=number))
        except StoreError:
            failures += 1
    return failures
