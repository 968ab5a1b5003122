"""Stage a page as the folder that a Hugging Face Space is made of, and upload it.

    python tools/space.py stage iris                  into build/spaces/iris
    python tools/space.py push iris owner/name        stage, create the Space, set it up, upload

The folder holds the page's own files (app.py, README.md with its header, requirements.txt, for
Streamlit a Dockerfile), the lab's package and labstore, and a store with just what the page
reads: the best model, or a monitor's snapshot. It needs nothing from outside itself. The store is
LABS_STORE, else the demo's; where that is no folder, its address goes along instead, and the same
with LABS_SNAPSHOT for a monitor.
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

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

from labstore import FilesVersion, Store, StoreError, open_store  # noqa: E402
from labstore.monitor import snapshot  # noqa: E402

NOT_IN_A_SPACE = ("__pycache__", "*.pyc", "app", "monitor", "nano", "modal_app.py", "make_*.py")
STATIC = "static"  # one HTML file, no code
INSTEAD = {"LABS_STORE", "LABS_SNAPSHOT", "WHISPER_MODEL"}  # addresses that stand in for a copy
HOPSWORKS = "hopsworks:"  # the one kind of store that a page opens from afar
KEY, HOSTS = "HOPSWORKS_API_KEY", ("HOPSWORKS_HOST", "HOPSWORKS_PORT")  # how it is opened


def _model(lab: str) -> Callable[[Store], FilesVersion]:
    return lambda store: store.load_model(import_module(f"{lab}.schema").MODEL)


def _snapshot(lab: str) -> Callable[[Store], FilesVersion]:
    return lambda store: store.open_files(import_module(f"{lab}.schema").SNAPSHOT)


@dataclass(frozen=True)
class Space:
    """A page that can be a Space: its folder of the lab, and what it reads from a store."""

    lab: str
    folder: str
    reads: Callable[[Store], FilesVersion]
    settings: tuple[str, ...] = ()  # variables that go along where they are set here


def _speech(store: Store) -> FilesVersion:
    """The best model of the corpus that the Whisper page serves."""
    from lab2_whisper.schema import model_of

    return store.load_model(model_of(os.environ.get("WHISPER_CORPUS") or "nano_pl"))


WHISPER = ("CORPUS", "MODEL", "MAX_MINUTES", "MAX_MB", "QUEUE", "AWAY")
SPACES = {
    "iris": Space("lab1_iris", "app", _model("lab1_iris")),
    "iris-monitor": Space("lab1_iris", "monitor", _snapshot("lab1_iris")),
    "wine": Space("lab1_wine", "app", _model("lab1_wine")),
    "wine-monitor": Space("lab1_wine", "monitor", _snapshot("lab1_wine")),
    "whisper": Space("lab2_whisper", "app", _speech, tuple(f"WHISPER_{name}" for name in WHISPER)),
    "iris-monitor-static": Space("lab1_iris", STATIC, _snapshot("lab1_iris")),
    "wine-monitor-static": Space("lab1_wine", STATIC, _snapshot("lab1_wine")),
}


class SpaceError(Exception):
    """Something that a person has to mend first; the message says what, and what to do."""


def stage(name: str, into: Path = ROOT / "build" / "spaces") -> Path:
    """Make the Space's folder anew. Raises SpaceError, or StoreError where the store lacks what it shows."""
    if name not in SPACES:
        raise SpaceError(f"There is no Space {name!r}. Choose from: {', '.join(SPACES)}.")
    space, home = SPACES[name], into / name
    shutil.rmtree(home, ignore_errors=True)
    if space.folder == STATIC:
        return import_module(f"{space.lab}.monitor_page").write_static(_content(space), home)
    left_out = shutil.ignore_patterns(*NOT_IN_A_SPACE)
    shutil.copytree(ROOT / space.lab / space.folder, home, ignore=left_out)
    for package in ("labstore", space.lab):
        shutil.copytree(ROOT / package, home / package, ignore=left_out)
    if not INSTEAD & set(variables(name)):
        _copy_version(open_store(address_of(space.lab)), space.reads, home / "store")
    if "LABS_STORE" in variables(name):
        _require(home / "requirements.txt", "hopsworks[python]")
    return home


