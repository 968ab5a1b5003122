"""Git in a folder of a test, with a name to commit under."""

from __future__ import annotations

import subprocess
from pathlib import Path


def git(*arguments: str, cwd: Path) -> str:
    """Run git and return what it prints. Raises CalledProcessError."""
    name = ["-c", "user.name=test", "-c", "user.email=test@example.org"]
    command = ["git", *name, *arguments]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=True).stdout
