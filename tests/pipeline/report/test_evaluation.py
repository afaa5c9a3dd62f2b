from __future__ import annotations

import pytest

from pipeline.evaluation.evaluate import evaluate
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
    assert "accuracy at IoU 0.5" in section
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
    for title in ("Matching", "Average precision", "Panoptic quality", "Pixels", "By category",
                  "By folder", "Worst images", "Confusion of pixels", "Settings"):  # fmt: skip
        assert title in section
    for group in figures["groups"]:
        assert f"<bdi>{group['group']}</bdi>" in section
    for heading in ("mean of 0.5–0.95", "AP small", "AP large", "AR", "PQ", "IoU", "precision"):
        assert f"<bdi>{heading}</bdi>" in section
    assert section.count("<polyline") == 6  # matching by threshold, precision by recall
    assert "{" not in section  # nothing came through as a dump of Python


def test_columns_keep_their_order_though_not_every_category_has_all():
    section = evaluation_section(
        {
            "per_category": [
                {"name": "sky", "miou": {"iou": 0.5, "recall": 1.0, "precision": None}},
                {
                    "name": "cat",
                    "pq": {"pq": 0.25},
                    "miou": {"iou": 0.75, "recall": None, "precision": 1},
                },
                {"name": "dog", "pq": {"pq": None}, "miou": {"iou": None}},
            ]
        }
    )
    heads = [section.index(f"<bdi>{head}</bdi>") for head in ("name", "PQ", "IoU", "recall")]
    assert heads == sorted(heads)
    assert "1 more do not occur" in section
    assert "dog" not in section


def test_confusion_shows_shares_of_the_true_category():
    section = evaluation_section(
        {
            "per_category": [{"category_id": 7, "name": "a<b"}, {"category_id": 9, "name": "sky"}],
            "confusion": {"pixels": {"7": {"7": 30, "9": 10}, "9": {"nothing": 5}}},
        }
    )
    assert '<td class="right level-7">75%</td><td class="wrong level-2">25%</td>' in section
    assert '<td class="wrong level-9">100%</td>' in section
    assert '<th scope="row"><bdi>a&lt;b</bdi></th>' in section
    assert "<bdi>nothing</bdi>" in section


def test_file_names_lead_to_the_picture_and_are_escaped():
    section = evaluation_section({"worst_images": [{"file_name": '"><b>.png', "tp": 1}]})
    assert 'data-open="&quot;&gt;&lt;b&gt;.png"' in section
    assert "<b>" not in section
