"""Units of length."""

from __future__ import annotations

import pytest

from schemas.lengths import MICROMETRES, micrometres_in


@pytest.mark.parametrize(
    ("unit", "um"),
    [("µm", 1), ("μm", 1), (" Micron ", 1), ("\\u00B5m", 1), ("NM", 1e-3), ("inch", 25_400)],
)
def test_units_are_known_by_their_spellings(unit: str, um: float) -> None:
    assert micrometres_in(unit) == um


def test_what_is_no_unit_has_no_length() -> None:
    assert all(micrometres_in(unit) == um for unit, um in MICROMETRES.items())
    assert [micrometres_in(word) for word in ("", "pixel", "parsec")] == [None] * 3
