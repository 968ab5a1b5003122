"""How current a monitor is: one rule, and its picture, for every lab's monitor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from markupsafe import Markup

from labstore.contract import StoreError
from labstore.monitor import html

COLOURS = {"green": "#2e8b57", "amber": "#d98e04", "red": "#c0392b"}
DAY_DONE, DAY_MISSING = "#7fb89a", "#c0392b"

LIGHT = """\
<div class="freshness" data-colour="{{ fresh.colour }}">
{#- -#}
<span style="display:inline-block;width:12px;height:12px;border-radius:50%;background:{{ light }};\
margin-right:8px"></span>
{#- -#}
<strong>{{ fresh.colour }}</strong> &middot; {{ fresh.sentence }}<br>
{#- -#}
<div style="margin-top:6px">
{%- for day, done in fresh.days -%}
<span title="{{ day }}{{ '' if done else ': missing' }}" style="display:inline-block;width:10px;\
height:18px;margin-right:2px;border-radius:2px;background:{{ day_done if done else day_missing }}"></span>
{%- endfor -%}
</div></div>"""


@dataclass(frozen=True)
class Freshness:
    """How current a monitor is: a colour, the sentence beside it, and one flag per recent day."""

    colour: str  # "green", "amber" or "red"
    sentence: str
    days: list[tuple[date, bool]]  # oldest first: was the day's row predicted?


def freshness(content: dict[str, Any], now: datetime | None = None, days: int = 30) -> Freshness:
    """Apply the one rule of every monitor to a snapshot.

    Green: today's or yesterday's row is there and none of the last `days` days is missing. Amber:
    two or three days behind, or a day missing. Red: further behind. `now` is aware, by default the
    present. Raises StoreError where the snapshot's dates cannot be read.
    """
    now = now or datetime.now(UTC)
    try:
        through = date.fromisoformat(content["through"])
        done = {date.fromisoformat(day) for day in content["dates"]}
        first, last_run = min(done), datetime.fromisoformat(content["last_run"])
        hours = (now - last_run).total_seconds() / 3600
        last = max(through, now.date() - timedelta(days=1))  # today's run may still come
        recent = [last - timedelta(days=back) for back in range(days - 1, -1, -1)]
    except (KeyError, TypeError, ValueError, OverflowError) as error:
        raise StoreError(
            f"The snapshot's dates are unreadable ({error}). Run the daily job again."
        ) from error
    strip = [(day, day in done) for day in recent if day >= first]
    missing = sum(not there for _, there in strip)
    behind = (now.date() - through).days
    sentence = f"Data through {through}, last run {_ago(hours)} ago"
    if missing:
        sentence += f", {missing} of the last {len(strip)} days missing"
    return Freshness(_colour(behind, missing), sentence + ".", strip)


def _colour(days_behind: int, days_missing: int) -> str:
    """Return the light's colour. static.SCRIPT decides by the same rule in a visitor's browser."""
    if days_behind > 3:
        return "red"
    return "amber" if days_behind > 1 or days_missing else "green"


def _ago(hours: float) -> str:
    return f"{max(hours, 0):.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


def freshness_html(fresh: Freshness) -> Markup:
    """Return the light, the sentence beside it, and a strip with a mark per recent day."""
    colours = {"light": COLOURS[fresh.colour], "day_done": DAY_DONE, "day_missing": DAY_MISSING}
    return html.fill(LIGHT, fresh=fresh, **colours)
