"""Pages in processes of their own, and the options of the Chromium that visits them."""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
import time
from contextlib import contextmanager
from pathlib import Path

import pytest
from playwright.sync_api import TimeoutError as NeverShown

ROOT = Path(__file__).resolve().parents[2]
CHROMIUM_FLAGS = [
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
]


def free_port() -> int:
    """A TCP port that is free now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@contextmanager
def serving(folder: Path):
    """Serve pages until the block ends, for fixtures of any scope; `folder` gets the pages' logs."""
    started = []

    def start(command: list[str], env: dict[str, str], port: int) -> str:
        log = (folder / f"page-{port}.log").open("w")
        process = subprocess.Popen(
            [sys.executable, *command],
            env=os.environ | env,
            cwd=folder,  # a page must not depend on the folder it is started in
            stdout=log,
            stderr=subprocess.STDOUT,
        )
        started.append((process, log))
        _wait_for(port, process, Path(log.name))
        return f"http://127.0.0.1:{port}"

    yield start
    for process, log in started:
        process.terminate()
        process.wait(10)
        log.close()


def _wait_for(port: int, process: subprocess.Popen, log: Path, seconds: float = 90) -> None:
    end = time.monotonic() + seconds
    while time.monotonic() < end and process.poll() is None:
        with socket.socket() as caller:
            if caller.connect_ex(("127.0.0.1", port)) == 0:
                return
        time.sleep(0.2)
    pytest.fail(f"The page did not start:\n{log.read_text()}")


def upload(tab, *files: tuple[str, bytes]) -> None:
    """Upload files on the Whisper page, as (name, content).

    Files chosen while a rerun replaces the uploader (Streamlit 1.67.0) are lost with it; then they
    are chosen once more, as a visitor would.
    """
    if not _choose(tab, files):
        assert _choose(tab, files), "the chosen files never appeared in the uploader"
    tab.get_by_role("button", name=re.compile("^(Transcribe|Zamień na tekst)$")).first.click()


def _choose(tab, files: tuple[tuple[str, bytes], ...]) -> bool:
    chosen = [{"name": name, "mimeType": "", "buffer": data} for name, data in files]
    tab.wait_for_function("document.querySelectorAll('input[type=file]').length == 1")
    tab.locator("input[type=file]").set_input_files(chosen)
    uploader = tab.get_by_test_id("stFileUploader")
    try:
        for name, _ in files[-3:]:  # the uploader shows three at a time
            uploader.get_by_text(name, exact=True).wait_for(timeout=30_000)
    except NeverShown:
        return False
    return True
