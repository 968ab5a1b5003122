"""The Wine monitor: how the daily predictions turn out. It reads the published snapshot only.

Runs locally (`make ui-wine-monitor`), and as a Hugging Face Space beside the packages lab1_wine and
labstore. The snapshot is the file or https:// address in LABS_SNAPSHOT, else the store's newest.
"""

from __future__ import annotations

import streamlit as st

from lab1_wine import monitor_page
from lab1_wine.schema import SNAPSHOT
from labstore import StoreError
from labstore.monitor import html, snapshot


def main() -> None:
    """Show the page."""
    st.set_page_config(page_title=monitor_page.TITLE, page_icon="📈", layout="wide")
    st.title(monitor_page.TITLE)
    st.write(monitor_page.SUBTITLE)
    try:
        st.html(monitor_page.render(snapshot.current(SNAPSHOT)))
    except StoreError as error:
        st.html(html.message([f"There is nothing to show yet. {error}"]))


main()
