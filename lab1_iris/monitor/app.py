"""The Iris monitor: how the daily predictions turn out. It reads the published snapshot only.

Runs locally (`make ui-iris-monitor`), and as a Hugging Face Space beside the packages lab1_iris and
labstore. The snapshot is the file or https:// address in LABS_SNAPSHOT, else the store's newest.
"""

from __future__ import annotations

import gradio as gr

from lab1_iris import monitor_page
from lab1_iris.schema import SNAPSHOT
from labstore import StoreError
from labstore.monitor import html, snapshot


def content() -> str:
    """Return the monitor as HTML, or a message where there is nothing to show yet."""
    try:
        return monitor_page.render(snapshot.current(SNAPSHOT))
    except StoreError as error:
        return html.message([f"There is nothing to show yet. {error}"])


def build() -> gr.Blocks:
    """Build the page."""
    with gr.Blocks(title=monitor_page.TITLE, analytics_enabled=False) as blocks:
        gr.Markdown(f"# {monitor_page.TITLE}\n{monitor_page.SUBTITLE}")
        gr.HTML(content, elem_id="monitor")  # a function, so called at each visit
    return blocks


if __name__ == "__main__":
    build().launch()
