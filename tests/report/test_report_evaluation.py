from __future__ import annotations

import pytest

from pipeline.report.evaluation import evaluation_section


@pytest.mark.parametrize("nothing", [None, {}, [], 3, "text"])
def test_no_figures_no_section(nothing):
    assert evaluation_section(nothing) == ""


def test_overall_and_a_row_a_category():
    section = evaluation_section(
        {
            "overall": {"accuracy_50": 0.875, "images": 1234, "note": None},
            "per_category": [
                {"name": "<cell>", "pq": 0.5},
                {"name": "debris", "pq": None, "tp": 3},
            ],
        }
    )
    assert "accuracy 50" in section
    assert "0.8750" in section
    assert "1,234" in section
    assert "&lt;cell&gt;" in section
    assert "<cell>" not in section
    assert section.count("<tr>") == 3
    assert '<td class="num">–</td>' in section


def test_nested_names_become_rows_and_many_numbers_a_table():
    section = evaluation_section(
        {
            "by_kind": {"stained": {"pq": 0.25}, "fluorescence": {"pq": 0.75}},
            "thresholds": {str(n): n / 10 for n in range(9)},
            "list": [1, 2],
        }
    )
    assert section.count("<table>") == 3
    assert "0.2500" in section
    assert "0.8000" in section
