"""The pins of requirements.txt, and names of packages compared as pip compares them."""

from __future__ import annotations

from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

PINNED = Path(__file__).resolve().parent.parent / "requirements.txt"


def name_of(requirement: str) -> str:
    """Return a requirement's package in canonical form, e.g. "yt-dlp" for "yt_dlp[deno]>=2026.8"."""
    return canonicalize_name(Requirement(requirement).name)


def version_of(requirement: str) -> str | None:
    """Return the version that a requirement is pinned to by `==`, None where it is not pinned."""
    pins = [s.version for s in Requirement(requirement).specifier if s.operator == "=="]
    return pins[0] if pins else None


def pins(path: Path = PINNED) -> dict[str, str]:
    """Return the pinned versions of a requirements file, by canonical name."""
    lines = path.read_text(encoding="utf-8").split()
    return {name_of(line): version for line in lines if (version := version_of(line))}


def with_dependencies(names: set[str]) -> set[str]:
    """Return packages and their installed dependencies, by canonical name."""
    waiting, found = set(names), set[str]()
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            needs = map(Requirement, metadata.requires(name) or [])
        except metadata.PackageNotFoundError:
            continue
        always = {canonicalize_name(n.name) for n in needs if "extra" not in str(n.marker or "")}
        waiting |= always - found
    return found
