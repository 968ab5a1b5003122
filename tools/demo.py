"""Run the labs' notebooks in order at demo size, each lab on an empty store in build/demo.

    python -m tools.demo            every lab
    python -m tools.demo iris       one lab
    python -m tools.demo --into DIR another folder than build/demo

The executed copies and the store stay in build/demo/<lab>, the table in build/demo/results.json.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import papermill

from labstore import Store, open_store
from tools.imports import ROOT


def iris_figures(store: Store) -> dict[str, Any]:
    """Return the Iris lab's results in a store that its notebooks have filled."""
    from lab1_iris import inference

    record = inference.load(store).record
    history = inference.history(store)
    correct = history["predicted"] == history["species"]
    return {
        "algorithm": record.metadata["algorithm"],
        "accuracy": record.metrics["accuracy"],
        "accuracy_low": record.metrics["accuracy_low"],
        "accuracy_high": record.metrics["accuracy_high"],
        "days": len(history),
        "days_right": int(correct.sum()),
        "data": record.metadata["data"],
    }


def wine_figures(store: Store) -> dict[str, Any]:
    """Return the Wine lab's results in a store that its notebooks have filled."""
    from lab1_wine import inference
    from lab1_wine.schema import GENERATOR

    record = store.load_model(inference.MODEL)
    history = inference.history(store)
    errors = history["predicted"] - history["quality"]
    generator = store.load_model(GENERATOR)
    return {
        "mse": record.metrics["mse"],
        "within_one": record.metrics["within_one"],
        "coverage_90": record.metrics["coverage_90"],
        "generator": generator.metadata["algorithm"],
        "column_shapes": generator.metrics["column_shapes"],
        "pair_trends": generator.metrics["pair_trends"],
        "days": len(history),
        "daily_mse": float((errors**2).mean()),
        "data": record.metadata["data"],
    }


def whisper_figures(store: Store) -> dict[str, Any]:
    """Return the Whisper lab's results in a store that its notebooks have filled."""
    from lab2_whisper.schema import model_of

    corpus = store.open_files("nano_pl").metadata
    tuned = store.load_model(model_of("nano_pl")).metrics
    rates = ("wer_before", "wer", "wer_low", "wer_high", "wer_orthographic", "cer")
    return {
        "clips": corpus["clips"],
        "minutes": corpus["seconds"] / 60,
        "dropped": sum(corpus["dropped"].values()),
        **{name: tuned[name] for name in rates},
        "test_words": tuned["words"],
        "data": "nano",
    }


SMALL_WINE = {"TREES": 40, "SPLITS": 1, "SEARCH": False, "CTGAN_EPOCHS": [1]}
Figures = Callable[[Store], dict[str, Any]]
# Lab -> the folder of its notebooks, parameters that make them small, the figures to print.
LABS: dict[str, tuple[str, dict[str, Any], Figures]] = {
    "iris": ("lab1_iris", {}, iris_figures),
    "wine": ("lab1_wine", SMALL_WINE, wine_figures),
    "whisper": ("lab2_whisper", {"MODEL": "nano"}, whisper_figures),
}


def run(lab: str, build: Path) -> dict[str, Any]:
    """Run a lab's notebooks and return its figures and seconds.

    Raises papermill's PapermillExecutionError with the cell that failed.
    """
    folder, parameters, figures = LABS[lab]
    home, started = build / folder, time.perf_counter()
    shutil.rmtree(home, ignore_errors=True)
    home.mkdir(parents=True)
    for notebook in sorted((ROOT / "notebooks" / folder).glob("*.ipynb")):
        known = papermill.inspect_notebook(str(notebook))
        chosen = {"STORE": str(home / "store"), **parameters}
        print(f"-- {notebook.relative_to(ROOT)}", flush=True)
        papermill.execute_notebook(
            str(notebook),
            str(home / notebook.name),
            {name: value for name, value in chosen.items() if name in known},
            cwd=str(ROOT),
            kernel_name="python3",
        )
    seconds = round(time.perf_counter() - started, 1)
    return figures(open_store(home / "store")) | {"seconds": seconds}


def table(results: dict[str, dict[str, Any]]) -> str:
    """Return the results as text, a line per figure."""
    lines = []
    for lab, figures in results.items():
        for name, value in figures.items():
            shown = f"{value:.3f}" if isinstance(value, float) and name != "seconds" else value
            lines.append(f"{lab:<10}{name.replace('_', ' '):<18}{shown}")
        lines.append("")
    return "\n".join(lines)


def main() -> None:
    """Run the labs that are named, or all, and print the table."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("labs", nargs="*", help=f"any of {', '.join(LABS)}; without one, all")
    parser.add_argument("--into", type=Path, default=ROOT / "build" / "demo", metavar="DIR")
    arguments = parser.parse_args()
    labs, build = arguments.labs or list(LABS), arguments.into.resolve()
    if unknown := [lab for lab in labs if lab not in LABS]:
        sys.exit(f"A lab must be one of {', '.join(LABS)}, not {unknown[0]!r}.")
    os.environ["PYDEVD_DISABLE_FILE_VALIDATION"] = (
        "1"  # debugpy warns about frozen modules otherwise
    )
    results = {lab: run(lab, build) for lab in labs}
    (build / "results.json").write_text(json.dumps(results, indent=2) + "\n")
    print(f"\n{table(results)}The executed notebooks are in {build}.")


if __name__ == "__main__":
    main()
