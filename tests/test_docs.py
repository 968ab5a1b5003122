"""What README, docs and CONTRIBUTING name exists, and their figures are those of benchmarks/results.

A table of figures ends in a column of keys: the row's figures, read from left to right after its
label, are the values of its keys in benchmarks/results. `a.{x,y}` stands for `a.x` and `a.y`. In
docs/results.md a section fixes the file; in README.md the key begins with its name. "%" means a
hundredth, "yes" and "no" are true and false.
"""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
from functools import cache
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LABS = {"docs/iris.md": "lab1_iris", "docs/wine.md": "lab1_wine", "docs/whisper.md": "lab2_whisper"}
BENCHMARKS = {  # section of docs/results.md -> script and file of results
    "Store": "store",
    "Iris": "iris",
    "Wine": "wine",
    "Whisper features": "corpora",
    "Whisper training": "training",
    "Training on a GPU": "gpu_training",
    "Transcription": "transcription",
}

every_page = pytest.mark.parametrize("page", PAGES, ids=lambda p: str(p.relative_to(ROOT)))


def blocks(text: str) -> list[str]:
    """The fenced code blocks."""
    return re.findall(r"^```\w*\n(.*?)^```$", text, re.M | re.S)


def code(text: str) -> list[str]:
    """The lines of fenced code without comments, and the code spans of the rest."""
    lines = [line for block in blocks(text) for line in block.replace("\\\n", " ").splitlines()]
    rest = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    return [line.partition(" #")[0] for line in lines] + re.findall(r"`([^`]+)`", rest)


@cache
def tracked() -> frozenset[str]:
    """Every file of the project and every folder above one, with "/" between."""
    try:
        command = ["git", "ls-files", "--cached", "--others", "--exclude-standard"]
        names = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=True)
        files = [name for name in names.stdout.splitlines() if (ROOT / name).exists()]
    except (OSError, subprocess.CalledProcessError):  # an archive without git
        files = [str(p.relative_to(ROOT)) for p in ROOT.rglob("*") if p.is_file()]
    return frozenset(files) | {str(above) for name in files for above in Path(name).parents}


# ------------------------------------------------------------------------- the front page


def test_the_front_page_has_at_most_1200_words():
    assert len((ROOT / "README.md").read_text(encoding="utf-8").split()) <= 1200


def test_the_front_page_leads_to_every_page_of_the_docs():
    linked = set(re.findall(r"\]\((docs/\w+\.md)", (ROOT / "README.md").read_text("utf-8")))
    assert linked == {f"docs/{p.name}" for p in (ROOT / "docs").glob("*.md")}


# --------------------------------------------------------------- what is named exists


def targets(command: str) -> list[str]:
    """The targets of a `make` command, without options and variables; [] for another command."""
    words = re.sub(r"\s\d?>.*", "", command).split()
    while words and re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    words = words[1:] if words[:1] == ["make"] else []
    return [word for word in words if not re.match(r"-|[A-Z_]+=|\.\.\.$", word)]


@every_page
def test_every_make_target_exists(page):
    makefile = (ROOT / "Makefile").read_text(encoding="utf-8")
    rules = re.findall(r"^([\w.%/-]+):(?!=)", makefile, re.M)
    patterns = [re.compile(re.escape(rule).replace("%", r"[\w-]+")) for rule in rules]
    commands = [c for line in code(page.read_text("utf-8")) for c in re.split(r"&&|;|\|", line)]
    named = {target for command in commands for target in targets(command)}
    assert [t for t in sorted(named) if not any(p.fullmatch(t) for p in patterns)] == []


@every_page
def test_every_file_and_folder_that_is_named_exists(page):
    """Paths that begin with a file or folder of the top, and bare names of source files."""
    top = {name.split("/")[0] for name in tracked()} - {"store", ".venv"}
    suffixes = (".py", ".md", ".ipynb", ".toml", ".yml")
    basenames = {Path(name).name for name in tracked()}
    missing = []
    for line in code(page.read_text("utf-8")):
        for word in re.findall(r"[\w./*%-]+", line.replace("NAME", "iris")):
            name = word.removeprefix("./").rstrip("/.")
            if "/" in name and name.split("/")[0] in top:
                found = name in tracked() or ("*" in name and list(ROOT.glob(name)))
            else:
                found = "/" in name or not name.endswith(suffixes) or name in basenames
            missing += [] if found else [word]
    assert missing == []


