"""The monitor's content as HTML, made from a published snapshot and nothing else."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from lab1_iris import flower, pictures
from lab1_iris.schema import FEATURES, SPECIES
from labstore import StoreError, page
from labstore.freshness import freshness, freshness_html

COLUMNS = ["date", *FEATURES, "species", "predicted", "model_version"]


def render(content: dict[str, Any], now: datetime | None = None) -> str:
    """The whole monitor. Raises StoreError for a snapshot that is not this lab's."""
    rows = _rows(content)
    latest, model = rows.iloc[-1], content["model"]
    right = (rows["predicted"] == rows["species"]).set_axis(rows["date"])
    return f"""<div class="monitor">
{freshness_html(freshness(content, now))}
<h3>{latest["date"]}: predicted {latest["predicted"]}, it was {latest["species"]}</h3>
<div style="display:flex;flex-wrap:wrap;gap:16px">
<figure style="margin:0;width:300px"><figcaption>predicted: {latest["predicted"]}</figcaption>
{flower.draw(*latest[FEATURES], latest["predicted"])}</figure>
<figure style="margin:0;width:300px"><figcaption>actual: {latest["species"]}</figcaption>
{flower.draw(*latest[FEATURES], latest["species"])}</figure>
{page.picture(_confusion(rows), "confusion matrix")}
</div>
<p>{right.sum()} of {len(right)} days right ({right.mean():.0%}). In cross-validation on the measured
flowers this model reached {model["accuracy"]:.1%} ({model["accuracy_low"]:.1%} to
{model["accuracy_high"]:.1%}). The daily flowers are drawn uniformly from wide ranges per species that
overlap, so they are harder than measured ones.</p>
{page.picture(pictures.accuracy_over_time(right), "accuracy over time")}
<h3>The last ten days</h3>
{page.table(rows[::-1].head(10)[COLUMNS[:-1]])}
<p><small>Model: {escape(model["algorithm"])}, version {escape(model["version"])}.
Data: {escape(content["data"])}; the daily flowers are synthetic.</small></p>
</div>"""


def _rows(content: dict[str, Any]) -> pd.DataFrame:
    """The snapshot's rows, checked: they may come from an address that others can write."""
    try:
        rows = pd.DataFrame(content["rows"])[COLUMNS].astype({name: float for name in FEATURES})
        rows["date"] = pd.to_datetime(rows["date"], format="%Y-%m-%d").dt.strftime("%Y-%m-%d")
        known = rows[["species", "predicted"]].isin(SPECIES).all(axis=None)
        sized = rows[FEATURES].gt(0).all(axis=None) and np.isfinite(rows[FEATURES]).all(axis=None)
        numbers = [
            float(content["model"][k]) for k in ("accuracy", "accuracy_low", "accuracy_high")
        ]
        words = [str(content[k]) for k in ("data", "last_run", "through")]
        whole = len(rows) and known and sized and len(numbers) + len(words) == 6
    except (KeyError, TypeError, ValueError):
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
