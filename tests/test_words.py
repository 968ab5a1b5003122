"""The project's old private words stay out of code, messages, notebooks and docs.

CONTRIBUTING.md has the table of what to write instead. An exception names file, line and reason.
"""

from __future__ import annotations

import re
import subprocess
from fnmatch import fnmatch
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent

WORDS = [
    r"(hear|hears|heard|hearing)\b",
    r"said\b",
    r"(listen|listens|listening)\b",
    r"(judge[sd]?|judgement|verdicts?)\b",
    r"speak\(",
    r"rehearse\(",
    r"(clips_at_once|clips at once)\b",
    r"short[_ ]context\b",
    r"(?<!\.)sound\(",
    r"taster\b",
    r"drawer\b",
    r"copy_to\b",
    r"back[_-]fill",
    r"(?-i:(MOST|LEAST|LONGEST|SHORTEST|SMALLEST)(_[A-Z]+)*\b)",
    r"(?-i:MARGIN\b)",
    r"roads?\b",
    r"house\b",
    r"rooms?\b",
    r"(?<!there )is no (?!longer\b|more\b)[a-z]",
    r"is none of\b",
    r"tells\b",
    r"shall\b",
    r"(gone|went|goes|go|going) on from\b",
    r"whose preset\b",
]
DOCSTRINGS = r'"""(?:Of |The same\b)'
PATTERN = re.compile(rf"\b(?:{'|'.join(WORDS)})|{DOCSTRINGS}", re.IGNORECASE)

# File (a glob, whose * goes into folders), a part of the line, and why the word is right there.
EXCEPTIONS = [
    ("tests/test_words.py", "", "the list itself"),
    ("CONTRIBUTING.md", r"^\| [^|]+ \| [^|]+ \|$", "the table of what to write instead"),
    ("lab2_whisper/schema.py", "short_context", "a key in models registered before"),
    ("lab2_whisper/inference/engines.py", r'"short_context"', "a key in models registered before"),
    ("lab2_whisper/training/publish.py", r'"short_context"', "a key in models registered before"),
    ("tests/*.py", r'"short_context"', "a key in models registered before"),
    ("benchmarks/training.py", r'"short_context', "the first part of keys in benchmarks/results"),
    ("lab2_whisper/training/run.py", r'"short_context"', "a key in models registered before"),
    ("lab2_whisper/training/presets.py", "leaves room", "a reason that checkpoints store"),
    ("notebooks/lab2_whisper/*.ipynb", r"\bCOPY_TO\b", "a parameter that people's copies set"),
]

SUFFIXES, OTHERS = {".py", ".md", ".ipynb", ".toml", ".yml"}, {"Makefile", ".ci/run"}


@cache
def texts() -> dict[str, str]:
    """The project's own texts by file name."""
    command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    if run.returncode:
        pytest.skip("not a git checkout")
    names = [n for n in run.stdout.splitlines() if Path(n).suffix in SUFFIXES or n in OTHERS]
    return {n: (ROOT / n).read_text(encoding="utf-8") for n in names if (ROOT / n).exists()}


def old_words(text: str) -> list[tuple[int, str, str]]:
    """Line number, old word and whole line, for each line with an old word."""
    found = {}
    for match in PATTERN.finditer(text):
        start = text.rfind("\n", 0, match.start()) + 1
        line = text[start:].partition("\n")[0].strip()
        found.setdefault(text.count("\n", 0, start) + 1, (match[0], line))
    return [(number, *rest) for number, rest in found.items()]


@cache
def lines() -> list[tuple[str, int, str, str]]:
    """File, line number, old word and line, in the whole project."""
    return [(name, *line) for name, text in texts().items() for line in old_words(text)]


def test_no_text_of_the_project_uses_the_old_words():
    found = [
        f"{name}:{number}: [{word}] {line[:120]}"
        for name, number, word, line in lines()
        if not any(fnmatch(name, where) and re.search(part, line) for where, part, _ in EXCEPTIONS)
    ]
    assert not found, f"{len(found)} lines:\n" + "\n".join(found)


@pytest.mark.parametrize("where, part, why", EXCEPTIONS)
def test_every_exception_is_needed(where, part, why):
    needed = any(fnmatch(name, where) and re.search(part, line) for name, _, _, line in lines())
    assert needed, f"remove the exception ({why}): {where} has no such line any more"


def test_an_old_word_is_found_where_it_is_used():
    assert old_words("a\nwhat it heard\nb") == [(2, "heard", "what it heard")]
    assert old_words("LONGEST_LINK = 1") and old_words("return sound(data)")
    assert not old_words("the longest link of most pages, of a warehouse")
