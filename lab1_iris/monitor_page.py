"""The monitor's content as HTML, made from a published snapshot and nothing else."""

from __future__ import annotations

from datetime import datetime
from pathlib import Path
from typing import Any

import pandas as pd
import pandera.pandas as pa
from markupsafe import Markup
from matplotlib.figure import Figure

from lab1_iris import flower, pictures
from lab1_iris.schema import FEATURES, MEASUREMENTS, SPECIES
from labstore.monitor import html, snapshot, static
from labstore.monitor.freshness import freshness, freshness_html

TITLE = "Iris monitor"
SUBTITLE = "A synthetic flower a day, and what the model took it for."
SCHEMA = snapshot.SnapshotSchema(
    facts={
        "lab": pa.Column(str, pa.Check.isin(["iris"])),
        "model.accuracy": pa.Column(float, pa.Check.in_range(0, 1)),
        "model.accuracy_low": pa.Column(float, pa.Check.in_range(-1, 1)),  # of a t interval
        "model.accuracy_high": pa.Column(float, pa.Check.in_range(0, 1)),
    },
    rows={
        **{
            m.name: pa.Column(float, pa.Check.in_range(*m.allowed), coerce=True)
            for m in MEASUREMENTS
        },
        "species": pa.Column(str, pa.Check.isin(SPECIES)),
        "predicted": pa.Column(str, pa.Check.isin(SPECIES)),
    },
)

PAGE = """\
<div class="monitor">
{{ light }}
<h3>{{ latest.date }}: predicted {{ latest.predicted }}, it was {{ latest.species }}</h3>
<div style="display:flex;flex-wrap:wrap;gap:16px">
<figure style="margin:0;width:300px"><figcaption>predicted: {{ latest.predicted }}</figcaption>
{{ predicted_flower }}</figure>
<figure style="margin:0;width:300px"><figcaption>actual: {{ latest.species }}</figcaption>
{{ actual_flower }}</figure>
{{ confusion }}
</div>
<p>{{ right.sum() }} of {{ right | length }} days right ({{ "{:.0%}".format(right.mean()) }}). In \
cross-validation on the measured flowers this model reached {{ "{:.1%}".format(model.accuracy) }} \
({{ "{:.1%}".format(model.accuracy_low) }} to {{ "{:.1%}".format(model.accuracy_high) }}). The daily \
flowers are drawn uniformly from wide ranges per species that overlap, so they are harder than \
measured ones.</p>
{{ accuracy }}
<h3>The last ten days</h3>
{{ last_days }}
<p><small>Model: {{ model.algorithm }}, version {{ model.version }}.
Data: {{ data }}; the daily flowers are synthetic.</small></p>
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
    latest = rows.iloc[-1]
    right = (rows["predicted"] == rows["species"]).set_axis(rows["date"])
    lengths = latest[FEATURES]
    return html.fill(
        PAGE,
        light=light or freshness_html(freshness(content, now)),
        latest=latest.to_dict(),
        predicted_flower=flower.draw(**lengths, species=latest["predicted"]),
        actual_flower=flower.draw(**lengths, species=latest["species"]),
        confusion=html.picture(_confusion(rows), "confusion matrix"),
        right=right,
        model=content["model"],
        accuracy=html.picture(pictures.accuracy_over_time(right), "accuracy over time"),
        last_days=html.table(rows[::-1].head(10)[["date", *FEATURES, "species", "predicted"]]),
        data=content["data"],
    )


def write_static(content: dict[str, Any], folder: Path) -> Path:
    """Write the monitor as a page of its own into a folder. Raises StoreError, as `render` does."""
    body = render(content, light=static.light(content))
    return static.write(folder, TITLE, SUBTITLE, body)


def _confusion(rows: pd.DataFrame) -> Figure:
    counts = pd.crosstab(rows["species"], rows["predicted"])
    counts = counts.reindex(index=SPECIES, columns=SPECIES, fill_value=0)
    return pictures.confusion(counts, f"all days, n = {len(rows)}")
