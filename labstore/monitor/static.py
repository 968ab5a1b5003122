"""A monitor as one HTML file that needs no server, no store and nothing from elsewhere.

Its content is from the day it was made. How fresh that is, the visitor's browser works out when the
page is looked at, so a page that nobody renews turns amber and then red by itself.
"""

from __future__ import annotations

import base64
import hashlib
from datetime import date, datetime
from pathlib import Path
from typing import Any

from markupsafe import Markup

from labstore.monitor import html
from labstore.monitor.freshness import COLOURS, freshness

# The rule of labstore.monitor.freshness again, for the browser's clock; a test compares the two.
SCRIPT = """
const facts = JSON.parse(document.getElementById("facts").textContent), DAY = 86400000;
const dayOf = text => Date.parse(text) / DAY, textOf = day => new Date(day * DAY).toISOString().slice(0, 10);
function show() {
  const today = Math.floor(Date.now() / DAY), through = dayOf(facts.through);
  const done = new Set(facts.dates.map(dayOf)), first = Math.min(...done);
  const last = Math.max(through, today - 1), behind = today - through;
  let marks = "", missing = 0, shown = 0;
  for (let day = Math.max(last - 29, first); day <= last; day++, shown++) {
    const there = done.has(day);
    missing += !there;
    marks += `<span title="${textOf(day)}${there ? "" : ": missing"}" style="display:inline-block;` +
      `width:10px;height:18px;margin-right:2px;border-radius:2px;` +
      `background:${there ? "#7fb89a" : "#c0392b"}"></span>`;
  }
  const colour = behind > 3 ? "red" : behind > 1 || missing ? "amber" : "green";
  const hours = Math.max(Date.now() - facts.last_run, 0) / 3600000;
  const ago = hours < 72 ? `${hours.toFixed(0)} h` : `${(hours / 24).toFixed(0)} days`;
  const gaps = missing ? `, ${missing} of the last ${shown} days missing` : "";
  const light = document.querySelector(".freshness");
  light.dataset.colour = colour;
  light.innerHTML = `<span style="display:inline-block;width:12px;height:12px;border-radius:50%;` +
    `background:${facts.colours[colour]};margin-right:8px"></span><strong>${colour}</strong> &middot; ` +
    `Data through ${facts.through}, last run ${ago} ago${gaps}.<br>` +
    `<div style="margin-top:6px">${marks}</div>`;
}
show();
setInterval(show, 600000);
"""

_DIGEST = base64.b64encode(hashlib.sha256(SCRIPT.encode()).digest()).decode()
# The policy makes the browser refuse whatever is not part of the page.
POLICY = (
    f"default-src 'none'; img-src data:; style-src 'unsafe-inline'; script-src 'sha256-{_DIGEST}'"
)
HEADER = """---
title: "{title}"
emoji: 📈
colorFrom: gray
colorTo: green
sdk: static
app_file: index.html
license: mit
---

{subtitle} The daily run renews this page; your browser works out how fresh it is.
"""

LIGHT = """\
<div class="freshness" data-colour="">Data through {{ through }}, last run {{ last_run }}. \
A browser with JavaScript shows how fresh that is.</div>\
<script type="application/json" id="facts">{{ facts | tojson }}</script>"""

DOCUMENT = """\
<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{{ policy }}">
<title>{{ title }}</title>
<style>body{font-family:system-ui,sans-serif;max-width:1100px;margin:2rem auto;padding:0 1rem}</style>
</head>
<body>
<h1>{{ title }}</h1>
<p>{{ subtitle }}</p>
{{ body }}
<script>{{ script }}</script>
</body>
</html>
"""


def light(content: dict[str, Any]) -> Markup:
    """Return a snapshot's freshness as HTML that the visitor's browser works out.

    Raises StoreError where the snapshot's dates cannot be read.
    """
    freshness(content)  # raises for a date that is not one
    through = date.fromisoformat(content["through"]).isoformat()
    facts = {
        "through": through,
        "dates": [date.fromisoformat(day).isoformat() for day in content["dates"]],
        "last_run": datetime.fromisoformat(content["last_run"]).timestamp() * 1000,  # ms
        "colours": COLOURS,
    }
    return html.fill(LIGHT, through=through, last_run=content["last_run"], facts=facts)


def document(title: str, subtitle: str, body: str) -> Markup:
    """Return a whole HTML document around a monitor that was rendered with `light`.

    `body` is taken as HTML, the other two are escaped.
    """
    return html.fill(
        DOCUMENT,
        policy=POLICY,
        title=title,
        subtitle=subtitle,
        body=Markup(body),
        script=Markup(SCRIPT),
    )


def write(folder: Path, title: str, subtitle: str, body: str) -> Path:
    """Write the page and a Space's header into a folder that any web server can show.

    Returns the folder.
    """
    folder.mkdir(parents=True, exist_ok=True)
    header = HEADER.format(title=title, subtitle=subtitle)
    (folder / "README.md").write_text(header, encoding="utf-8")
    (folder / "index.html").write_text(document(title, subtitle, body), encoding="utf-8")
    return folder


def upload(folder: Path, space: str, token: str) -> str:
    """Put such a folder on a static Space, created where there is none. Return the page's address."""
    from huggingface_hub import HfApi

    api = HfApi(token=token)
    api.create_repo(space, repo_type="space", space_sdk="static", exist_ok=True)
    api.upload_folder(repo_id=space, repo_type="space", folder_path=folder)
    return f"https://huggingface.co/spaces/{space}"
