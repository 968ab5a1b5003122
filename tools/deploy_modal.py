"""Check a lab's Modal app as far as it goes without Modal, then deploy it.

    python tools/deploy_modal.py iris            check, then `modal deploy lab1_iris/modal_app.py`
    python tools/deploy_modal.py iris --check    check only

Checked: every schedule is a cron expression in a named time zone, and there is one at most; every
secret names its keys, and docs/settings.md explains them; every package of the image is pinned, as in
requirements.txt; the project's own code that the app imports is added to the image, and what that
code imports is installed there; Modal's credentials are there.
"""

from __future__ import annotations

import argparse
import ast
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from importlib import import_module
from importlib import metadata as installed
from pathlib import Path
from zoneinfo import available_timezones

ROOT = Path(__file__).resolve().parent.parent
sys.path[:0] = [str(ROOT), str(ROOT / "tools")]

INSTALLS = {"pip_install", "uv_pip_install"}
OPTIONAL = {  # imports that nothing on Modal comes to, by file
    ROOT / "labstore/__init__.py": {"google"},  # Colab's
    ROOT / "labstore/hopsworks.py": {"hopsworks"},
    ROOT / "lab1_wine/generator.py": {"ctgan", "torch"},  # the job's generator is the copula
}
LABS = {p.parent.name.partition("_")[2]: p for p in sorted(ROOT.glob("lab*/modal_app.py"))}


def problems(path: Path) -> list[str]:
    """What has to be mended in a modal_app.py before it is deployed; empty when nothing has."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        *_schedules(path),
        *_secrets(tree),
        *_pins(tree),
        *_code(path, tree),
    ]


def credentials() -> list[str]:
    """What Modal's client would miss."""
    there = os.environ.get("MODAL_TOKEN_ID") and os.environ.get("MODAL_TOKEN_SECRET")
    config = Path(os.environ.get("MODAL_CONFIG_PATH") or Path.home() / ".modal.toml")
    if there or config.exists():
        return []
    return [
        "Modal does not know you: run .venv/bin/modal setup once, or set MODAL_TOKEN_ID and "
        "MODAL_TOKEN_SECRET."
    ]


# ---------------------------------------------------------------------------- the checks


def _schedules(path: Path) -> Iterator[str]:
    import modal
    from croniter import croniter

    module = import_module(f"{path.parent.name}.modal_app")
    functions = {k: f.info() for k, f in vars(module).items() if isinstance(f, modal.Function)}
    timed = {name: info.schedule for name, info in functions.items() if info.schedule}
    if len(timed) > 1:
        yield f"{' and '.join(timed)} have schedules: keep one a lab, a free account has few."
    for name, schedule in timed.items():
        cron = re.fullmatch(r"Cron\('(.+)', ([\w/+-]+)\)", schedule)
        if cron is None:  # a Period starts anew with every deployment
            yield f"{name}'s schedule is {schedule}: use modal.Cron with a time zone."
        elif len(cron[1].split()) != 5 or not croniter.is_valid(cron[1]):
            yield f"{name}'s schedule {cron[1]!r} is no cron expression of five fields."
        elif cron[2] not in available_timezones():
            yield f"{name}'s schedule is in the time zone {cron[2]!r}, which there is not."


def _secrets(tree: ast.Module) -> Iterator[str]:
    from doctor import SETTINGS

    for call in _calls(tree, {"from_name"}):
        if ast.unparse(call.func) != "modal.Secret.from_name":
            continue
        keys = next((k.value for k in call.keywords if k.arg == "required_keys"), None)
        name = ast.literal_eval(call.args[0])
        if not keys or not ast.literal_eval(keys):
            yield f"The secret {name!r} does not say which keys it must have (required_keys)."
            continue
        for key in set(ast.literal_eval(keys)) - set(SETTINGS):
            yield f"The secret {name!r} has the key {key}, which docs/settings.md does not explain."


