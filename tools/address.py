"""Write the project's public address into everything that shows it, after a fork.

    python -m tools.address owner/name

The address stands in pyproject.toml; README and notebooks repeat it in badges and install cells.
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

from tools.imports import ROOT


def current() -> str:
    """Return the address in pyproject.toml, as owner/name."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    return project["urls"]["Repository"].removeprefix("https://github.com/")


def files() -> list[Path]:
    """Return every file that shows the address."""
    return [ROOT / "pyproject.toml", ROOT / "README.md", *sorted(ROOT.glob("notebooks/*/*.ipynb"))]


def main(arguments: list[str]) -> None:
    """Replace the address in every file that shows it."""
    if len(arguments) != 1 or not re.fullmatch(r"[\w.-]+/[\w.-]+", arguments[0]):
        sys.exit("Name the repository: make address REPO=owner/name")
    old, new = current(), arguments[0]
    for path in files():
        text = path.read_text(encoding="utf-8")
        path.write_text(text.replace(f"/{old}", f"/{new}"), encoding="utf-8")
    print(f"{old} -> {new} in {len(files())} files")


if __name__ == "__main__":
    main(sys.argv[1:])
