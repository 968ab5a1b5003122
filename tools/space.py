"""Stage a page as the folder that a Hugging Face Space is made of, and upload it.

    python -m tools.space stage iris              into build/spaces/iris
    python -m tools.space push iris owner/name    stage, create the Space, set it up, upload

The folder holds the page's own files (app.py, README.md with its header, requirements.txt, for
Streamlit a Dockerfile), those files of the lab and of labstore that the page imports, and a store
with only what the page reads: the best model, or a monitor's snapshot. It needs nothing outside
itself. The store is LABS_STORE, else the demo's. Where it is not a folder, the Space gets its
address instead of a copy; the same holds for LABS_SNAPSHOT and a monitor.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

from huggingface_hub import metadata_load

from labstore import FilesVersion, Store, StoreError, open_store
from labstore.monitor import snapshot
from tools.imports import ROOT, needed_by
from tools.requirements import name_of, pins

STATIC = "static"  # one HTML file, no code
ADDRESSES = {"LABS_STORE", "LABS_SNAPSHOT", "WHISPER_MODEL"}  # each replaces a copy
HOPSWORKS = "hopsworks:"  # the one kind of store that a page reads over the network
KEY, HOSTS = "HOPSWORKS_API_KEY", ("HOPSWORKS_HOST", "HOPSWORKS_PORT")  # what opens it


def _model(lab: str) -> Callable[[Store], FilesVersion]:
    return lambda store: store.load_model(import_module(f"{lab}.schema").MODEL)


def _snapshot(lab: str) -> Callable[[Store], FilesVersion]:
    return lambda store: store.open_files(import_module(f"{lab}.schema").SNAPSHOT)


@dataclass(frozen=True)
class Space:
    """A page that can be a Space: its folder in the lab, and what it reads from a store."""

    lab: str
    folder: str
    reads: Callable[[Store], FilesVersion]
    settings: tuple[str, ...] = ()  # variables that the Space gets too, where they are set here


def _whisper_model(store: Store) -> FilesVersion:
    """Return the best model of the corpus that the Whisper page serves."""
    from lab2_whisper.schema import model_of

    return store.load_model(model_of(os.environ.get("WHISPER_CORPUS") or "nano_pl"))


WHISPER = ("CORPUS", "MODEL", "MAX_MINUTES", "MAX_MB", "QUEUE", "AWAY")
SPACES = {
    "iris": Space("lab1_iris", "app", _model("lab1_iris")),
    "iris-monitor": Space("lab1_iris", "monitor", _snapshot("lab1_iris")),
    "wine": Space("lab1_wine", "app", _model("lab1_wine")),
    "wine-monitor": Space("lab1_wine", "monitor", _snapshot("lab1_wine")),
    "whisper": Space(
        "lab2_whisper", "app", _whisper_model, tuple(f"WHISPER_{name}" for name in WHISPER)
    ),
    "iris-monitor-static": Space("lab1_iris", STATIC, _snapshot("lab1_iris")),
    "wine-monitor-static": Space("lab1_wine", STATIC, _snapshot("lab1_wine")),
}


class SpaceError(Exception):
    """A Space cannot be staged or pushed yet; the message says what is wrong and what to do."""


def stage(name: str, into: Path = ROOT / "build" / "spaces") -> Path:
    """Write the Space's folder and return it; an older one is removed first.

    Raises SpaceError, or StoreError where the store lacks what the page shows.
    """
    if name not in SPACES:
        raise SpaceError(f"The Space must be one of {', '.join(SPACES)}, not {name!r}.")
    space, home = SPACES[name], into / name
    shutil.rmtree(home, ignore_errors=True)
    if space.folder == STATIC:
        return import_module(f"{space.lab}.monitor_page").write_static(_content(space), home)
    page = ROOT / space.lab / space.folder
    shutil.copytree(page, home, ignore=shutil.ignore_patterns("__pycache__"))
    for source in _code(page / "app.py"):
        target = home / source.relative_to(ROOT)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(source, target)
    if not ADDRESSES & set(variables(name)):
        _copy_version(open_store(address_of(space.lab)), space.reads, home / "store")
    if "LABS_STORE" in variables(name):
        _require(home / "requirements.txt", "hopsworks[python]")
    return home


def variables(name: str) -> dict[str, str]:
    """Return the Space's variables and their values, with the addresses that replace a copy.

    Raises SpaceError for an address that a Space cannot reach.
    """
    space, published = SPACES[name], os.environ.get("LABS_SNAPSHOT", "")
    if space.folder == STATIC:
        return {}
    chosen = {key: os.environ[key] for key in space.settings if os.environ.get(key)}
    if Path(chosen.get("WHISPER_MODEL", os.devnull)).is_dir():
        raise SpaceError(
            f"WHISPER_MODEL is the folder {chosen['WHISPER_MODEL']}, which a Space cannot read: name a "
            "model on the Hub, or unset it to send the best one of the store."
        )
    if space.folder == "monitor" and published:
        if not published.startswith("https://"):
            raise SpaceError(
                f"LABS_SNAPSHOT is the file {published}, which a Space cannot read: give its https:// "
                "address, or unset it to send the newest one of the store."
            )
        return chosen | {"LABS_SNAPSHOT": published}
    address = address_of(space.lab)
    if "WHISPER_MODEL" in chosen or not address.startswith(HOPSWORKS):
        return chosen
    if address == HOPSWORKS:
        address += _from_environment("HOPSWORKS_PROJECT", f"the address {address} names no project")
    hosts = {key: os.environ[key] for key in HOSTS if os.environ.get(key)}
    return chosen | hosts | {"LABS_STORE": address}


def secrets(name: str) -> dict[str, str]:
    """Return the secrets that open those addresses. Raises SpaceError for one that is not set."""
    if "LABS_STORE" not in variables(name):
        return {}
    return {KEY: _from_environment(KEY, "the Space opens its store with it")}


def _require(requirements: Path, package: str) -> None:
    """Add a package to a requirements file, with the version of requirements.txt."""
    with requirements.open("a", encoding="utf-8") as file:
        file.write(f"{package}=={pins()[name_of(package)]}\n")


def push(name: str, repo: str, into: Path = ROOT / "build" / "spaces") -> str:
    """Stage a Space, create it if needed, set its variables, upload it, and return its address.

    Raises SpaceError before anything is created where a setting is missing.
    """
    if not re.fullmatch(r"[\w.-]+/[\w.-]+", repo):
        raise SpaceError(f"Name the Space as owner/name: make push-space-{name} SPACE=owner/name")
    token = _from_environment("HF_TOKEN", "a token of your account that may write")
    home = stage(name, into)
    chosen, hidden = variables(name), secrets(name)
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(repo, repo_type="space", space_sdk=header(home)["sdk"], exist_ok=True)
    if "WHISPER_MODEL" in chosen:
        _check_model(api, repo, chosen["WHISPER_MODEL"])
    if header(home)["sdk"] != STATIC:  # a static page has no settings
        _remove_old_settings(
            api, repo, {*chosen, *hidden}, {*SPACES[name].settings, *ADDRESSES, *HOSTS}
        )
    for key, value in chosen.items():
        api.add_space_variable(repo, key, value)
    for key, value in hidden.items():
        api.add_space_secret(repo, key, value)
    # delete_patterns: files of an earlier upload that this one does not have are removed
    api.upload_folder(repo_id=repo, repo_type="space", folder_path=home, delete_patterns="*")
    return f"https://huggingface.co/spaces/{repo}"


def _remove_old_settings(api: Any, repo: str, wanted: set[str], ours: set[str]) -> None:
    """Remove what an earlier push set and this one does not: the page would prefer it to the copy."""
    for key in (ours & set(api.get_space_variables(repo))) - wanted:
        api.delete_space_variable(repo, key)
    if KEY in set(api.get_space_secrets(repo)) - wanted:
        api.delete_space_secret(repo, KEY)


def _check_model(api: Any, repo: str, model: str) -> None:
    """Raise SpaceError for a model on the Hub that does not exist or that the Space may not read."""
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        found = api.model_info(model)
    except (RepositoryNotFoundError, HFValidationError) as error:
        raise SpaceError(
            f"WHISPER_MODEL: the Hub has no model {model} that your token may read. Check its name, "
            "owner/name, and the token in HF_TOKEN."
        ) from error
    if (found.private or found.gated) and "HF_TOKEN" not in api.get_space_secrets(repo):
        raise SpaceError(
            f"{model} is not public (the lab uploads models as private), and the Space has no token "
            "that may read it. The Space is created but still empty. Make the model public at "
            f"https://huggingface.co/{model}/settings, or give the Space a secret HF_TOKEN, a token that "
            f"may only read, at https://huggingface.co/spaces/{repo}/settings. Then run this again."
        )


def header(home: Path) -> dict[str, Any]:
    """Return the settings at the top of a Space's README.md. Raises SpaceError where it has none."""
    if not (found := metadata_load(home / "README.md")):
        raise SpaceError(
            f"{home / 'README.md'} must begin with a Space's header between --- lines."
        )
    return found


