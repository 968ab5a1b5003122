"""The monitor's content as HTML, made from a published snapshot and nothing else."""

from __future__ import annotations

from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import pandas as pd

from lab1_iris import flower, pictures
from lab1_iris.schema import FEATURES, MEASUREMENTS, SPECIES
from labstore import StoreError
from labstore.monitor import html, static
from labstore.monitor.freshness import freshness, freshness_html

TITLE = "Iris monitor"
SUBTITLE = "A synthetic flower a day, and what the model took it for."
COLUMNS = ["date", *FEATURES, "species", "predicted", "model_version"]


def render(content: dict[str, Any], now: datetime | None = None, light: str | None = None) -> str:
    """The whole monitor as HTML, `light` in place of the freshness where that is worked out later.

    Raises StoreError for a snapshot that is not this lab's.
    """
    rows = _rows(content)
    latest, model = rows.iloc[-1], content["model"]
    right = (rows["predicted"] == rows["species"]).set_axis(rows["date"])
    return f"""<div class="monitor">
{light or freshness_html(freshness(content, now))}
<h3>{latest["date"]}: predicted {latest["predicted"]}, it was {latest["species"]}</h3>
<div style="display:flex;flex-wrap:wrap;gap:16px">
<figure style="margin:0;width:300px"><figcaption>predicted: {latest["predicted"]}</figcaption>
{flower.draw(*latest[FEATURES], latest["predicted"])}</figure>
<figure style="margin:0;width:300px"><figcaption>actual: {latest["species"]}</figcaption>
{flower.draw(*latest[FEATURES], latest["species"])}</figure>
{html.picture(_confusion(rows), "confusion matrix")}
</div>
<p>{right.sum()} of {len(right)} days right ({right.mean():.0%}). In cross-validation on the measured
flowers this model reached {model["accuracy"]:.1%} ({model["accuracy_low"]:.1%} to
{model["accuracy_high"]:.1%}). The daily flowers are drawn uniformly from wide ranges per species that
overlap, so they are harder than measured ones.</p>
{html.picture(pictures.accuracy_over_time(right), "accuracy over time")}
<h3>The last ten days</h3>
{html.table(rows[::-1].head(10)[COLUMNS[:-1]])}
<p><small>Model: {escape(model["algorithm"])}, version {escape(model["version"])}.
Data: {escape(content["data"])}; the daily flowers are synthetic.</small></p>
</div>"""


def write_static(content: dict[str, Any], folder: Path) -> Path:
    """The monitor as one page of its own, in a folder. Raises StoreError, as `render` does."""
    body = render(content, light=static.light(content))
    return static.write(folder, TITLE, SUBTITLE, body)


def _rows(content: dict[str, Any]) -> pd.DataFrame:
    """The snapshot's rows, checked: they may come from an address that others can write."""
    try:
        rows = pd.DataFrame(content["rows"])[COLUMNS].astype({name: float for name in FEATURES})
        rows["date"] = pd.to_datetime(rows["date"], format="%Y-%m-%d").dt.strftime("%Y-%m-%d")
        model = content["model"]
        figures = [model[name] for name in ("accuracy", "accuracy_low", "accuracy_high")]
        words = [model["algorithm"], model["version"], content["data"]]
        whole = (
            len(rows)
            and rows["date"].notna().all()
            and rows[["species", "predicted"]].isin(SPECIES).all(axis=None)
            and all(rows[m.name].between(*m.allowed).all() for m in MEASUREMENTS)
            and all(isinstance(figure, float) for figure in figures)
            and all(isinstance(word, str) for word in words)
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        whole = False
    if not whole:
        raise StoreError(
            "The snapshot is not a whole one of the Iris lab. Run the daily job again, "
            "or check the address in LABS_SNAPSHOT."
        )
    return rows.sort_values("date", ignore_index=True)


def _confusion(rows: pd.DataFrame):
    counts = pd.crosstab(rows["species"], rows["predicted"])
    counts = counts.reindex(index=SPECIES, columns=SPECIES, fill_value=0)
    return pictures.confusion(counts, f"all days, n = {len(rows)}")