def variables(name: str) -> dict[str, str]:
    """Names and values for the Space's settings, among them addresses that stand in for a copy."""
    space, published = SPACES[name], os.environ.get("LABS_SNAPSHOT", "")
    if space.folder == STATIC:
        return {}
    chosen = {key: os.environ[key] for key in space.settings if os.environ.get(key)}
    if Path(chosen.get("WHISPER_MODEL", os.devnull)).is_dir():
        raise SpaceError(
            f"WHISPER_MODEL is the folder {chosen['WHISPER_MODEL']}, which a Space does not see: name a "
            "model on the Hub, or unset it to send the best one of the store."
        )
    if space.folder == "monitor" and published:
        if not published.startswith("https://"):
            raise SpaceError(
                f"LABS_SNAPSHOT is the file {published}, which a Space does not see: give its https:// "
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
    """What opens those addresses, from the environment. Raises SpaceError for a missing one."""
    if "LABS_STORE" not in variables(name):
        return {}
    return {KEY: _from_environment(KEY, "the Space opens its store with it")}


def _require(requirements: Path, package: str) -> None:
    """One more package, pinned as everywhere."""
    bare = package.partition("[")[0]
    pins = (ROOT / "requirements.txt").read_text(encoding="utf-8")
    version = re.search(rf"^{bare}==(\S+)$", pins, re.M)[1]
    with requirements.open("a", encoding="utf-8") as file:
        file.write(f"{package}=={version}\n")


def push(name: str, repo: str, into: Path = ROOT / "build" / "spaces") -> str:
    """Stage, then create the Space where there is none, set it up and upload; its address."""
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
        _forget(api, repo, {*chosen, *hidden}, {*SPACES[name].settings, *INSTEAD, *HOSTS})
    for key, value in chosen.items():
        api.add_space_variable(repo, key, value)
    for key, value in hidden.items():
        api.add_space_secret(repo, key, value)
    # What an earlier upload left there and this one has not, goes.
    api.upload_folder(repo_id=repo, repo_type="space", folder_path=home, delete_patterns="*")
    return f"https://huggingface.co/spaces/{repo}"


def _forget(api: Any, repo: str, wanted: set[str], ours: set[str]) -> None:
    """Take away what an earlier push has set and this one does not: it would go before the copy."""
    for key in (ours & set(api.get_space_variables(repo))) - wanted:
        api.delete_space_variable(repo, key)
    if KEY in set(api.get_space_secrets(repo)) - wanted:
        api.delete_space_secret(repo, KEY)


def _check_model(api: Any, repo: str, model: str) -> None:
    """Raises SpaceError for a model on the Hub that the Space would not be let in to."""
    from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError

    try:
        found = api.model_info(model)
    except (RepositoryNotFoundError, HFValidationError):
        raise SpaceError(f"WHISPER_MODEL: your token sees no model {model} on the Hub.") from None
    if (found.private or found.gated) and "HF_TOKEN" not in api.get_space_secrets(repo):
        raise SpaceError(
            f"{model} is not public, as models that the lab uploads are at first, and the Space, which "
            "is there but not filled yet, has no token that may read it. Make the model public at "
            f"https://huggingface.co/{model}/settings, or give the Space a secret HF_TOKEN, a token that "
            f"may only read, at https://huggingface.co/spaces/{repo}/settings. Then run this again."
        )


def header(home: Path) -> dict[str, str]:
    """The settings at the top of a Space's README.md; plain `key: value` lines are all it has."""
    lines = (home / "README.md").read_text(encoding="utf-8").split("---\n")[1].splitlines()
    return {key: value.strip(' "') for key, _, value in (line.partition(":") for line in lines)}


def address_of(lab: str) -> str:
    return os.environ.get("LABS_STORE") or str(ROOT / "build" / "demo" / lab / "store")


def _content(space: Space) -> dict[str, Any]:
    """The snapshot that a static page is made of."""
    if address := os.environ.get("LABS_SNAPSHOT"):
        return snapshot.fetch(address)
    return snapshot.fetch(space.reads(open_store(address_of(space.lab))).path / snapshot.FILE)


def _copy_version(store: Store, reads: Callable[[Store], FilesVersion], target: Path) -> None:
    """One verified version, in the same place of a new store: it keeps its number and its date."""
    version = reads(store)
    inside = version.path.relative_to(version.path.parents[2])  # kind, name, version
    shutil.copytree(version.path, target / inside)


def _from_environment(key: str, what: str) -> str:
    if not (value := os.environ.get(key)):
        raise SpaceError(f"{key} is not set: {what}. Then run this again: export {key}=...")
    return value


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("what", choices=["stage", "push"])
    parser.add_argument("name", help=f"of {', '.join(SPACES)}")
    parser.add_argument("repo", nargs="?", default="", help="owner/name, to push to")
    arguments = parser.parse_args()
    try:
        if arguments.what == "stage":
            print(f"staged: {stage(arguments.name)}")
        else:
            print(f"pushed: {push(arguments.name, arguments.repo)}")
    except (SpaceError, StoreError) as error:
        sys.exit(str(error))


if __name__ == "__main__":
    main()
