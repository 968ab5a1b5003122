"""Check a lab's Modal app as far as that is possible without Modal, then deploy it.

    python -m tools.deploy_modal iris            check, then `modal deploy lab1_iris/modal_app.py`
    python -m tools.deploy_modal iris --check    check only

The checks: at most one schedule, and it is a cron expression in a named time zone; every secret
lists its keys, and docs/settings.md explains them; every package of the image is pinned to the
version in requirements.txt; the image contains the project's own code that the app imports, and the
packages that this code imports; Modal's credentials are set.
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

from tools.imports import ROOT, needed_by
from tools.requirements import name_of, pins, version_of, with_dependencies
from tools.settings import SETTINGS

INSTALLS = {"pip_install", "uv_pip_install"}
NEVER_RUN = {  # packages whose imports no function on Modal reaches, by file
    ROOT / "labstore/__init__.py": {"google"},  # Colab's
    ROOT / "labstore/environment.py": {"google"},
    ROOT / "labstore/hopsworks.py": {"hopsworks"},
    ROOT / "lab1_wine/generator.py": {"ctgan", "torch"},  # the daily job uses the copula
}
LABS = {p.parent.name.partition("_")[2]: p for p in sorted(ROOT.glob("lab*/modal_app.py"))}


def problems(path: Path) -> list[str]:
    """Return what must be fixed in a modal_app.py before it can be deployed, a sentence each."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [*_schedules(path), *_secrets(tree), *_pins(tree), *_code(path, tree)]


def credentials() -> list[str]:
    """Return what Modal's client needs to log in and does not find, a sentence each."""
    in_environment = os.environ.get("MODAL_TOKEN_ID") and os.environ.get("MODAL_TOKEN_SECRET")
    config = Path(os.environ.get("MODAL_CONFIG_PATH") or Path.home() / ".modal.toml")
    if in_environment or config.exists():
        return []
    return [
        "No Modal credentials were found: run .venv/bin/modal setup once, or set MODAL_TOKEN_ID and "
        "MODAL_TOKEN_SECRET."
    ]


def image_pins(tree: ast.Module) -> list[str]:
    """Return the requirements that an app's image installs, such as "pandas==2.3.3"."""
    return [ast.literal_eval(a) for _, call in _calls(tree, INSTALLS) for a in call.args]


def image_packages(tree: ast.Module) -> list[str]:
    """Return the project's own packages that are added to an app's image."""
    calls = _calls(tree, {"add_local_python_source"})
    return [ast.literal_eval(a) for _, call in calls for a in call.args]


# ---------------------------------------------------------------------------- the checks


def _schedules(path: Path) -> Iterator[str]:
    import modal
    from croniter import croniter

    module = import_module(f"{path.parent.name}.modal_app")
    functions = {k: f.info() for k, f in vars(module).items() if isinstance(f, modal.Function)}
    scheduled = {name: info.schedule for name, info in functions.items() if info.schedule}
    if len(scheduled) > 1:
        yield (
            f"{' and '.join(scheduled)} have schedules: keep one per lab, because a free Modal account "
            "has only a few."
        )
    for name, schedule in scheduled.items():
        cron = re.fullmatch(r"Cron\('(.+)', ([\w/+-]+)\)", schedule)
        if cron is None:  # a Period starts over with every deployment
            yield f"{name}'s schedule is {schedule}: use modal.Cron with a time zone."
        elif len(cron[1].split()) != 5 or not croniter.is_valid(cron[1]):
            yield f"{name}'s schedule {cron[1]!r} must be a cron expression of five fields."
        elif cron[2] not in available_timezones():
            yield f"{name}'s schedule has the unknown time zone {cron[2]!r}: use one such as UTC."


def _secrets(tree: ast.Module) -> Iterator[str]:
    for method, call in _calls(tree, {"from_name"}):
        if ast.unparse(method) != "modal.Secret.from_name":
            continue
        keys = next((k.value for k in call.keywords if k.arg == "required_keys"), None)
        name = ast.literal_eval(call.args[0])
        if not keys or not ast.literal_eval(keys):
            yield f"The secret {name!r} does not list the keys it must have (required_keys)."
            continue
        for key in set(ast.literal_eval(keys)) - set(SETTINGS):
            yield f"The secret {name!r} has the key {key}, which docs/settings.md does not explain."


def _pins(tree: ast.Module) -> Iterator[str]:
    pinned = pins()
    for pin in image_pins(tree):
        name, version = name_of(pin), version_of(pin)
        if not version:
            yield f"The image's {pin} has no version: pin it, as requirements.txt does."
        elif pinned.get(name) != version:
            yield f"The image has {pin}, requirements.txt {name}=={pinned.get(name, 'nothing')}."
    for method, _ in _calls(tree, {"pip_install_from_pyproject", "pip_install_from_requirements"}):
        yield f"{method.attr} installs bounds, not pins: list the packages with uv_pip_install."


def _code(path: Path, tree: ast.Module) -> Iterator[str]:
    """Yield what the app's functions import and its image lacks: our own code, and other packages."""
    own, foreign = needed_by([path], NEVER_RUN)
    needed = {file.relative_to(ROOT).parts[0] for file in own - {path}}
    for package in sorted(needed - set(image_packages(tree))):
        yield f"The image lacks the project's own {package}: name it in add_local_python_source."
    installs = with_dependencies({name_of(pin) for pin in image_pins(tree)})
    distributions = installed.packages_distributions()
    for name in sorted(foreign - sys.stdlib_module_names - {"modal", "__future__"}):
        if not {name_of(found) for found in distributions.get(name, [])} & installs:
            yield f"The image lacks {name}, which the code that it runs imports."


def _calls(tree: ast.Module, names: set[str]) -> Iterator[tuple[ast.Attribute, ast.Call]]:
    """Yield each call of a method with one of these names, wherever it stands, with the method."""
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call) or not isinstance(node.func, ast.Attribute):
            continue
        if node.func.attr in names:
            yield node.func, node


def main() -> None:
    """Check, and unless --check is given, deploy. Exits with the list of what must be fixed."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("lab", help=f"one of {', '.join(LABS)}")
    parser.add_argument("--check", action="store_true", help="check only")
    arguments = parser.parse_args()
    if arguments.lab not in LABS:
        sys.exit(f"The lab must be one of {', '.join(LABS)}, not {arguments.lab!r}.")
    path = LABS[arguments.lab]
    found = problems(path) + ([] if arguments.check else credentials())
    if found:
        sys.exit("\n".join([f"{path.relative_to(ROOT)} is not deployed:", *found]))
    print(f"{path.relative_to(ROOT)}: schedule, secrets, pins and code are in order.")
    if not arguments.check:
        command = [sys.executable, "-m", "modal", "deploy", str(path.relative_to(ROOT))]
        sys.exit(subprocess.run(command, cwd=ROOT, check=False).returncode)


if __name__ == "__main__":
    main()
