"""A double of what Colab adds to Python, put into a clean environment and loaded at every start.

`google.colab.drive.mount` creates My Drive, in a folder of the test instead of /content/drive. Links,
locks and renames fail in that folder, because on a mounted Drive they cannot be relied on.
"""

from __future__ import annotations

import errno
import fcntl
import importlib.machinery
import importlib.util
import os
import sys
import types
from pathlib import Path

DRIVE = Path(os.environ["REHEARSED_DRIVE"])


def mount(_path: str) -> None:
    (DRIVE / "MyDrive").mkdir(parents=True, exist_ok=True)


def _refusing(function):
    def refuse(*arguments, **more):
        if any(map(_on_drive, [*arguments, *more.values()])):
            raise OSError(errno.EPERM, f"Drive does not support {function.__name__}")
        return function(*arguments, **more)

    return refuse


def _on_drive(what: object) -> bool:
    if hasattr(what, "fileno"):
        what = what.fileno()
    if isinstance(what, int) and not isinstance(what, bool):
        try:
            what = os.readlink(f"/proc/self/fd/{what}")
        except OSError:
            return False
    if not isinstance(what, str | bytes | os.PathLike):
        return False
    return os.path.abspath(os.fsdecode(what)).startswith(f"{DRIVE}/")


class _DriveElsewhere:
    """Import labstore and change its one constant for the folder where Colab mounts Drive."""

    def find_spec(self, name, _path=None, _target=None):
        if name != "labstore":
            return None
        spec = importlib.machinery.PathFinder.find_spec(name)
        if spec is not None:
            spec.loader = _Loader(spec.loader)
        return spec


class _Loader:
    def __init__(self, loader):
        self.loader = loader

    def create_module(self, spec):
        return self.loader.create_module(spec)

    def exec_module(self, module):
        self.loader.exec_module(module)
        module.COLAB_DRIVE = DRIVE


def install() -> None:
    for module, names in (
        (os, ("link", "symlink", "rename", "replace", "renames")),
        (fcntl, ("flock", "lockf")),
    ):
        for name in names:
            setattr(module, name, _refusing(getattr(module, name)))
    colab, drive = types.ModuleType("google.colab"), types.ModuleType("google.colab.drive")
    drive.mount, colab.drive = mount, drive
    for module in (colab, drive):  # libraries detect Colab by it
        module.__spec__ = importlib.machinery.ModuleSpec(module.__name__, None)
    sys.modules["google.colab"], sys.modules["google.colab.drive"] = colab, drive
    if importlib.util.find_spec("google") is None:
        sys.modules["google"] = types.ModuleType("google")
        sys.modules["google"].__spec__ = importlib.machinery.ModuleSpec("google", None)
    sys.meta_path.insert(0, _DriveElsewhere())


install()
