"""A tiling that cannot work is refused before the first picture, by its key."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.config.job import JobConfig


def tiling(**values: Any) -> Any:
    data = {"input": {"uri": "in"}, "output": "out", "model": {"name": "otsu"}, "tiling": values}
    return JobConfig.parse(data).tiling


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"size": 31}, "tiling.size: must be 0 or at least 32, got 31"),
        ({"size": -1}, "tiling.size: .*greater than or equal to 0"),
        ({"size": 512, "overlap": 512}, r"tiling.overlap: must be in 0…511, below .*, got 512"),
        ({"size": 128}, r"tiling.overlap: must be in 0…127, below tiling.size = 128, got 128"),
        ({"size": 512, "overlap": -1}, "tiling.overlap: .*greater than or equal to 0"),
        ({"min_iou": 1.5}, "tiling.min_iou: .*less than or equal to 1"),
        ({"tile": 512}, "unknown key 'tiling.tile'.*allowed: size, overlap, min_iou"),
    ],
)
def test_it_is_named(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tiling(**values)


def test_what_works_is_taken() -> None:
    assert tiling().size == 0
    assert tiling(size=32, overlap=31).overlap == 31
    assert tiling(overlap=4000).size == 0