def tree(block: str) -> list[str]:
    """The paths of an indented tree that begins with a folder; [] for another block."""
    lines = [line for line in block.splitlines() if line.strip()]
    if not lines or not re.match(r"[\w.]+/(\s|$)", lines[0]):
        return []
    found, above = [], [(-1, "")]
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if indent > 16:  # a remark that goes on
            continue
        while above[-1][0] >= indent:
            above.pop()
        folder = above[-1][1]
        for name in re.match(r"\s*((?:\S*[./]\S*(?:\s+|$))*)", line)[1].split():
            found.append(folder + name)
            if name.endswith("/"):
                above.append((indent, folder + name))
    return found


@pytest.mark.parametrize("page", ["README.md", "docs/architecture.md"])
def test_every_entry_of_the_trees_exists(page):
    text = (ROOT / page).read_text("utf-8")
    entries = [entry for block in blocks(text) for entry in tree(block)]
    assert len(entries) > 10
    assert [path for path in entries if path.rstrip("/") not in tracked()] == []


def test_the_architecture_has_a_line_for_every_module():
    text = (ROOT / "docs/architecture.md").read_text("utf-8")
    listed = {path for block in blocks(text) for path in tree(block)}
    whole = [f for f in listed if re.fullmatch(r"lab\d_\w+/(app|monitor|nano)/", f)]
    modules = [n for n in tracked() if re.match(r"lab(store|\d_\w+)/.*\.py$", n)]
    modules = [n for n in modules if not n.endswith("__init__.py")]
    assert [n for n in sorted(modules) if n not in listed and not n.startswith(tuple(whole))] == []


@every_page
def test_every_module_that_is_run_exists_and_takes_the_options(page):
    for line in code(page.read_text("utf-8")):
        for module, rest in re.findall(r"(?:python3?|launch) -m ([\w.]+)([^|;&]*)", line):
            if not module.startswith("lab"):
                assert importlib.util.find_spec(module.split(".")[0]), f"{page.name}: {module}"
                continue
            path = ROOT / module.replace(".", "/")
            path = path / "__main__.py" if path.is_dir() else path.with_suffix(".py")
            assert path.exists(), f"{page.name}: `python -m {module}` has no {path.name}"
            source = path.read_text("utf-8")
            if "ledger import" in source:  # the command line of both daily jobs
                source += (ROOT / "labstore/ledger.py").read_text("utf-8")
            for option in re.findall(r"--[a-z-]+", rest):
                assert f'"{option}"' in source, f"{page.name}: {module} has no {option}"


@every_page
def test_every_name_that_an_example_imports_exists(page):
    text = page.read_text(encoding="utf-8")
    for module, names in re.findall(r"^from (lab[\w.]+) import ([\w, ]+)$", text, re.M):
        path = ROOT / module.replace(".", "/")
        path = path / "__init__.py" if path.is_dir() else path.with_suffix(".py")
        source = path.read_text("utf-8")
        for name in names.split(", "):
            assert re.search(rf"\b{name}\b", source), f"{page.name}: {module} has no {name}"


@every_page
def test_every_link_to_a_file_or_heading_leads_somewhere(page):
    text = page.read_text(encoding="utf-8")
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if re.match(r"https?://|mailto:", target):
            continue
        name, _, anchor = target.partition("#")
        path = (page.parent / name).resolve() if name else page
        assert path.exists(), f"{page.name}: {target}"
        if anchor:
            headings = re.findall(r"^#+ (.*)$", path.read_text("utf-8"), re.M)
            anchors = {re.sub(r"[^\w\- ]", "", h.lower()).replace(" ", "-") for h in headings}
            assert anchor in anchors, f"{page.name}: {path.name} has no heading for #{anchor}"


