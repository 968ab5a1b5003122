"""Print a benchmark's figures, and keep them with the machine, the versions and the date.

No host or user names are kept, because the results are public.
"""

from __future__ import annotations

import json
import os
import platform
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).parent / "results"
LIBRARIES = ["ctranslate2", "faster-whisper", "numpy", "pandas", "pandera", "pyarrow"]
LIBRARIES += ["scikit-learn", "skops", "torch", "transformers"]


def report(name: str, figures: dict[str, Any], table: str | None = None, keep: bool = True) -> None:
    """Print the table, then the figures as one line of JSON; keep the figures in results/<name>.json.

    `keep=False` is for quick runs, which must not replace the figures of full runs.
    """
    if table:
        print(table)
    if keep:
        record = {**figures, "machine": machine(), "versions": versions(), "date": today()}
        RESULTS.mkdir(exist_ok=True)
        (RESULTS / f"{name}.json").write_text(json.dumps(record, indent=2) + "\n")
    print(json.dumps(figures), flush=True)


def today() -> str:
    """Return the date in UTC as YYYY-MM-DD."""
    return datetime.now(UTC).date().isoformat()


def machine() -> dict[str, Any]:
    """Return the processor's name, the number of cores this process may use, and memory in GiB."""
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    return {"cpu": _cpu(), "cores": _cores(), "memory_gib": round(memory, 1)}


def versions() -> dict[str, str]:
    """Return the versions of Python and of the installed libraries that the figures depend on."""
    found = {"python": platform.python_version()}
    for library in LIBRARIES:
        try:
            found[library] = metadata.version(library)
        except metadata.PackageNotFoundError:
            continue
    return found


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        return next(line.split(":", 1)[1].strip() for line in lines if "model name" in line)
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
