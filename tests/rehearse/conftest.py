"""Clean environments as the platforms make them, and processes that run in them as another user.

Nothing of the developer's environment is visible there: processes start outside the repository, with
only the variables named here. When the tests run as root, they start as user 1000, as in a Space.
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

from tools.imports import ROOT

USER = 1000  # the user in a Space's container
NOWHERE = "http://127.0.0.1:9"  # nothing answers there
PINNED = ROOT / "requirements.txt"


class Clean:
    """A new virtual environment, with only what a requirements file or an argument names."""

    def __init__(self, python: Path, home: Path):
        self.home, self.libraries = home, str(python.parent.parent / "lib")
        subprocess.run([python, "-m", "venv", home], check=True)

    def pip(self, *arguments: str | Path, args: str | None = None) -> None:
        """Run pip with the machine's index and PIP_ARGS; its output is shown when it fails."""
        command = [self.home / "bin/python", "-m", "pip", *arguments]
        if arguments[0] == "install":
            more = os.environ.get("PIP_ARGS", "") if args is None else args
            command += ["--quiet", *more.split()]
        run = subprocess.run(command, env=plain(), capture_output=True, text=True, check=False)
        assert run.returncode == 0, run.stdout + run.stderr

    def environment(self, home: Path, **more: str) -> dict[str, str]:
        """All variables of a process in it: no PYTHONPATH, a proxy that never answers, another home."""
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
            "LD_LIBRARY_PATH": self.libraries,  # a copied Python searches its old folder otherwise
            **none,
            **more,
        }


def plain() -> dict[str, str]:
    """This process's variables without those that make the project importable."""
    return {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "LABS_", "VIRTUAL"))}


def as_user() -> dict[str, object]:
    """Arguments for subprocess that start a process as user 1000; empty unless we are root."""
    return {"user": USER, "group": USER, "extra_groups": []} if os.geteuid() == 0 else {}


@pytest.fixture(scope="session")
def workplace():
    """A folder outside the repository that every user can read."""
    folder = Path(tempfile.mkdtemp(prefix="rehearse-"))
    folder.chmod(0o755)
    yield folder
    shutil.rmtree(folder, ignore_errors=True)


@pytest.fixture(scope="session")
def python(workplace) -> Path:
    """This Python, or a copy where user 1000 cannot run the original, in /root for example."""
    original = Path(sys.base_prefix) / "bin" / f"python3.{sys.version_info.minor}"
    try:
        subprocess.run([original, "-c", ""], check=True, cwd="/", **as_user())
        return original
    except PermissionError:
        ignore = shutil.ignore_patterns("site-packages", "test", "__pycache__", "share", "*.a")
        shutil.copytree(sys.base_prefix, workplace / "python", symlinks=True, ignore=ignore)
        return workplace / "python/bin" / original.name


@pytest.fixture
def clean(python, workplace):
    """clean() makes an environment that is deleted after the test."""
    made = []

    def make() -> Clean:
        made.append(Path(tempfile.mkdtemp(prefix="env-", dir=workplace)))
        made[-1].chmod(0o755)
        return Clean(python, made[-1])

    yield make
    for home in made:
        shutil.rmtree(home, ignore_errors=True)


@pytest.fixture
def start(tmp_path):
    """start(command, cwd, environment, port) serves a page as user 1000 until the test ends."""
    running = []

    def serve(command: list[str], cwd: Path, environment: dict[str, str], port: int) -> str:
        log = (tmp_path / f"{port}.log").open("w+")
        process = subprocess.Popen(
            command, cwd=cwd, env=environment, stdout=log, stderr=subprocess.STDOUT, **as_user()
        )
        running.append((process, log))
        end = time.monotonic() + 180
        while process.poll() is None and time.monotonic() < end:
            with socket.socket() as caller:
                if caller.connect_ex(("127.0.0.1", port)) == 0:
                    return f"http://127.0.0.1:{port}"
            time.sleep(0.3)
        pytest.fail(f"The page did not start:\n{Path(log.name).read_text()}")

    yield serve
    for process, log in running:
        process.terminate()
        process.wait(20)
        log.close()
