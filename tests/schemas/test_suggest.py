"""The nearest valid name."""

from __future__ import annotations

import pytest

from schemas.suggest import nearest

VALID = ["threshold", "min_score", "min_area", "Device"]


@pytest.mark.parametrize(
    ("word", "hint"),
    [
        ("treshold", "; did you mean 'threshold'?"),
        ("THRESHOLD", "; did you mean 'threshold'?"),
        ("minscore", "; did you mean 'min_score'?"),
        ("device", "; did you mean 'Device'?"),
        ("zebra", ""),
        ("", ""),
    ],
)
def test_nearest(word: str, hint: str) -> None:
    assert nearest(word, VALID) == hint


def test_nothing_is_near_to_nothing() -> None:
    assert nearest("threshold", []) == ""
