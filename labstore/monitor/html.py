"""Small pieces of HTML that every lab's pages share."""

from __future__ import annotations

import base64
import io
from html import escape

import pandas as pd
from matplotlib.figure import Figure


def picture(figure: Figure, alt: str) -> str:
    """A figure as an <img> that carries its own data, for pages without a file server."""
    data, width = io.BytesIO(), figure.get_figwidth() * 80
    figure.savefig(data, format="png", dpi=130)
    text = base64.b64encode(data.getvalue()).decode()
    return (
        f'<img alt="{escape(alt)}" style="width:{width:.0f}px;max-width:100%" '
        f'src="data:image/png;base64,{text}">'
    )


def table(rows: pd.DataFrame) -> str:
    """A frame as an HTML table, every value escaped."""
    html = rows.to_html(index=False, escape=True, border=0, classes="rows", justify="left")
    return html.replace("<td>", '<td style="padding:2px 14px 2px 2px">')


def message(sentences: list[str]) -> str:
    """Sentences for a visitor, in a box that screen readers announce."""
    lines = "".join(f"<p style='margin:4px 0'>{escape(s)}</p>" for s in sentences)
    return (
        '<div role="alert" class="message" style="border-left:4px solid #d98e04;'
        f'background:#fff7e6;color:#3b2f12;padding:8px 12px;border-radius:6px">{lines}</div>'
    )
