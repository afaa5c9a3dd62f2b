"""Categories that a file of prompts names by text or number."""

from __future__ import annotations

from schemas.categories import Categories
from schemas.ontology import Ontology


class CategoryNames:
    """Gives each name an id: its number of first appearance, or the number that it is.

    Args:
        known: Names by id that the file states; others are added as they come.
    """

    def __init__(self, known: dict[int, str] | None = None) -> None:
        self._names = dict(known or {})
        self._ids = {name: id_ for id_, name in self._names.items()}

    def id_of(self, value: object) -> int:
        """The id of a category given as a name or, as text or integer, as an id.

        Raises:
            ValueError: An id below 1.
        """
        text = str(value).strip() if value is not None else ""
        if text in self._ids:
            return self._ids[text]
        if text.isdecimal() or (text[:1] == "-" and text[1:].isdecimal()):
            number = int(text)
            if number in self._names:
                return number
            if number < 1:
                raise ValueError(f"category ids start at 1, got {number}; or give names")
            return self._add(number, text)
        return self._add(max(self._names, default=0) + 1, text or "object")

    def categories(self) -> Categories:
        """The table, by id; colours as an ontology gives them."""
        if not self._names:
            return Categories(())
        rows = [{"id": id_, "name": name} for id_, name in sorted(self._names.items())]
        return Ontology.parse({"category": rows}).categories()

    def _add(self, id_: int, name: str) -> int:
        if name in self._ids:
            return self._ids[name]
        self._names[id_] = name
        self._ids[name] = id_
        return id_
