"""Search folders and the whole history for secrets: `python -m tools.find_secrets [FOLDER ...]`.

The patterns are our own short list: keys of the services that the project uses, and of those that
people often paste. Scanners that measure how random a text looks report every checksum, and a store
is full of them; the well-known ones have no pattern for Hugging Face, Modal or Hopsworks. The values
of the secrets that are set in the environment are searched for too, whatever they look like.
"""

from __future__ import annotations

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tools.imports import ROOT
from tools.settings import secret_values

PATTERNS = {
    "Hugging Face token": r"\bhf_[A-Za-z0-9]{30,}",
    "Modal token": r"\ba[ks]-[A-Za-z0-9]{20,}\b",
    "Hopsworks key": r"\b[A-Za-z0-9]{16}\.[A-Za-z0-9]{64}\b",
    "GitHub token": r"\bgh[pousr]_[A-Za-z0-9]{30,}|\bgithub_pat_[A-Za-z0-9_]{40,}",
    "AWS key": r"\b(?:AKIA|ASIA)[A-Z0-9]{16}\b",
    "Google key": r"\bAIza[A-Za-z0-9_-]{35}",
    "key that starts with sk-": r"\bsk-[A-Za-z0-9_-]{32,}",
    "Slack token": r"\bxox[abprs]-[A-Za-z0-9-]{10,}",
    "JSON web token": r"\beyJ[A-Za-z0-9_-]{16,}\.eyJ[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}",
    "private key": r"-----BEGIN [A-Z ]*PRIVATE KEY-----",
    "password in an address": r"\b[a-z]+://[^\s/:@\"'<>]+:[^\s/@\"'<>${}]{6,}@[\w.-]+",
    "key in a setting": (
        r"(?i:\b[a-z_]*(?:api_?key|secret|token|password)[\"']?\s*[:=]\s*[\"']?"
        r"(?=[A-Za-z_-]*\d)(?=[0-9_-]*[A-Za-z])[A-Za-z0-9_+/-]{24,}={0,2}[\"'\s])"
    ),
}
PATTERN = re.compile("|".join(f"(?P<p{i}>{p})" for i, p in enumerate(PATTERNS.values())))
PRINTABLE = re.compile(rb"[\x20-\x7e]{20,}")
BYTE_ORDERS = {b"\xff\xfe", b"\xfe\xff"}  # how a UTF-16 text begins, as Windows' Notepad saves one


def in_text(text: str, values: list[str]) -> str | None:
    """Return the kind of secret that a text contains, None where it contains none."""
    if found := PATTERN.search(text):
        return list(PATTERNS)[int((found.lastgroup or "")[1:])]
    return "a secret of this environment" if any(value in text for value in values) else None


def in_file(path: Path, values: list[str]) -> str | None:
    """Return the kind of secret that a file contains, None where it contains none.

    A file is text unless it has a NUL byte and is not UTF-8 either; its name does not matter. Of any
    other, such as audio, weights or a database, the runs of printable characters are searched.
    """
    content = path.read_bytes()
    try:
        return in_text(content.decode("utf-16" if content[:2] in BYTE_ORDERS else "utf-8"), values)
    except UnicodeDecodeError:
        text = content.decode("utf-8", errors="ignore")
    if b"\0" not in content:
        return in_text(text, values)
    if any(value in text for value in values):
        return "a secret of this environment"
    runs = (in_text(run.decode(), values) for run in PRINTABLE.findall(content))
    return next(filter(None, runs), None)


def in_folder(folder: Path) -> Iterator[str]:
    """Yield each file that contains a secret with the kind of secret, never the secret itself."""
    values = secret_values()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        if kind := in_file(path, values):
            yield f"{path}: {kind}"


def in_tree(root: Path = ROOT) -> Iterator[str]:
    """Yield each file that git tracks, or would add, and that contains a secret, with the kind."""
    values = secret_values()
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        path = root / name
        if path.is_file() and (kind := in_file(path, values)):
            yield f"{name}: {kind}"


def in_history(root: Path = ROOT) -> Iterator[str]:
    """Yield each commit, of any branch, that added a secret or has one in its message, with the kind.

    Messages are indented by four spaces, so that no line of one looks like a changed line. For a
    merge, -c shows the lines that are in none of its parents.
    """
    values, commit = secret_values(), ""
    shown = "--format=commit %H%n%w(0,4,4)%B"
    command = ["git", "log", "--all", "-p", "-c", "--no-color", "--no-renames", shown]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, text=True, errors="ignore"
    ) as log:
        for line in log.stdout or ():
            if line.startswith("commit ") and len(line) == 48:
                commit = line[7:15]
            elif not line.startswith("-") and (kind := in_text(line, values)):
                yield f"commit {commit}: {kind}"


def _git(root: Path, *arguments: str) -> str:
    return subprocess.run(
        ["git", *arguments], cwd=root, capture_output=True, text=True, check=True
    ).stdout


def main(folders: list[str]) -> None:
    """Search the tree, its history and the folders. Exits with the list of what was found."""
    found = [*in_tree(), *in_history()]
    for folder in folders:
        found += in_folder(Path(folder))
    if found:
        sys.exit("\n".join(["Secrets were found. Revoke them, then remove them:", *found]))
    print("No secret in the tree, its history" + "".join(f", {folder}" for folder in folders) + ".")


if __name__ == "__main__":
    main(sys.argv[1:])
