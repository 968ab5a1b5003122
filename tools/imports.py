"""What a file of the project imports, read from its source without running it."""

from __future__ import annotations

import ast
from collections.abc import Iterable, Iterator, Mapping, Set
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent


def imported_names(source: str, typing: bool = False) -> set[str]:
    """Return the dotted names that a source imports, inside functions too.

    `from a.b import c` gives `a.b` and `a.b.c`, because `c` may be a module. Imports under
    `if TYPE_CHECKING:` count only with `typing`. Raises SyntaxError.
    """
    names: set[str] = set()
    for node in _nodes(ast.parse(source), typing):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            module = "." * node.level + (node.module or "")
            names |= {module, *(f"{module}.{alias.name}" for alias in node.names)}
    return names


def _nodes(tree: ast.AST, typing: bool) -> Iterator[ast.AST]:
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and "TYPE_CHECKING" in ast.unparse(node.test) and not typing:
            continue
        yield node
        yield from _nodes(node, typing)


def file_of(module: str, root: Path = ROOT) -> Path | None:
    """Return the file of one of the project's modules, None for any other name."""
    base = root.joinpath(*module.split("."))
    return next((p for p in (base.with_suffix(".py"), base / "__init__.py") if p.is_file()), None)


def needed_by(
    files: Iterable[Path], never_run: Mapping[Path, Set[str]] | None = None
) -> tuple[set[Path], set[str]]:
    """Return what some files need to run: files of the project, and others' top-level packages.

    Imports are followed through the whole project, and the packages that hold a file count too.
    `never_run` names, by file, packages whose imports are not reached and do not count.
    """
    waiting, own, foreign = list(files), set[Path](), set[str]()
    while waiting:
        path = waiting.pop()
        if path in own:
            continue
        own.add(path)
        for name in imported_names(path.read_text(encoding="utf-8")):
            top = name.partition(".")[0]
            if not (ROOT / top / "__init__.py").is_file():
                foreign |= {top} - (never_run or {}).get(path, set())
            elif found := file_of(name):
                waiting += [found, *_packages_around(found)]
    return own, foreign


def _packages_around(path: Path) -> list[Path]:
    """Return the `__init__.py` of each package that holds a file."""
    inits = [folder / "__init__.py" for folder in path.parents if folder.is_relative_to(ROOT)]
    return [init for init in inits if init.is_file()]
