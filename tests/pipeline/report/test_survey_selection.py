from __future__ import annotations

from itertools import pairwise

import pyarrow as pa
import pytest

from pipeline.report.survey import IMAGE_COLUMNS, Selection


def _table(rows: list[tuple[int, str, str, str | None, str | None]]) -> pa.Table:
    return pa.table(dict(zip(IMAGE_COLUMNS[:5], zip(*rows, strict=True), strict=True)))


def _labelled(count: int) -> pa.Table:
    return _table([(n, f"{n}.png", "ok" if n % 2 else "empty", None, None) for n in range(count)])


@pytest.mark.parametrize(("total", "wanted"), [(10, 10), (10, 0), (10, 3), (1000, 7), (7, 100)])
def test_takes_exactly_so_many_in_even_steps(total, wanted):
    selection = Selection(labelled=total, max_images=wanted, error_counts={})
    table = _labelled(total)
    for start in range(0, total, 3):  # parts do not matter
        selection.add(table.slice(start, 3))
    chosen = list(selection.chosen.values())
    assert len(chosen) == min(wanted, total)
    steps = {b - a for a, b in pairwise(chosen)}
    assert not steps or max(steps) - min(steps) <= 1


def test_a_rare_error_is_not_crowded_out():
    counts = {"truncated": 5000, "crashed": 2, "too_large": 300}
    selection = Selection(labelled=0, max_images=5, error_counts=counts)
    number = 0
    for code, count in counts.items():
        rows = []
        for _ in range(count):
            number += 1
            rows.append((number, f"{number}.png", "failed", code, "why"))
        selection.add(_table(rows))
    kept = [item.code for item in selection.unlabelled]
    assert len(kept) == 1000
    assert kept.count("crashed") == 2
    assert kept.count("too_large") == 300
    assert not selection.chosen
