"""How current a monitor is, from green to red."""

from __future__ import annotations

from datetime import UTC, date, datetime, timedelta

import pytest

from labstore.monitor.freshness import freshness, freshness_html


def content(through: str, missing: tuple[str, ...] = (), first: str = "2026-01-01") -> dict:
    days, day = [], date.fromisoformat(first)
    while day <= date.fromisoformat(through):
        days.append(day.isoformat())
        day += timedelta(days=1)
    return {
        "through": through,
        "last_run": f"{through}T06:00:00+00:00",
        "dates": [d for d in days if d not in missing],
    }


@pytest.mark.parametrize(
    ("through", "missing", "colour"),
    [
        ("2026-02-10", (), "green"),
        ("2026-02-09", (), "green"),
        ("2026-02-10", ("2026-02-01",), "amber"),
        ("2026-02-10", ("2026-01-01",), "green"),  # more than thirty days ago
        ("2026-02-08", (), "amber"),
        ("2026-02-07", (), "amber"),
        ("2026-02-06", (), "red"),
    ],
)
def test_the_light_follows_recent_and_missing_days(through, missing, colour):
    now = datetime(2026, 2, 10, 12, tzinfo=UTC)
    found = freshness(content(through, missing), now)
    assert found.colour == colour
    assert f"Data through {through}" in found.sentence
    yesterday = date(2026, 2, 9)  # today's run may still come
    behind = max((yesterday - date.fromisoformat(through)).days, 0)
    recent = [d for d in missing if d > "2026-01-11"]
    assert sum(not there for _, there in found.days) == behind + len(recent)
    assert f'data-colour="{colour}"' in freshness_html(found)
