"""Look for secrets in folders and in the whole history: `python tools/find_secrets.py [FOLDER ...]`.

A short list of our own: keys of the services that the project talks to and of those that people often
paste. Scanners that go by how random a text looks stop at every checksum, of which a store is full;
well-known ones have no pattern for Hugging Face, Modal or Hopsworks. The values of the secrets that are
set in the environment now are looked for too, whatever they look like.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT / "tools"))

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


def secrets_here() -> list[str]:
    """The values of settings that docs/settings.md calls secret and that are set."""
    from doctor import SETTINGS

    values = [os.environ.get(s.name, "") for s in SETTINGS.values() if s.what.startswith("secret")]
    return [value for value in values if len(value) >= 8]


def in_text(text: str, values: list[str]) -> str | None:
    """What kind of secret a text holds, if one."""
    if found := PATTERN.search(text):
        return list(PATTERNS)[int(found.lastgroup[1:])]
    return "a secret of this environment" if any(value in text for value in values) else None


def in_folder(folder: Path) -> Iterator[str]:
    """Files with a secret in them and what kind it is, never the secret itself."""
    values = secrets_here()
    for path in sorted(p for p in folder.rglob("*") if p.is_file()):
        text = path.read_bytes().decode("utf-8", errors="ignore")
        if kind := in_text(text, values):
            yield f"{path}: {kind}"


def in_tree(root: Path = ROOT) -> Iterator[str]:
    """The same for files that git follows or would add."""
    values = secrets_here()
    listed = _git(root, "ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, listed.split("\0")):
        path = root / name
        if path.is_file() and (kind := in_text(path.read_bytes().decode(errors="ignore"), values)):
            yield f"{name}: {kind}"


def in_history(root: Path = ROOT) -> Iterator[str]:
    """The same for every line that any commit of any branch ever added, and for its message.

    A message is set in by four spaces, so that no line of it looks like one of the changes; of a
    merge, -c shows what is in none of its parents.
    """
    values, commit = secrets_here(), ""
    shown = "--format=commit %H%n%w(0,4,4)%B"
    command = ["git", "log", "--all", "-p", "-c", "--no-color", "--no-renames", shown]
    with subprocess.Popen(
        command, cwd=root, stdout=subprocess.PIPE, text=True, errors="ignore"
    ) as log:
        for line in log.stdout:
            if line.startswith("commit ") and len(line) == 48:
                commit = line[7:15]
            elif not line.startswith("-") and (kind := in_text(line, values)):
                yield f"commit {commit}: {kind}"


def _git(root: Path, *words: str) -> str:
    return subprocess.run(
        ["git", *words], cwd=root, capture_output=True, text=True, check=True
    ).stdout


def main(folders: list[str]) -> None:
    found = [*in_tree(), *in_history()]
    for folder in folders:
        found += in_folder(Path(folder))
    if found:
        sys.exit("\n".join(["Secrets were found; revoke them, then take them out:", *found]))
    print("No secret in the tree, its history" + "".join(f", {folder}" for folder in folders) + ".")


if __name__ == "__main__":
    main(sys.argv[1:])
