"""Small pieces of HTML that every lab's pages share.

jinja2 fills in the templates and escapes every value; only what a template made is taken as HTML.
"""

from __future__ import annotations

import base64
import io
from typing import Any

import pandas as pd
from jinja2 import Environment, StrictUndefined
from markupsafe import Markup
from matplotlib.figure import Figure

ENVIRONMENT = Environment(autoescape=True, undefined=StrictUndefined)
PIXELS_PER_INCH = 80  # of a figure on a page; the image itself has more, for sharp screens

PICTURE = """\
<img alt="{{ alt }}" style="width:{{ width }}px;max-width:100%" src="data:image/png;base64,{{ data }}">"""

MESSAGE = """\
<div role="alert" class="message" style="border-left:4px solid #d98e04;background:#fff7e6;\
color:#3b2f12;padding:8px 12px;border-radius:6px">
{%- for sentence in sentences %}<p style="margin:4px 0">{{ sentence }}</p>{% endfor -%}
</div>"""


def fill(template: str, **values: Any) -> Markup:
    """Fill in a jinja2 template. Every value is escaped unless it is Markup already."""
    return Markup(ENVIRONMENT.from_string(template).render(values))


def picture(figure: Figure, alt: str) -> Markup:
    """Return a figure as an <img> that holds its own data, for pages without a file server."""
    data = io.BytesIO()
    figure.savefig(data, format="png", dpi=130)
    return fill(
        PICTURE,
        alt=alt,
        width=f"{figure.get_figwidth() * PIXELS_PER_INCH:.0f}",
        data=base64.b64encode(data.getvalue()).decode(),
    )


def table(rows: pd.DataFrame) -> Markup:
    """Return a frame as an HTML table; pandas escapes every value."""
    html = rows.to_html(index=False, escape=True, border=0, classes="rows", justify="left")
    return Markup(html.replace("<td>", '<td style="padding:2px 14px 2px 2px">'))


def message(sentences: list[str]) -> Markup:
    """Return sentences for a visitor in a box that screen readers announce."""
    return fill(MESSAGE, sentences=sentences)
