"""The monitor's content, made from a published snapshot and nothing else."""

from __future__ import annotations

from datetime import datetime
from html import escape
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from lab1_wine import pictures
from lab1_wine.schema import FEATURES, MEASUREMENTS, NUMERIC, QUALITIES, TYPES
from labstore import StoreError
from labstore.monitor import html, static
from labstore.monitor.freshness import freshness, freshness_html

TITLE = "Wine monitor"
SUBTITLE = "A synthetic wine a day, and what the model thought of it."
COLUMNS = ["date", *FEATURES, "quality", "predicted", "low", "high", "rounded", "model_version"]
LIMITS = {m.name: m.allowed for m in MEASUREMENTS} | {"quality": (0, 10), "rounded": (-5, 15)}
LIMITS |= {"predicted": (-5, 15), "low": (-10, 20), "high": (-10, 20)}


def render(content: dict[str, Any], now: datetime | None = None, light: str | None = None) -> str:
    """The whole monitor as HTML, `light` in place of the freshness where that is worked out later.

    Raises StoreError for a snapshot that is not this lab's.
    """
    rows = _rows(content)
    latest, model = rows.iloc[-1], content["model"]
    covered = rows["quality"].between(rows["low"], rows["high"])
    mse = float(((rows["predicted"] - rows["quality"]) ** 2).mean())
    real = content["data"] == "real"
    offline = [] if real else ["Offline sample: no figure here is about real wines."]
    kind = "measured" if real else "offline-sample"
    return f"""<div class="monitor">
{html.message(offline) if offline else ""}
{light or freshness_html(freshness(content, now))}
<h3>{latest["date"]}: a {latest["wine_type"]} wine predicted {latest["predicted"]:.1f}
({latest["low"]:.1f} to {latest["high"]:.1f}), its quality is {latest["quality"]}</h3>
<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">
<div>{html.table(_wine(latest))}</div>
{html.picture(pictures.confusion(_confusion(rows), f"all days, n = {len(rows)}"), "confusion matrix")}
</div>
<p>Mean squared error {mse:.2f} over n = {len(rows)} days; {covered.mean():.0%} of the 90 % intervals hold
the quality. On {kind} wines it had not seen, the model's error is {model["mse"]:.2f} and
{model["coverage_90"]:.0%} of its intervals hold. The daily wines are synthetic: drawn by a generator
({escape(content["generator"])}) that was fitted to {kind} ones.</p>
{html.picture(pictures.error_over_time(rows), "error over time")}
<h3>Do the incoming wines look like the training rows?</h3>
{html.picture(pictures.drift(rows, content["training"]), "drift")}
<h3>The last ten days</h3>
{html.table(_recent(rows))}
<p><small>Model: {escape(model["algorithm"])}, version {escape(model["version"])}.
Data: {escape(content["data"])}; the daily wines are synthetic.</small></p>
</div>"""


def write_static(content: dict[str, Any], folder: Path) -> Path:
    """The monitor as one page of its own, in a folder. Raises StoreError, as `render` does."""
    body = render(content, light=static.light(content))
    return static.write(folder, TITLE, SUBTITLE, body)


def _rows(content: dict[str, Any]) -> pd.DataFrame:
    """The snapshot's rows, checked: they may come from an address that others can write."""
    try:
        rows = pd.DataFrame(content["rows"])[COLUMNS].astype(dict.fromkeys(LIMITS, float))
        rows["date"] = pd.to_datetime(rows["date"], format="%Y-%m-%d").dt.strftime("%Y-%m-%d")
        model = content["model"]
        figures = [model["mse"], model["coverage_90"]]
        figures += [content["training"][name][i] for name in NUMERIC for i in (0, 1)]
        words = [content["data"], content["generator"], model["algorithm"], model["version"]]
        whole = (
            len(rows)
            and rows["date"].notna().all()
            and rows["wine_type"].isin(TYPES).all()
            and all(rows[name].between(*ends).all() for name, ends in LIMITS.items())
            and all(isinstance(word, str) for word in words)
            and all(isinstance(figure, float) and np.isfinite(figure) for figure in figures)
        )
        rows = rows.astype({"quality": int, "rounded": int})
    except (KeyError, IndexError, TypeError, ValueError, OverflowError):
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
