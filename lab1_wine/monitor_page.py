"""The monitor's content, made from a published snapshot and nothing else."""

from __future__ import annotations

from datetime import datetime
from html import escape
from typing import Any

import numpy as np
import pandas as pd

from lab1_wine import pictures
from lab1_wine.schema import FEATURES, MEASUREMENTS, NUMERIC, QUALITIES, TYPES
from labstore import StoreError, page
from labstore.freshness import freshness, freshness_html

COLUMNS = ["date", *FEATURES, "quality", "predicted", "low", "high", "rounded", "model_version"]


def render(content: dict[str, Any], now: datetime | None = None) -> str:
    """The whole monitor as HTML. Raises StoreError for a snapshot that is not this lab's."""
    rows = _rows(content)
    latest, model = rows.iloc[-1], content["model"]
    covered = rows["quality"].between(rows["low"], rows["high"])
    mse = float(((rows["predicted"] - rows["quality"]) ** 2).mean())
    offline = (
        [] if content["data"] == "real" else ["Offline sample: no figure here is about real wines."]
    )
    return f"""<div class="monitor">
{page.message(offline) if offline else ""}
{freshness_html(freshness(content, now))}
<h3>{latest["date"]}: a {latest["wine_type"]} wine predicted {latest["predicted"]:.1f}
({latest["low"]:.1f} to {latest["high"]:.1f}), its quality is {latest["quality"]}</h3>
<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">
<div>{page.table(_wine(latest))}</div>
{page.picture(pictures.confusion(_confusion(rows), f"all days, n = {len(rows)}"), "confusion matrix")}
</div>
<p>Mean squared error {mse:.2f} over n = {len(rows)} days; {covered.mean():.0%} of the 90 % intervals hold
the quality. On measured wines it had not seen, the model's error is {model["mse"]:.2f} and
{model["coverage_90"]:.0%} of its intervals hold. The daily wines are drawn by a
{escape(content["generator"])}, which knows less of what makes a wine good, so they are harder.</p>
{page.picture(pictures.error_over_time(rows), "error over time")}
<h3>Do the incoming wines look like the training rows?</h3>
{page.picture(pictures.drift(rows, content["training"]), "drift")}
<h3>The last ten days</h3>
{page.table(_recent(rows))}
<p><small>Model: {escape(model["algorithm"])}, version {escape(model["version"])}.
Data: {escape(content["data"])}; the daily wines are synthetic.</small></p>
</div>"""


def _rows(content: dict[str, Any]) -> pd.DataFrame:
    """The snapshot's rows, checked: they may come from an address that others can write."""
    numbers = [*NUMERIC, "predicted", "low", "high"]
    try:
        rows = pd.DataFrame(content["rows"])[COLUMNS].astype({name: float for name in numbers})
        rows["date"] = pd.to_datetime(rows["date"], format="%Y-%m-%d").dt.strftime("%Y-%m-%d")
        rows["quality"], rows["rounded"] = rows["quality"].astype(int), rows["rounded"].astype(int)
        figures = [float(content["model"][name]) for name in ("mse", "coverage_90")]
        figures += [float(content["training"][name][i]) for name in NUMERIC for i in (0, 1)]
        words = [str(content[name]) for name in ("data", "generator")]
        finite = np.isfinite([*figures, *rows[numbers].to_numpy().ravel()]).all()
        whole = len(rows) and len(words) == 2 and finite and rows["wine_type"].isin(TYPES).all()
    except (KeyError, IndexError, TypeError, ValueError):
        whole = False
    if not whole:
        raise StoreError(
            "The snapshot is not a whole one of the Wine lab. Run the daily job again, "
            "or check the address in LABS_SNAPSHOT."
        )
    return rows.sort_values("date", ignore_index=True)


def _confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Qualities 3 to 9, and any other seen, whether or not they have occurred yet."""
    labels = sorted({*QUALITIES, *rows["quality"], *rows["rounded"]})
    counts = pd.crosstab(rows["quality"], rows["rounded"])
    return counts.reindex(index=labels, columns=labels, fill_value=0)


def _wine(row: pd.Series) -> pd.DataFrame:
    values = [f"{row[m.name]:.{m.decimals}f} {m.unit}" for m in MEASUREMENTS]
    return pd.DataFrame({"measurement": [m.title for m in MEASUREMENTS], "value": values})


def _recent(rows: pd.DataFrame) -> pd.DataFrame:
    shown = rows[::-1].head(10)
    intervals = [
        f"{low:.1f} to {high:.1f}" for low, high in zip(shown["low"], shown["high"], strict=True)
    ]
    return pd.DataFrame(
        {
            "date": shown["date"],
            "type": shown["wine_type"],
            "quality": shown["quality"],
            "predicted": shown["predicted"].round(2),
            "90 % interval": intervals,
            "model": shown["model_version"],
        }
    )
