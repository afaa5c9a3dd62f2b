from __future__ import annotations

import pytest

from pipeline.evaluate import evaluate
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
    assert '<td class="num">0.5</td>' in section  # no more digits than the column needs


def test_what_the_evaluation_of_a_dataset_says_is_shown(make_dataset):
    ledger = make_dataset(count=8)
    figures = evaluate(ground_truth=ledger.uri, dataset=ledger.uri, group_by_folder=True)
    section = evaluation_section(figures)
    for title in ("Matching", "Panoptic quality", "By category", "By folder", "Settings"):
        assert title in section
    for group in figures["groups"]:
        assert f"<bdi>{group['group']}</bdi>" in section
    assert "matching accuracy 50–95" in section
    assert "{" not in section  # nothing came through as a dump of Python


def test_file_names_lead_to_the_picture_and_are_escaped():
    section = evaluation_section({"worst_images": [{"file_name": '"><b>.png', "tp": 1}]})
    assert 'data-search="&quot;&gt;&lt;b&gt;.png"' in section
    assert "<b>" not in section
