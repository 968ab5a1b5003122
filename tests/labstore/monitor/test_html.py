"""Pieces of HTML: every value in them is escaped."""

from __future__ import annotations

import pandas as pd
from markupsafe import Markup
from matplotlib.figure import Figure

from labstore.monitor import html, static

HOSTILE = "<script>alert('\"')</script>"


def test_values_are_escaped_and_markup_is_not():
    assert html.fill("<p>{{ text }}</p>", text="a < b") == "<p>a &lt; b</p>"
    assert html.fill("<p>{{ text }}</p>", text=Markup("<b>a</b>")) == "<p><b>a</b></p>"


def test_messages_tables_and_pictures_escape_their_texts():
    figure = Figure(figsize=(2, 1))
    picture = html.picture(figure, HOSTILE)
    assert "width:160px" in picture and "data:image/png;base64,iVBOR" in picture
    for piece in (html.message([HOSTILE]), html.table(pd.DataFrame({"a": [HOSTILE]})), picture):
        assert isinstance(piece, Markup)
        assert "<script" not in piece and "&lt;script" in piece


def test_a_static_pages_title_is_escaped_and_its_script_is_not():
    page = static.document(HOSTILE, HOSTILE, html.message(["text"]))
    assert page.count("<script>") == 1 and static.SCRIPT in page
    assert '<div role="alert"' in page