@pytest.mark.parametrize("page", LABS)
def test_a_labs_page_names_parameters_of_its_notebooks(page):
    """Words in capitals are parameters of the lab's notebooks, settings, or words of `make`."""
    settings = (ROOT / "docs/settings.md").read_text("utf-8")
    known = {"REPO", "SPACE", "FROM", "TO", *re.findall(r"^\| `([A-Z_]+)` \|", settings, re.M)}
    for notebook in (ROOT / "notebooks" / LABS[page]).glob("*.ipynb"):
        for cell in json.loads(notebook.read_text("utf-8"))["cells"]:
            if "parameters" in cell["metadata"].get("tags", []):
                known |= set(re.findall(r"^([A-Z_]+) =", "".join(cell["source"]), re.M))
    spans = re.findall(r"`([A-Z][A-Z_]+)(?: = [^`]*)?`", (ROOT / page).read_text("utf-8"))
    assert spans and not set(spans) - known, sorted(set(spans) - known)


# ------------------------------------------------------------------------------- figures

NUMBER = re.compile(r"(-?\d[\d,]*(?:\.\d+)?)( %)?|\b(yes|no)\b")


@cache
def results(name: str) -> dict:
    return json.loads((ROOT / "benchmarks" / "results" / f"{name}.json").read_text("utf-8"))


def expanded(key: str) -> list[str]:
    """`a.{x,y}` as ["a.x", "a.y"]."""
    part = re.search(r"\{([^{}]*)\}", key)
    if not part:
        return [key]
    before, after = key[: part.start()], key[part.end() :]
    return [one for choice in part[1].split(",") for one in expanded(before + choice + after)]


def value_of(key: str, section: str | None):
    """What a key stands for in benchmarks/results."""
    name, path = (section, key) if section else key.split(".", 1)
    found = results(name)
    for step in path.split("."):
        found = found[int(step)] if isinstance(found, list) else found[step]
    return found


def agree(shown: re.Match, value) -> bool:
    """Whether a figure is the kept value, rounded to the decimals that are shown."""
    number, percent, word = shown.groups()
    if isinstance(value, bool) or word:
        return word == {True: "yes", False: "no"}.get(value, "")
    half = 0.5 / 10 ** len(number.partition(".")[2])
    kept = value * (100 if percent else 1)
    return abs(float(number.replace(",", "")) - kept) <= half + 1e-9


def tables(text: str) -> list[list[list[str]]]:
    """Each table as its rows below the header, each row as its cells."""
    found = re.findall(r"(?:^\|.*\|$\n?)+", text, re.M)
    split = [[row.strip("|").split("|") for row in table.strip().splitlines()] for table in found]
    return [table[2:] for table in split]


def wrong_figures(table: list[list[str]], section: str | None) -> list[str]:
    """What is wrong with a table of figures, a sentence for each row."""
    wrong = []
    for label, *cells, last in table:
        shown = [match for cell in cells for match in NUMBER.finditer(cell)]
        keys = [key for span in re.findall(r"`([^`]+)`", last) for key in expanded(span)]
        if not keys or len(keys) != len(shown):
            wrong.append(f"{label.strip()}: {len(shown)} figures, {len(keys)} keys")
            continue
        for match, key in zip(shown, keys, strict=True):
            try:
                value = value_of(key, section)
            except (KeyError, IndexError, ValueError, TypeError, FileNotFoundError):
                wrong.append(f"{label.strip()}: benchmarks/results has no {key}")
                continue
            if not agree(match, value):
                wrong.append(f"{label.strip()}: {match[0]}, but {key} is {value}")
    return wrong


def sections(text: str) -> dict[str, str]:
    parts = re.split(r"^## (.*)$", text, flags=re.M)
    return dict(zip(parts[1::2], parts[2::2], strict=True))


def test_the_figures_of_the_front_page_are_the_kept_ones():
    [table] = tables(sections((ROOT / "README.md").read_text("utf-8"))["Ten figures"])
    assert len(table) == 10
    assert wrong_figures(table, None) == []


def test_every_kept_benchmark_has_its_section():
    text = (ROOT / "docs/results.md").read_text("utf-8")
    assert list(sections(text)) == list(BENCHMARKS)
    kept = {path.stem for path in (ROOT / "benchmarks/results").glob("*.json")}
    assert set(BENCHMARKS.values()) == kept


