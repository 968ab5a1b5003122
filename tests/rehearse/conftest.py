"""Clean environments as the platforms make them, and what runs in them as another user.

Nothing of the developer's environment gets in: processes start with the variables named here and
no others, outside the repository. Run as root, they start as user 1000, as a Space does.
"""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
USER = 1000  # of a Space's container
NOWHERE = "http://127.0.0.1:9"  # whoever calls out gets no answer
PINNED = ROOT / "requirements.txt"


class Clean:
    """A virtual environment of its own with only what a requirements file or an argument asks for."""

    def __init__(self, python: Path, home: Path):
        self.home, self.libraries = home, str(python.parent.parent / "lib")
        subprocess.run([python, "-m", "venv", home], check=True)

    def pip(self, *arguments: str | Path, args: str | None = None) -> None:
        """pip with the machine's index and PIP_ARGS; what it says is shown when it fails."""
        words = [self.home / "bin/python", "-m", "pip", *arguments]
        if arguments[0] == "install":
            more = os.environ.get("PIP_ARGS", "") if args is None else args
            words += ["--quiet", *more.split()]
        run = subprocess.run(words, env=plain(), capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """All that a process in it gets to see: no PYTHONPATH, no proxy that answers, another home."""
        path = f"{self.home / 'bin'}:/usr/local/bin:/usr/bin:/bin"
        none = {
            "HTTPS_PROXY": NOWHERE,
            "HTTP_PROXY": NOWHERE,
            "NO_PROXY": "127.0.0.1,localhost,0.0.0.0",
        }
        return {
            "PATH": path,
            "HOME": str(home),
            "LANG": "C.UTF-8",
            "OMP_NUM_THREADS": "1",
            "LD_LIBRARY_PATH": self.libraries,  # a copied Python looks for its own where it was
            **none,
            **more,
        }


def plain() -> dict[str, str]:
    """This process's variables less those that would let the project in."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LABS_", "VIRTUAL"))}


def as_user() -> dict[str, object]:
    """What makes subprocess start a process as user 1000; nothing where we may not."""
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture(scope="session")
def room():
    """A folder outside the repository and of every user's reach."""
    folder = Path(tempfile.mkdtemp(prefix="rehearse-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def python(room) -> Path:
    """This Python, as a copy where user 1000 may not reach the original (/root, say)."""
    original = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    try:
        subprocess.run([original, "-c", ""], check=True, cwd="/", **as_user())
        return original
    except PermissionError:
        ignore = shutil.ignore_patterns("site-packages", "test", "__pycache__", "share", "*.a")
        shutil.copytree(sys.base_prefix, room / "python", symlinks=True, ignore=ignore)
        return room / "python/bin" / original.name


@pytest.fixture
def clean(python, room):
    """clean() makes an environment that is gone after the test."""
    made = []

    def make() -> Clean:
        made.append(Path(tempfile.mkdtemp(prefix="env-", dir=room)))
        made[-1].chmod(0o755)
        return Clean(python, made[-1])

    yield make
    for home in made:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def start(tmp_path):
    """start(words, cwd, environment, port) runs a page as user 1000 until the test ends; its address."""
    running = []

    def go(words: list[str], cwd: Path, environment: dict[str, str], port: int) -> str:
        log = (tmp_path / f"{port}.log").open("w+")
        process = subprocess.Popen(
            words, cwd=cwd, env=environment, stdout=log, stderr=subprocess.STDOUT, **as_user()
        )
        running.append((process, log))
        end = time.monotonic() + 180
        while process.poll() is None and time.monotonic() < end:
            with socket.socket() as caller:
                if caller.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            time.sleep(0.3)
        pytest.fail(f"It did not start:\n{Path(log.name).read_text()}")

    yield go
    for process, log in running:
        process.terminate()
        process.wait(20)
        log.close()
