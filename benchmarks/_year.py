"""A year of daily runs with many failures, for the benchmarks and tests of both daily jobs."""

from __future__ import annotations

import random
from collections.abc import Callable
from datetime import date, timedelta
from pathlib import Path

from labstore import NotWritable, Store
from labstore.files import FileStore

FIRST = date(2026, 1, 1)


class FailingStore(FileStore):
    """A folder store whose n-th write stops halfway, as on a full disk or when killed."""

    writes_left: int | None = None

    def _write(self, path, data):
        self._count(path, bytes(data))
        super()._write(path, data)

    def _copy(self, source, target):
        self._count(target, source.read_bytes())
        return super()._copy(source, target)

    def _count(self, path: Path, data: bytes) -> None:
        if self.writes_left is None:
            return
        self.writes_left -= 1
        if self.writes_left < 0:
            with self._create(path) as file:
                file.write(data[: len(data) // 2])
            raise NotWritable(f"Cannot write {path}: made to fail.")


def simulate_year(
    run_daily: Callable[[Store, date], list[date]], root: Path, seed: int = 7, days: int = 365
) -> int:
    """Run the days of 2026 on a store with a model. Returns the number of runs that failed.

    On a tenth of the days the scheduler does not call; a fifth of the runs fail at a random one of
    their writes. The last day succeeds. The first run fails only after its first entry in the
    ledger, since before that nothing records that it was called.
    """
    chance, failures, dates_owed = random.Random(seed), 0, 0
    for number in range(days):
        last, dates_owed = number == days - 1, dates_owed + 1
        if number > 0 and not last and chance.random() < 0.1:
            continue
        store = FailingStore(root)
        if not last and chance.random() < 0.2:
            # Writes: two for "pending", six per date, two for the snapshot (file and manifest).
            store.writes_left = chance.randrange(2 if number == 0 else 0, 2 + 6 * dates_owed + 2)
        try:
            run_daily(store, FIRST + timedelta(days=number))
            dates_owed = 0
        except NotWritable:
            if store.writes_left is None:
                raise
            failures += 1
    return failures