def address_of(lab: str) -> str:
    """Return the address of the store that a lab's Spaces are made from."""
    return os.environ.get("LABS_STORE") or str(ROOT / "build" / "demo" / lab / "store")


def _code(app: Path) -> list[Path]:
    """Return the project's files that a page needs, without the page itself."""
    own, _ = needed_by([app])
    return sorted(own - {app})


def _content(space: Space) -> dict[str, Any]:
    """Return the snapshot that a static page is made of."""
    if address := os.environ.get("LABS_SNAPSHOT"):
        return snapshot.fetch(address)
    return snapshot.fetch(space.reads(open_store(address_of(space.lab))).path / snapshot.FILE)


def _copy_version(store: Store, reads: Callable[[Store], FilesVersion], target: Path) -> None:
    """Copy one verified version to a new store, with its number and its date."""
    version = reads(store)
    inside = version.path.relative_to(version.path.parents[2])  # kind, name, version
    shutil.copytree(version.path, target / inside)


def _from_environment(key: str, purpose: str) -> str:
    if not (value := os.environ.get(key)):
        raise SpaceError(f"{key} is not set: {purpose}. Then run this again: export {key}=...")
    return value


def main() -> None:
    """Stage or push one Space. Exits with one sentence where that is not possible."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("action", choices=["stage", "push"])
    parser.add_argument("name", help=f"one of {', '.join(SPACES)}")
    parser.add_argument("repo", nargs="?", default="", help="owner/name, to push to")
    arguments = parser.parse_args()
    try:
        if arguments.action == "stage":
            print(f"staged: {stage(arguments.name)}")
        else:
            print(f"pushed: {push(arguments.name, arguments.repo)}")
    except (SpaceError, StoreError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
