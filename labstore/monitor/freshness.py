"""How current a monitor is: one rule, and its picture, for every lab's monitor."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from typing import Any

from labstore.contract import StoreError

COLOURS = {"green": "#2e8b57", "amber": "#d98e04", "red": "#c0392b"}


@dataclass(frozen=True)
class Freshness:
    """How current a monitor is: a colour, the sentence beside it, and one flag per recent day."""

    colour: str  # "green", "amber" or "red"
    sentence: str
    days: list[tuple[date, bool]]  # oldest first: was the day's row predicted?


def freshness(content: dict[str, Any], now: datetime | None = None, days: int = 30) -> Freshness:
    """The one rule of both monitors.

    Green: today's or yesterday's row is there and no recent day is missing. Amber: two or three
    days behind, or a day missing. Red: further behind.
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
        ) from None
    strip = [(day, day in done) for day in recent if day >= first]
    missing = sum(not there for _, there in strip)
    behind = (now.date() - through).days
    colour = "red" if behind > 3 else "amber" if behind > 1 or missing else "green"
    sentence = f"Data through {through}, last run {_ago(hours)} ago"
    if missing:
        sentence += f", {missing} of the last {len(strip)} days missing"
    return Freshness(colour, sentence + ".", strip)


def _ago(hours: float) -> str:
    return f"{max(hours, 0):.0f} h" if hours < 72 else f"{hours / 24:.0f} days"


def freshness_html(fresh: Freshness) -> str:
    """The sentence with its light, and a strip with a mark per recent day."""
    marks = "".join(
        f'<span title="{day}{"" if there else ": missing"}" style="display:inline-block;width:10px;'
        f"height:18px;margin-right:2px;border-radius:2px;"
        f'background:{"#7fb89a" if there else "#c0392b"}"></span>'
        for day, there in fresh.days
    )
    return (
        f'<div class="freshness" data-colour="{fresh.colour}">'
        f'<span style="display:inline-block;width:12px;height:12px;border-radius:50%;'
        f'background:{COLOURS[fresh.colour]};margin-right:8px"></span>'
        f"<strong>{fresh.colour}</strong> &middot; {fresh.sentence}<br>"
        f'<div style="margin-top:6px">{marks}</div></div>'
    )
