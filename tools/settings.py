"""The environment variables of the project, read from their one list, docs/settings.md."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path

PAGE = Path(__file__).resolve().parent.parent / "docs" / "settings.md"


@dataclass(frozen=True)
class Setting:
    """One line of docs/settings.md."""

    name: str
    read_by: str
    needed_for: tuple[str, ...]  # deployments that do not start without it
    meaning: str

    @property
    def is_secret(self) -> bool:
        """Whether the value must never be shown or published."""
        return self.meaning.startswith("secret")


def read_settings(page: Path = PAGE) -> dict[str, Setting]:
    """Return the settings in the page's table, by variable."""
    rows = re.findall(
        r"^\| `([A-Z_]+)` \|(.*?)\|(.*?)\|(.*)\|$", page.read_text(encoding="utf-8"), re.M
    )
    return {
        name: Setting(
            name,
            read_by.strip(),
            tuple(part.strip() for part in needed_for.split(",") if part.strip()),
            meaning.strip(),
        )
        for name, read_by, needed_for, meaning in rows
    }


SETTINGS = read_settings()


def secret_values() -> list[str]:
    """Return the values of all secrets that are set in this environment, 8 characters or longer."""
    values = [os.environ.get(s.name, "") for s in SETTINGS.values() if s.is_secret]
    return [value for value in values if len(value) >= 8]