@pytest.mark.parametrize("title", BENCHMARKS)
def test_the_figures_of_a_section_are_the_kept_ones(title):
    text = sections((ROOT / "docs/results.md").read_text("utf-8"))[title]
    found = tables(text)
    assert found
    assert [line for table in found for line in wrong_figures(table, BENCHMARKS[title])] == []


@pytest.mark.parametrize("title", BENCHMARKS)
def test_a_section_says_how_and_on_what_it_was_measured(title):
    name = BENCHMARKS[title]
    text = sections((ROOT / "docs/results.md").read_text("utf-8"))[title]
    assert f"python benchmarks/{name}.py" in blocks(text)[0]
    kept = results(name)
    [sentence] = re.findall(r"^Measured .*(?:\n.+)*", text, re.M)
    sentence = " ".join(sentence.split())
    machine = kept["machine"]
    start = f"Measured {kept['date']} on {machine['cpu']}, {machine['cores']} cores, "
    start += f"{machine['memory_gib']} GiB, "
    assert sentence.startswith(start) and kept.get("device", "") in sentence
    libraries = re.findall(r"([a-z-]+) (\d[\w.+]*\w)", sentence.partition(" with ")[2])
    assert ("python", kept["versions"]["python"]) in libraries
    for library, version in libraries:
        assert kept["versions"][library] == version, library


def figures_in_sentences(text: str, script: str) -> list[str]:
    """Numbers outside tables and code that the script does not state as a setting."""
    text = re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)
    text = re.sub(r"^\|.*$|^Measured .*(?:\n.+)*", "", text, flags=re.M)
    text = re.sub(r"\S*`[^`]*`|\w+-v\d\b|\b[A-Z]+\d+\b|\d-bit|\bint\d+|\bfloat\d+", "", text)
    settings = set(re.findall(r"\d+", re.sub(r"(?<=\d)[_,](?=\d)", "", script)))
    years = {"2003"}  # of a paper
    numbers = [n.replace(",", "").rstrip(".") for n in re.findall(r"\d[\d,]*(?:\.\d+)?", text)]
    return [number for number in numbers if number not in settings | years]


@pytest.mark.parametrize("title", BENCHMARKS)
def test_a_sentence_has_no_figure_only_settings_of_the_script(title):
    """A figure in a sentence would have no key."""
    text = sections((ROOT / "docs/results.md").read_text("utf-8"))[title]
    name = BENCHMARKS[title]
    files = [ROOT / f"benchmarks/{name}.py", ROOT / f"benchmarks/_{name}.py"]
    script = " ".join(path.read_text("utf-8") for path in files if path.exists())
    assert figures_in_sentences(text, script) == []


def test_a_figure_in_a_sentence_is_found():
    text = "```\nbench.py 77\n```\n| 78 | `a` |\n\nWith 8 writers it is 7.8 times faster.\n"
    assert figures_in_sentences(text, "writers = 8") == ["7.8"]


WRONG_ROWS = {
    "another figure": "| error | 0.449 | `wine.nested_mse` |",
    "a figure without a key": "| error | 0.448, 0.474 | `wine.nested_mse` |",
    "no key at all": "| error | 0.448 | |",
    "a key without a figure": "| error | small | `wine.nested_mse` |",
    "a key that nobody kept": "| error | 0.448 | `wine.nested_nse` |",
    "another share": "| share | 91 % | `wine.coverage_90` |",
    "another answer": "| same | no | `training.identical` |",
}


@pytest.mark.parametrize("row", WRONG_ROWS.values(), ids=list(WRONG_ROWS))
def test_a_wrong_figure_is_found(row):
    header = "| what | figure | key |\n|---|---|---|\n"
    [right] = tables(header + "| error | 0.448 | `wine.nested_mse` |\n")
    assert wrong_figures(right, None) == []
    [wrong] = tables(header + row + "\n")
    assert len(wrong_figures(wrong, None)) == 1


def test_a_changed_result_is_found(monkeypatch):
    kept = {**results("iris"), "accuracy": 0.97}
    monkeypatch.setitem(globals(), "results", lambda name: kept)
    [table] = tables("| a | b | c |\n|---|---|---|\n| accuracy | 98.0 % | `iris.accuracy` |\n")
    assert wrong_figures(table, None) == ["accuracy: 98.0 %, but iris.accuracy is 0.97"]
