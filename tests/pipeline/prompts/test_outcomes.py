"""What came of each prompt: none is lost, and an image's note counts those without a label."""

from __future__ import annotations

import pytest

from pipeline.prompts.outcomes import fault_of, outcome_note, prompt_rows
from schemas.prompts import prompt_lines
from schemas.records import Evidence, Prompt, Segment

HW = (40, 60)


@pytest.mark.parametrize(
    ("prompt", "fault"),
    [
        (Prompt(1, bbox_xyxy=(0, 0, 60, 40)), ""),
        (Prompt(1, bbox_xyxy=(-5, -5, 0.5, 0.5)), ""),
        (Prompt(1, bbox_xyxy=(-5, -5, 0, 40)), "outside"),
        (Prompt(1, bbox_xyxy=(60, 0, 70, 40)), "outside"),
        (Prompt(1, bbox_xyxy=(50, 50, 50, 62)), "no_area"),
        (Prompt(1, bbox_xyxy=(9, 9, 5, 12)), "no_area"),
        (Prompt(1, points_xy=((59.9, 39.9),), inside=(True,)), ""),
        (Prompt(1, points_xy=((60, 5),), inside=(True,)), "outside"),
        (Prompt(1, points_xy=((-1, 5), (5, 5)), inside=(True, False)), "outside"),
        (Prompt(1, points_xy=((5, 5),), inside=(False,)), ""),
        (Prompt(1, iscrowd=True, counts=b"0"), ""),
    ],
)
def test_what_asks_for_nothing(prompt: Prompt, fault: str) -> None:
    assert fault_of(prompt, *HW) == fault


def segment(index: int, *, iou: float | None = 0.5, iscrowd: bool = False) -> Segment:
    evidence = Evidence(predicted_iou=iou, prompt_index=index)
    return Segment(1, b"0", 1, (0, 0, 1, 1), iscrowd=iscrowd, evidence=evidence)


def test_a_row_a_prompt() -> None:
    prompts = [
        Prompt(3, bbox_xyxy=(1, 2, 5, 8), source_id="abc"),
        Prompt(3, bbox_xyxy=(1, 2, 5, 8), source_id=7),
        Prompt(3, points_xy=((1, 2),), inside=(True,)),
        Prompt(3, iscrowd=True, counts=b"0", source_id=9),
        Prompt(3, bbox_xyxy=(1, 2, 5, 2), source_id=10),
        Prompt(3, bbox_xyxy=(100, 2, 105, 12), source_id=11),
    ]
    segments = [segment(2, iou=None), segment(3, iou=None, iscrowd=True), segment(0), segment(0)]
    rows = prompt_rows(prompts, segments, *HW)
    assert [row["source_id"] for row in rows] == ["abc", "7", None, "9", "10", "11"]
    assert [row["outcome"] for row in rows] == [
        "mask", "no_mask", "stand_in", "handed_through", "no_area", "outside",
    ]  # fmt: skip
    assert [row["segment_id"] for row in rows] == [3, None, 1, 2, None, None]
    assert rows[0]["bbox_xywh"] == [1, 2, 4, 6]
    note = "of 6 prompts 1 without a mask, 1 outside their picture, 1 boxes without an area"
    assert outcome_note(rows) == note
    assert outcome_note(rows[:1]) == ""


def test_the_last_lines_count_what_is_lost() -> None:
    assert prompt_lines({}) == []
    lines = prompt_lines({"mask": 4, "outside": 1, "absent_images": 2}, ("b.jpg", "c.jpg"))
    assert lines == [
        "prompts: 4 answered with a mask, 1 outside their picture",
        "prompts: 2 pictures that the file names are not in the input, as 'b.jpg', 'c.jpg'",
    ]
