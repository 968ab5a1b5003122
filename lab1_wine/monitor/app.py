"""The Wine monitor: how the daily predictions turn out. It reads the published snapshot only.

Runs locally (`make ui-wine-monitor`) and as a Hugging Face Space. The snapshot is the file or
https:// address in LABS_SNAPSHOT, else the newest one in the store LABS_STORE.
"""

from __future__ import annotations

import os

import streamlit as st

from lab1_wine import monitor_page
from lab1_wine.schema import SNAPSHOT
from labstore import StoreError, open_store, snapshot


def main() -> None:
    st.set_page_config(page_title="Wine monitor", page_icon="📈", layout="wide")
    st.title("Wine monitor")
    st.write("A synthetic wine a day, and what the model thought of it.")
    address = os.environ.get("LABS_SNAPSHOT")
    try:
        found = snapshot.fetch(address) if address else snapshot.read(open_store(), SNAPSHOT)
        st.html(monitor_page.render(found))
    except StoreError as error:
        st.warning(f"There is nothing to show yet. {error}")


main()
