"""The nearest valid name, for error messages."""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from os.path import commonprefix

_SHOWN = 4
_CLOSE = 8
_LEAST = 0.55
"""Ratio of alike characters below which two names have nothing to do with one another."""


def nearest(word: str, valid: Iterable[str]) -> str:
    """'; did you mean 'x'?' for the closest of `valid`, or "" where nothing is close.

    Names that begin with the word are meant before any other: what was typed is all right then,
    and merely not all of it. Of close ones the one that begins most alike is meant, for it is of
    the same family. Case, "-", "_" and blanks do not matter.
    """
    by_plain = {_plain(name): name for name in valid}
    typed = _plain(word)
    if typed in by_plain:
        return f"; did you mean {by_plain[typed]!r}?"
    begun = [name for plain, name in by_plain.items() if typed and plain.startswith(typed)]
    if len(begun) > 1:
        shown = ", ".join(repr(name) for name in begun[:_SHOWN])
        more = f" or {len(begun) - _SHOWN} more" if len(begun) > _SHOWN else ""
        return f"; did you mean one of {shown}{more}?"
    if begun:
        return f"; did you mean {begun[0]!r}?"
    close = difflib.get_close_matches(typed, by_plain, n=_CLOSE, cutoff=_LEAST)
    if not close:
        return ""
    best = max(close, key=lambda plain: len(commonprefix([plain, typed])))
    return f"; did you mean {by_plain[best]!r}?"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(" ", "-")
