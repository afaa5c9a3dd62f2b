"""The images that came out worst, without keeping all of them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

LISTED = 100
"""Images and names that are listed; the numbers beside them cover all."""


class WorstImages:
    """Keeps the rows with the lowest figures.

    Args:
        key: Which figure of a row counts; rows where it is None are not kept.
        most: So many rows.
    """

    def __init__(self, key: str, most: int = LISTED) -> None:
        self._key, self._most = key, most
        self._rows: list[dict[str, Any]] = []

    def add(self, rows: Sequence[dict[str, Any]]) -> None:
        """Looks at the rows of some images; each has a `file_name`."""
        self._rows += [row for row in rows if row[self._key] is not None]
        if len(self._rows) > 4 * self._most:
            self._rows = self.rows()

    def rows(self) -> list[dict[str, Any]]:
        """The worst first; equal ones by name."""
        return sorted(self._rows, key=lambda row: (row[self._key], row["file_name"]))[: self._most]
