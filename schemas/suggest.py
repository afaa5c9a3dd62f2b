"""The nearest valid name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable

_SHOWN = 4


def nearest(word: str, valid: Iterable[str]) -> str:
    """'; did you mean 'x'?' for the closest of `valid`, or "" where nothing is close.

    Names that begin with the word are meant before any other: what was typed is all right then,
    and merely not all of it.
    """
    by_lower = {name.lower(): name for name in valid}
    if word.lower() in by_lower:
        return f"; did you mean {by_lower[word.lower()]!r}?"
    begun = [name for lower, name in by_lower.items() if word and lower.startswith(word.lower())]
    if len(begun) > 1:
        shown = ", ".join(repr(name) for name in begun[:_SHOWN])
        more = f" or {len(begun) - _SHOWN} more" if len(begun) > _SHOWN else ""
        return f"; did you mean one of {shown}{more}?"
    found = begun or difflib.get_close_matches(word.lower(), by_lower, n=1, cutoff=0.5)
    return f"; did you mean {by_lower[found[0].lower()]!r}?" if found else ""
