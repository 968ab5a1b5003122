"""Report for every deployment whether it could start from here, and what is missing: `make doctor`.

The variables, and which deployment needs them, are those of docs/settings.md.
"""

from __future__ import annotations

import importlib.util
import os
import shutil
import subprocess
from collections.abc import Callable

from labstore import NotFound, StoreError, open_store
from tools import address, deploy_modal, space
from tools.imports import ROOT
from tools.settings import SETTINGS


def _program(*names: str) -> list[str]:
    """Report a program that is missing; it may go by any of the names, and apt by the first."""
    found = any(map(shutil.which, names))
    return [] if found else [f"the program {names[0]}: apt-get install {names[0]}"]


def _test_programs() -> list[str]:
    browser = _program("chromium", "chromium-browser", "google-chrome")
    return [*browser, *_program("espeak-ng"), *_program("strace")]


def _address() -> list[str]:
    if address.current().startswith("YOUR_NAME/"):
        return ["the project's public address: make address REPO=owner/name, and push it there"]
    return []


def _spaces() -> list[str]:
    """Report each Space that finds nothing to show, in LABS_STORE or in the demo's store."""
    missing = []
    for name, page in space.SPACES.items():
        try:
            if not space.ADDRESSES & set(space.variables(name)):
                page.reads(open_store(space.address_of(page.lab)))
        except space.SpaceError as error:
            missing.append(f"for the Space {name}: {error}")
        except StoreError:
            lab = name.split("-")[0]
            missing.append(f"a store with what the Space {name} shows: make {lab}, or STORE=...")
    return missing


def _daily_store() -> list[str]:
    from lab1_iris.schema import MODEL as IRIS
    from lab1_wine.schema import GENERATOR
    from lab1_wine.schema import MODEL as WINE

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
    apps = deploy_modal.LABS.values()
    try:
        found = [f"{app.parent.name}: {p}" for app in apps for p in deploy_modal.problems(app)]
    except ModuleNotFoundError as error:
        return [f"the package {error.name}: .venv/bin/pip install -c requirements.txt -e '.[dev]'"]
    return found + deploy_modal.credentials()


def _github() -> list[str]:
    run = subprocess.run(["git", "remote"], cwd=ROOT, capture_output=True, text=True, check=False)
    return _address() + ([] if run.stdout.strip() else ["a git remote: git remote add origin ..."])


def _client(module: str, requirement: str) -> list[str]:
    found = importlib.util.find_spec(module)
    install = f".venv/bin/pip install -c requirements.txt '{requirement}'"
    return [] if found else [f"the package {module}: {install}"]


# Deployment -> what to check besides the variables that docs/settings.md lists for it.
DEPLOYMENTS: dict[str, Callable[[], list[str]]] = {
    "tests": _test_programs,
    "spaces": _spaces,
    "modal": _modal,
    "github workflow": _github,
    "crontab": _daily_store,
    "colab": _address,
    "hopsworks": lambda: _client("hopsworks", "hopsworks[python]"),
    "data collective": lambda: _client("datacollective", "datacollective"),
}
NOT_CHECKED = {  # what a deployment needs and keeps where nothing here can look
    "modal": "not checked: Modal's secret labs, which holds HF_TOKEN and SNAPSHOT_REPO for the "
    "daily jobs (docs/deploy.md has the command)",
}


def missing(deployment: str) -> list[str]:
    """Return what a deployment lacks here, a line each; an empty list where it can start."""
    wanted = [s for s in SETTINGS.values() if deployment in s.needed_for]
    unset = [f"{s.name}: {s.meaning}" for s in wanted if not os.environ.get(s.name)]
    return unset + DEPLOYMENTS[deployment]()


def main() -> None:
    """Print the state of every deployment."""
    for deployment in DEPLOYMENTS:
        found = missing(deployment)
        print(f"{deployment:<16} {'missing' if found else 'ready'}")
        for line in [*found, *filter(None, [NOT_CHECKED.get(deployment)])]:
            print(f"{'':<16} - {line}")
    print("\nWhat each variable is: docs/settings.md. How to deploy: docs/deploy.md.")


if __name__ == "__main__":
    main()
