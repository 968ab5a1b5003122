"""The Iris page: four measurements in, a species with its probabilities and a drawn flower out.

Runs locally (`make ui-iris`), and as a Hugging Face Space beside the packages lab1_iris and
labstore. LABS_STORE names the store.
"""

from __future__ import annotations

import time
from collections.abc import Callable

import gradio as gr
import pandas as pd

from lab1_iris import flower, inference
from lab1_iris.schema import FEATURES, MEASUREMENTS
from labstore import ModelVersion, Store, StoreError, open_store
from labstore.monitor import html

Answer = Callable[..., tuple[dict[str, float] | None, str, str, str]]
EXAMPLES = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.6, 3.0, 5.6, 2.1], [7.9, 3.8, 6.4, 2.0]]
MAX_AGE_SECONDS = 600  # after which a newer model is looked for


class Model:
    """The best classifier of a store for all visitors. A newly registered one is found in ten minutes."""

    def __init__(self, store: Store, clock: Callable[[], float] = time.monotonic):
        self.store, self.clock = store, clock
        self.loaded: tuple[float, inference.Classifier] | None = None

    def current(self) -> inference.Classifier:
        """Return the classifier, loaded anew where it is old. Raises StoreError where there is none."""
        if self.loaded is None or self.clock() - self.loaded[0] > MAX_AGE_SECONDS:
            self.loaded = self.clock(), inference.load(self.store)
        return self.loaded[1]


def build(store: Store) -> gr.Blocks:
    """Build the page on a store. While the store has no model, the page explains how to get one."""
    with gr.Blocks(title="Which iris?", analytics_enabled=False) as blocks:
        gr.Markdown("# Which iris?\nMeasure a flower and see which of three irises it resembles.")
        blocks.load(*_layout(predictor(Model(store))))  # so that it opens with a prediction
    return blocks


def _layout(answer: Answer) -> tuple[Answer, list, list]:
    """Lay out inputs, button and outputs. Returns what the button does, its inputs and outputs."""
    with gr.Row():
        with gr.Column():
            inputs = [
                gr.Number(
                    value=first,
                    label=f"{m.title} (cm)",
                    info=f"seen: {m.seen[0]:g} to {m.seen[1]:g} cm",
                    step=0.1,
                    elem_id=m.name,
                )
                for m, first in zip(MEASUREMENTS, EXAMPLES[0], strict=True)
            ]
            button = gr.Button("Which iris is it?", variant="primary", elem_id="predict")
        with gr.Column():
            notes = gr.HTML(elem_id="notes")
            species = gr.Label(label="Species", elem_id="species")
            drawing = gr.HTML(elem_id="flower")
    examples = gr.Row()
    about = gr.Markdown(elem_id="about")
    outputs = [species, drawing, notes, about]
    button.click(answer, inputs, outputs)
    for box in inputs:
        box.submit(answer, inputs, outputs)
    with examples:
        gr.Examples(EXAMPLES, inputs, outputs, answer, run_on_click=True, cache_examples=False)
    return answer, inputs, outputs


def predictor(model: Model) -> Answer:
    """Return what the button does: four lengths in cm -> probabilities, drawing, messages, the model."""

    def answer(*numbers: float | None) -> tuple[dict[str, float] | None, str, str, str]:
        try:
            classifier = model.current()
        except StoreError as error:
            return None, "", html.message([f"No prediction can be made yet. {error}"]), ""
        about = _about(classifier.record)
        given = dict(zip(FEATURES, numbers, strict=True))
        if problems := inference.problems(given):
            return None, "", html.message(problems), about
        lengths = {name: float(value) for name, value in given.items() if value is not None}
        found = classifier.probabilities(pd.DataFrame([lengths])).iloc[0]
        unusual = inference.unusual(lengths)
        notes = ["Outside what was measured, so this is a guess: " + "; ".join(unusual) + "."]
        drawing = flower.draw(**lengths, species=found.idxmax())
        return found.to_dict(), drawing, html.message(notes) if unusual else "", about

    return answer


def _about(record: ModelVersion) -> str:
    """Return the model and its accuracy in a sentence."""
    return (
        f"Model: {record.metadata['algorithm']}, version {record.version}; cross-validated "
        f"accuracy {record.metrics['accuracy']:.1%} ({record.metrics['accuracy_low']:.1%} to "
        f"{record.metrics['accuracy_high']:.1%}). Trained on {record.metadata['snapshot']['rows']} "
        "flowers measured in the 1930s: any flower gets one of the three names."
    )


if __name__ == "__main__":
    build(open_store()).launch()
