from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest

from pipeline.report.survey import IMAGE_COLUMNS, Selection


def _table(rows: list[tuple[int, str, str, str | None, str | None]]) -> pa.Table:
    return pa.table(dict(zip(IMAGE_COLUMNS[:5], zip(*rows, strict=True), strict=True)))


def _labelled(count: int) -> pa.Table:
    return _table([(n, f"{n}.png", "ok" if n % 2 else "empty", None, None) for n in range(count)])


def choose(table: pa.Table, wanted: int, step: int = 100) -> dict[str, int]:
    selection = Selection(max_images=wanted, error_counts={})
    for start in range(0, len(table), step):
        selection.add(table.slice(start, step))
    return selection.chosen


@pytest.mark.parametrize(("total", "wanted"), [(10, 10), (10, 0), (10, 3), (1000, 7), (7, 100)])
def test_takes_exactly_so_many_in_the_order_of_the_input(total, wanted):
    chosen = choose(_labelled(total), wanted, step=3)
    assert len(chosen) == min(wanted, total)
    assert list(chosen.values()) == sorted(chosen.values())
    assert choose(_labelled(total), wanted, step=total) == chosen  # parts do not matter


def test_is_spread_over_the_input():
    ids = list(choose(_labelled(10_000), 1000).values())
    tenths = np.bincount(np.array(ids) // 1000, minlength=10)
    assert tenths.min() > 60
    assert tenths.max() < 140


def test_an_image_more_or_less_changes_one_of_the_chosen_at_most():
    table = _labelled(1000)
    chosen = choose(table, 100)
    for gone in range(0, 1000, 50):
        fewer = choose(pa.concat_tables([table.slice(0, gone), table.slice(gone + 1)]), 100)
        assert len(set(fewer) ^ set(chosen)) <= 2
        moved = [table.slice(0, gone), table.slice(gone + 1), table.slice(gone, 1)]
        assert set(choose(pa.concat_tables(moved), 100)) == set(chosen)


def test_a_rare_error_is_not_crowded_out():
    counts = {"truncated": 5000, "crashed": 2, "too_large": 300}
    selection = Selection(max_images=5, error_counts=counts)
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
