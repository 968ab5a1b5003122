"""The Iris page: four measurements in, a species with its probabilities and a drawn flower out.

Runs locally (`make ui-iris`); the folder holds what a Hugging Face Space needs besides the
packages lab1_iris and labstore. The store is LABS_STORE.
"""

from __future__ import annotations

import gradio as gr
import pandas as pd

from lab1_iris import flower, inference
from lab1_iris.schema import FEATURES, MEASUREMENTS
from labstore import Store, StoreError, open_store
from labstore.monitor import html

EXAMPLES = [[5.1, 3.5, 1.4, 0.2], [6.0, 2.9, 4.5, 1.5], [6.6, 3.0, 5.6, 2.1], [7.9, 3.8, 6.4, 2.0]]


def build(store: Store) -> gr.Blocks:
    """The page on a store; without a model in it, the page says how to get one."""
    with gr.Blocks(title="Which iris?", analytics_enabled=False) as blocks:
        gr.Markdown("# Which iris?\nMeasure a flower and see which of three irises it resembles.")
        try:
            classifier = inference.load(store)
        except StoreError as error:
            gr.HTML(html.message([f"No prediction can be made yet. {error}"]))
            return blocks
        blocks.load(*_layout(classifier))  # the page opens with an answer
        record = classifier.record
        gr.Markdown(
            f"Model: {record.metadata['algorithm']}, version {record.version}; cross-validated "
            f"accuracy {record.metrics['accuracy']:.1%} ({record.metrics['accuracy_low']:.1%} to "
            f"{record.metrics['accuracy_high']:.1%}). Trained on {record.metadata['snapshot']['rows']} "
            "flowers measured in the 1930s: any flower gets one of the three names."
        )
    return blocks


def _layout(classifier: inference.Classifier) -> tuple:
    """Inputs, button and outputs; what the button does, with its inputs and outputs."""
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
    outputs = [species, drawing, notes]
    answer = predictor(classifier)
    button.click(answer, inputs, outputs)
    for box in inputs:
        box.submit(answer, inputs, outputs)
    gr.Examples(EXAMPLES, inputs, outputs, answer, run_on_click=True, cache_examples=False)
    return answer, inputs, outputs


def predictor(classifier: inference.Classifier):
    """What the button does: four numbers -> probabilities, drawing, messages."""

    def answer(*numbers: float | None):
        values = dict(zip(FEATURES, numbers, strict=True))
        if problems := inference.problems(values):
            return None, "", html.message(problems)
        found = classifier.probabilities(pd.DataFrame([values], dtype=float)).iloc[0].to_dict()
        unusual = inference.unusual(values)
        notes = ["Outside what was measured, so this is a guess: " + "; ".join(unusual) + "."]
        drawing = flower.draw(*numbers, species=max(found, key=found.get))
        return found, drawing, html.message(notes) if unusual else ""

    return answer


if __name__ == "__main__":
    build(open_store()).launch()
