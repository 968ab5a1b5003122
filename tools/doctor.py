"""Say for every deployment whether it could start from here, and what is missing: `make doctor`.

The variables and what needs them are read from docs/settings.md, the one list of them.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]


@dataclass(frozen=True)
class Setting:
    """A line of docs/settings.md."""

    name: str
    read_by: str
    needed_for: tuple[str, ...]
    what: str


def read_settings(path: Path = ROOT / "docs" / "settings.md") -> dict[str, Setting]:
    """The table, by variable."""
    rows = re.findall(
        r"^\| `([A-Z_]+)` \|(.*?)\|(.*?)\|(.*)\|$", path.read_text(encoding="utf-8"), re.M
    )
    return {
        name: Setting(
            name, by.strip(), tuple(d.strip() for d in needed.split(",") if d.strip()), what.strip()
        )
        for name, by, needed, what in rows
    }


SETTINGS = read_settings()


def _program(*names: str) -> list[str]:
    """One program, by any of its names."""
    there = any(map(shutil.which, names))
    return [] if there else [f"the program {names[0]}: apt-get install {names[0]}"]


def _address() -> list[str]:
    import address

    if address.current().startswith("YOUR_NAME/"):
        return ["the project's public address: make address REPO=owner/name, and push it there"]
    return []


def _stores() -> list[str]:
    """A model to show for each lab, in LABS_STORE or the demo's store."""
    import space

    from labstore import StoreError

    missing = []
    for name, page in space.SPACES.items():
        try:
            if not space.INSTEAD & set(space.variables(name)):
                page.reads(space.open_store(space.address_of(page.lab)))
        except space.SpaceError as error:
            missing.append(f"for the Space {name}: {error}")
        except StoreError:
            missing.append(
                f"a store with what the Space {name} shows: make {name.split('-')[0]}, or STORE=..."
            )
    return missing


def _daily_store() -> list[str]:
    from lab1_iris.schema import MODEL as IRIS
    from lab1_wine.schema import GENERATOR
    from lab1_wine.schema import MODEL as WINE
    from labstore import NotFound, StoreError, open_store

    missing = []
    for model in (IRIS, WINE, GENERATOR):
        try:
            store = open_store()
            store.load_model(model)
        except NotFound:
            missing.append(f"{model.name} in {store}: run the lab's notebooks 1 and 2 on it")
        except StoreError as error:
            return [*missing, str(error)]
    return missing


def _modal() -> list[str]:
    import deploy_modal

    try:
        found = [
            f"{p.parent.name}: {w}"
            for p in deploy_modal.LABS.values()
            for w in deploy_modal.problems(p)
        ]
    except ModuleNotFoundError as error:
        return [f"the package {error.name}: .venv/bin/pip install -c requirements.txt -e '.[dev]'"]
    return found + deploy_modal.credentials()


def _github() -> list[str]:
    run = subprocess.run(["git", "remote"], cwd=ROOT, capture_output=True, text=True, check=False)
    return _address() + ([] if run.stdout.strip() else ["a git remote: git remote add origin ..."])


def _client(name: str, package: str) -> list[str]:
    import importlib.util

    there = importlib.util.find_spec(name)
    install = f".venv/bin/pip install -c requirements.txt '{package}'"
    return [] if there else [f"the package {name}: {install}"]


# Deployment -> what is looked at besides the variables that docs/settings.md says it needs.
DEPLOYMENTS: dict[str, Callable[[], list[str]]] = {
    "tests": lambda: [
        *_program("chromium", "chromium-browser", "google-chrome"),
        *_program("espeak-ng"),
        *_program("strace"),
    ],
    "spaces": _stores,
    "modal": _modal,
    "github workflow": _github,
    "crontab": _daily_store,
    "colab": _address,
    "hopsworks": lambda: _client("hopsworks", "hopsworks[python]"),
    "data collective": lambda: _client("datacollective", "datacollective"),
}
ELSEWHERE = {  # what is kept where nobody here looks
    "modal": "not looked into: Modal's secret labs, which holds HF_TOKEN and SNAPSHOT_REPO for the "
    "daily jobs (docs/deploy.md has the command)",
}


def missing(deployment: str) -> list[str]:
    """What a deployment lacks here, in words; empty when it can start."""
    wanted = [s for s in SETTINGS.values() if deployment in s.needed_for]
    unset = [f"{s.name}: {s.what}" for s in wanted if not os.environ.get(s.name)]
    return unset + DEPLOYMENTS[deployment]()


def main() -> None:
    for deployment in DEPLOYMENTS:
        found = missing(deployment)
        print(f"{deployment:<16} {'missing' if found else 'ready'}")
        for line in [*found, *filter(None, [ELSEWHERE.get(deployment)])]:
            print(f"{'':<16} - {line}")
    print("\nWhat each variable is: docs/settings.md. How to deploy: docs/deploy.md.")


if __name__ == "__main__":
    main()
