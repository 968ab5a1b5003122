"""The Iris monitor: how the daily predictions turn out. It reads the published snapshot only.

Runs locally (`make ui-iris-monitor`) and as a Hugging Face Space. The snapshot is the file or
https:// address in LABS_SNAPSHOT, else the newest one in the store LABS_STORE.
"""

from __future__ import annotations

import os

import gradio as gr

from lab1_iris import monitor_page
from lab1_iris.schema import SNAPSHOT
from labstore import StoreError, open_store, page, snapshot


def content() -> str:
    """The monitor as HTML; a sentence where there is nothing to show yet."""
    address = os.environ.get("LABS_SNAPSHOT")
    try:
        found = snapshot.fetch(address) if address else snapshot.read(open_store(), SNAPSHOT)
        return monitor_page.render(found)
    except StoreError as error:
        return page.message([f"There is nothing to show yet. {error}"])


def build() -> gr.Blocks:
    with gr.Blocks(title="Iris monitor") as blocks:
        gr.Markdown("# Iris monitor\nA synthetic flower a day, and what the model took it for.")
        gr.HTML(content, elem_id="monitor")  # a function: asked anew at each visit
    return blocks


if __name__ == "__main__":
    build().launch()
