"""The Wine page: eleven measurements and a colour in, a predicted quality with its interval out.

Runs locally (`make ui-wine`), and as a Hugging Face Space beside the packages lab1_wine and
labstore. LABS_STORE names the store.
"""

from __future__ import annotations

import math
from typing import Any

import pandas as pd
import streamlit as st

from lab1_wine import inference, pictures
from lab1_wine.schema import MEASUREMENTS, TYPES
from labstore import StoreError, default_address, open_store
from labstore.monitor import html

# Invented but typical wines, their values in the order of MEASUREMENTS.
PRESETS = {
    "A light white": ("white", [6.5, 0.26, 0.3, 1.8, 0.04, 32, 112, 0.9912, 3.2, 0.46, 11.2]),
    "A sweet white": ("white", [7.2, 0.28, 0.36, 14.5, 0.048, 48, 170, 0.9985, 3.12, 0.45, 9.2]),
    "A strong, fine white": (
        "white",
        [6.2, 0.22, 0.34, 2.6, 0.03, 34, 105, 0.989, 3.25, 0.52, 12.9],
    ),
    "A plain red": ("red", [7.8, 0.62, 0.12, 2.1, 0.082, 13, 42, 0.9968, 3.34, 0.58, 9.6]),
    "A full, fine red": ("red", [8.9, 0.36, 0.42, 2.4, 0.07, 14, 36, 0.9954, 3.26, 0.82, 12.6]),
    "A red turning to vinegar": ("red", [7.4, 1.1, 0.02, 2.0, 0.09, 9, 26, 0.9966, 3.5, 0.52, 9.9]),
}


@st.cache_resource(ttl="10min", max_entries=1, show_spinner="Loading the model ...")
def load(address: str) -> inference.WinePredictor:
    """Load the model once for all visitors. A newly registered one is found within ten minutes."""
    return inference.load(open_store(address))


def choose() -> dict[str, Any]:
    """Show the form and return its values. A preset fills it, and every value can be changed."""
    preset = st.selectbox("Start from", list(PRESETS), key="preset")
    wine_type, values = PRESETS[preset]
    chosen: dict[str, Any] = {
        "wine_type": st.radio(
            "Type", TYPES, index=TYPES.index(wine_type), horizontal=True, key=f"type {preset}"
        )
    }
    columns = st.columns(3)
    for place, (m, value) in enumerate(zip(MEASUREMENTS, values, strict=True)):
        chosen[m.name] = columns[place % 3].number_input(
            f"{m.label}, {m.seen[0]:g} to {m.seen[1]:g}",
            value=float(value),
            step=10.0 ** round(math.log10((m.seen[1] - m.seen[0]) / 100)),
            format=f"%.{m.decimals}f",
            help="The range is the one seen in the measured wines.",
            key=f"{m.name} {preset}",
        )
    return chosen


def show(predictor: inference.WinePredictor, values: dict[str, Any]) -> None:
    """Show the prediction for valid values, or what is wrong with them."""
    if problems := inference.problems(values):
        st.html(html.message(problems))
        return
    if unusual := inference.unusual(values):
        st.html(
            html.message([f"Outside what was measured, so this is a guess: {'; '.join(unusual)}."])
        )
    wine = pd.DataFrame([values])
    found = predictor.quality(wine).iloc[0]
    left, right = st.columns([1, 2])
    left.metric("Predicted quality", f"{found['predicted']:.1f}")
    left.markdown(
        f"Nine times in ten between **{found['low']:.1f}** and **{found['high']:.1f}**, "
        "on the tasters' scale from 0 to 10 (given: 3 to 9)."
    )
    right.markdown("**What moved it**, in points, against a typical wine of its type")
    moved = predictor.contributions(wine)
    words = ", ".join(f"{name} {value:+.2f}" for name, value in moved.head(3).items())
    right.html(html.picture(pictures.contributions(moved), f"what moved it: {words}"))


def main() -> None:
    """Show the page."""
    st.set_page_config(page_title="How good is the wine?", page_icon="🍷", layout="wide")
    st.title("How good is the wine?")
    st.write("Eleven laboratory values of a Vinho Verde, and how tasters would rate it.")
    try:
        predictor = load(default_address())
    except StoreError as error:
        st.html(html.message([f"No prediction can be made yet. {error}"]))
        return
    record = predictor.record
    if record.metadata["data"] != "real":
        st.error("Offline sample: this model was trained on synthetic wines.")
    show(predictor, choose())
    st.caption(
        f"Model: {record.metadata['algorithm']}, version {record.version}. Mean squared error "
        f"{record.metrics['mse']:.3f}, within one point {record.metrics['within_one']:.0%}, measured on "
        "wines it had not seen. Predictions of rare qualities (3, 4, 8, 9) are pulled towards the "
        "middle, and their intervals miss more often."
    )


main()
