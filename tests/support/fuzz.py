"""Damage for files of every kind that is read, and what must come of it: an answer or one error.

A small budget a file; MASKMILL_FUZZ=5000 tries so many of each, others every time.
"""

from __future__ import annotations

import os
import resource
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st

BUDGET = int(os.environ.get("MASKMILL_FUZZ", "0"))
MOST_GB = 4
"""Of memory that a process may take, whatever the file."""


def tries(number: int = 60) -> settings:
    """So many examples, the same ones in every run of the suite."""
    return settings(
        max_examples=BUDGET or number,
        deadline=None,
        derandomize=not BUDGET,
        suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    )


FEW = tries()
JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from([-1, 2**31, 2**63, 1e308, "../x", "/etc/passwd", "\x1b[2J", "\0"]),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=12,
)
EDITS = st.lists(
    st.tuples(
        st.integers(0, 10**6), st.integers(1, 255), st.sampled_from(["flip", "cut", "dup", "fill"])
    ),
    min_size=1,
    max_size=4,
)


def edited(data: bytes, edits: list[tuple[int, int, str]]) -> bytes:
    """Bytes flipped, the end cut off, a piece doubled, four bytes set to 255."""
    found = bytearray(data)
    for place, value, kind in edits:
        if not found:
            break
        at = place % len(found)
        if kind == "flip":
            found[at] ^= value
        elif kind == "cut":
            del found[at:]
        elif kind == "dup":
            found[at:at] = found[at : at + value]
        else:
            found[at : at + 4] = b"\xff" * len(found[at : at + 4])
    return bytes(found)


def paths(data: Any, prefix: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """Every place in a JSON value."""
    found = [prefix]
    items: Iterable[tuple[Any, Any]] = ()
    if isinstance(data, dict | list):
        items = data.items() if isinstance(data, dict) else enumerate(data)
    for key, inner in items:
        found += paths(inner, (*prefix, key))
    return found


def replaced(data: Any, path: tuple[Any, ...], value: Any) -> Any:
    """The value with another one at this place."""
    if not path:
        return value
    copy = dict(data) if isinstance(data, dict) else list(data)
    copy[path[0]] = replaced(copy[path[0]], path[1:], value)
    return copy


def survives(action: Callable[[], object]) -> None:
    """It works, or says in a ValueError or OSError what is wrong."""
    said = "fine"
    try:
        action()
    except (ValueError, OSError) as error:
        said = str(error)
    assert said


@pytest.fixture
def little_memory() -> Iterator[None]:
    """That no file of the test's made this process take `MOST_GB`."""
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    assert peak < MOST_GB << 20, f"{peak >> 10} MB"
