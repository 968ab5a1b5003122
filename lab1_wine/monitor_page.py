"""The monitor's content as HTML, made from a published snapshot and nothing else."""

from __future__ import annotations

import math
from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
from markupsafe import Markup

from lab1_wine import pictures
from lab1_wine.schema import MEASUREMENTS, NUMERIC, QUALITIES, TYPES
from labstore.monitor import html, snapshot, static
from labstore.monitor.freshness import freshness, freshness_html

TITLE = "Wine monitor"
SUBTITLE = "A synthetic wine a day, and what the model thought of it."


def _is_mean_and_sd(value: Any) -> bool:
    if not isinstance(value, list) or len(value) != 2:
        return False
    return all(isinstance(figure, float) and math.isfinite(figure) for figure in value)


def _between(dtype: type, low: float, high: float) -> pa.Column:
    return pa.Column(dtype, pa.Check.in_range(low, high), coerce=True)


MEAN_AND_SD = pa.Check(_is_mean_and_sd, element_wise=True, error="a list of mean and deviation")
SCHEMA = snapshot.SnapshotSchema(
    facts={
        "lab": pa.Column(str, pa.Check.isin(["wine"])),
        "generator": pa.Column(str),
        "model.mse": pa.Column(float, pa.Check.ge(0)),
        "model.coverage_90": pa.Column(float, pa.Check.in_range(0, 1)),
        **{f"training.{name}": pa.Column(object, MEAN_AND_SD) for name in NUMERIC},
    },
    rows={
        **{m.name: _between(float, *m.allowed) for m in MEASUREMENTS},
        "wine_type": pa.Column(str, pa.Check.isin(TYPES)),
        "quality": _between(int, 0, 10),
        "predicted": _between(float, -5, 15),
        "low": _between(float, -10, 20),
        "high": _between(float, -10, 20),
        "rounded": _between(int, -5, 15),
    },
)

PAGE = """\
<div class="monitor">
{{ offline }}
{{ light }}
<h3>{{ latest.date }}: a {{ latest.wine_type }} wine predicted {{ "{:.1f}".format(latest.predicted) }}
({{ "{:.1f}".format(latest.low) }} to {{ "{:.1f}".format(latest.high) }}), its quality is \
{{ latest.quality }}</h3>
<div style="display:flex;flex-wrap:wrap;gap:16px;align-items:flex-start">
<div>{{ wine }}</div>
{{ confusion }}
</div>
<p>Mean squared error {{ "{:.2f}".format(mse) }} over n = {{ covered | length }} days; \
{{ "{:.0%}".format(covered.mean()) }} of the 90 % intervals hold the quality. On {{ kind }} wines it \
had not seen, the model's error is {{ "{:.2f}".format(model.mse) }} and \
{{ "{:.0%}".format(model.coverage_90) }} of its intervals hold. The daily wines are synthetic: drawn \
by a generator ({{ generator }}) that was fitted to {{ kind }} ones.</p>
{{ error }}
<h3>Do the incoming wines look like the training rows?</h3>
{{ drift }}
<h3>The last ten days</h3>
{{ last_days }}
<p><small>Model: {{ model.algorithm }}, version {{ model.version }}.
Data: {{ data }}; the daily wines are synthetic.</small></p>
</div>"""


def render(
    content: dict[str, Any], now: datetime | None = None, light: Markup | None = None
) -> Markup:
    """Return the whole monitor as HTML.

    `light` replaces the freshness at the time `now`, for pages that work it out when they are
    looked at. Raises StoreError for an incomplete snapshot
    or one of another lab.
    """
    rows = snapshot.table(content, SCHEMA)
    real = content["data"] == "real"
    offline = html.message(["Offline sample: no figure here is about real wines."])
    confusion = pictures.confusion(_confusion(rows), f"all days, n = {len(rows)}")
    return html.fill(
        PAGE,
        offline="" if real else offline,
        light=light or freshness_html(freshness(content, now)),
        latest=rows.iloc[-1].to_dict(),
        wine=html.table(_wine(rows.iloc[-1])),
        confusion=html.picture(confusion, "confusion matrix"),
        mse=((rows["predicted"] - rows["quality"]) ** 2).mean(),
        covered=rows["quality"].between(rows["low"], rows["high"]),
        kind="measured" if real else "offline-sample",
        model=content["model"],
        generator=content["generator"],
        error=html.picture(pictures.error_over_time(rows), "error over time"),
        drift=html.picture(pictures.drift(rows, content["training"]), "drift"),
        last_days=html.table(_recent(rows)),
        data=content["data"],
    )


def write_static(content: dict[str, Any], folder: Path) -> Path:
    """Write the monitor as a page of its own into a folder. Raises StoreError, as `render` does."""
    body = render(content, light=static.light(content))
    return static.write(folder, TITLE, SUBTITLE, body)


def _confusion(rows: pd.DataFrame) -> pd.DataFrame:
    """Count days by quality and rounded prediction: 3 to 9 always, other qualities where seen."""
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