def _pins(tree: ast.Module) -> Iterator[str]:
    wanted = _requirements()
    for call in _calls(tree, INSTALLS):
        for argument in call.args:
            pin = ast.literal_eval(argument)
            name, _, version = pin.partition("==")
            name = _normal(name)
            if not version:
                yield f"The image's {pin} has no version: pin it, as requirements.txt does."
            elif wanted.get(name) != version:
                yield f"The image has {pin}, requirements.txt {name}=={wanted.get(name, 'nothing')}."
    for call in _calls(tree, {"pip_install_from_pyproject", "pip_install_from_requirements"}):
        yield f"{call.func.attr} takes bounds, not pins: list the packages with uv_pip_install."


def _code(path: Path, tree: ast.Module) -> Iterator[str]:
    """Is all there that the app's functions import, of the project's code and of others'?"""
    added = {
        ast.literal_eval(argument)
        for call in _calls(tree, {"add_local_python_source"})
        for argument in call.args
    }
    ours, theirs = _imported(path)
    for package in sorted({name.partition(".")[0] for name in ours} - added):
        yield f"The image lacks the project's own {package}: name it in add_local_python_source."
    pins = [ast.literal_eval(a) for call in _calls(tree, INSTALLS) for a in call.args]
    there = _with_dependencies(_normal(re.split(r"[=\[]", pin)[0]) for pin in pins)
    packages = installed.packages_distributions()
    for name in sorted(theirs - sys.stdlib_module_names - {"modal", "__future__"}):
        if not {_normal(found) for found in packages.get(name, [])} & there:
            yield f"The image lacks {name}, which the code that it runs imports."


# ------------------------------------------------------------------------------- helpers


def _calls(tree: ast.Module, names: set[str]) -> list[ast.Call]:
    """Calls of methods with these names, wherever they stand."""
    calls = (node for node in ast.walk(tree) if isinstance(node, ast.Call))
    return [c for c in calls if isinstance(c.func, ast.Attribute) and c.func.attr in names]


def _imported(app: Path) -> tuple[set[str], set[str]]:
    """The project's modules that an app needs, all the way down, and others' top-level names.

    Every import counts, those within functions too, but for the few in OPTIONAL.
    """
    waiting, ours, theirs = _imports(app), set(), set()
    while waiting:
        name = waiting.pop()
        path = _file_of(name)
        if path is None:
            if not (ROOT / name.partition(".")[0]).is_dir():
                theirs.add(name.partition(".")[0])
        elif name not in ours:
            ours.add(name)
            waiting |= _imports(path)
    return ours, theirs


def _imports(path: Path) -> set[str]:
    names = set()
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    left_out = OPTIONAL.get(path, set())
    return {name for name in names if name.partition(".")[0] not in left_out}


def _file_of(module: str) -> Path | None:
    home = ROOT.joinpath(*module.split("."))
    return next((p for p in (home.with_suffix(".py"), home / "__init__.py") if p.is_file()), None)


def _with_dependencies(names: Iterator[str]) -> set[str]:
    """Packages and all that they bring, going by what is installed here."""
    waiting, found = set(names), set()
    while waiting:
        name = waiting.pop()
        found.add(name)
        try:
            needs = installed.requires(name) or []
        except installed.PackageNotFoundError:
            continue
        bare = {_normal(re.match(r"[\w.-]+", n)[0]) for n in needs if "extra ==" not in n}
        waiting |= bare - found
    return found


def _requirements() -> dict[str, str]:
    lines = (ROOT / "requirements.txt").read_text(encoding="utf-8").split()
    return {_normal(name): version for name, _, version in (line.partition("==") for line in lines)}


def _normal(name: str) -> str:
    return re.sub(r"[-_.]+", "-", name).lower()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("lab", help=f"of {', '.join(LABS)}")
    parser.add_argument("--check", action="store_true", help="check only")
    arguments = parser.parse_args()
    if arguments.lab not in LABS:
        sys.exit(f"There is no lab {arguments.lab!r}. Choose from: {', '.join(LABS)}.")
    path = LABS[arguments.lab]
    found = problems(path) + ([] if arguments.check else credentials())
    if found:
        sys.exit("\n".join([f"{path.relative_to(ROOT)} is not deployed:", *found]))
    print(f"{path.relative_to(ROOT)}: schedule, secrets, pins and code are in order.")
    if not arguments.check:
        words = [sys.executable, "-m", "modal", "deploy", str(path.relative_to(ROOT))]
        sys.exit(subprocess.run(words, cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
