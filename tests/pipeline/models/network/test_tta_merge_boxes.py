"""Several views' detections, made one set."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.grids.geometry import FitRule, Frame, Padding, Size
from pipeline.models.grids.outputs import BoxOutput
from pipeline.models.network.fit import View
from pipeline.models.network.tta_merge import average_boxes

PLAIN, MIRRORED = View(), View(flip_yx=(False, True))
FRAME = Frame((40, 60), (40, 60), (40, 60))


def boxes(
    *rows: tuple[float, float, float, float],
    labels: list[int] | None = None,
    scores: list[float] | None = None,
    frame: Frame = FRAME,
    mask: torch.Tensor | None = None,
) -> BoxOutput:
    plane = torch.full((4, 4), 0.5) if mask is None else mask
    return BoxOutput(
        boxes_xyxy=torch.tensor(rows).view(-1, 4),
        labels=torch.tensor(labels or [1] * len(rows), dtype=torch.int64),
        scores=torch.tensor(scores or [0.9 - i / 10 for i in range(len(rows))]),
        mask_probs=plane.expand(len(rows), 4, 4),
        frame=frame,
    )


@pytest.mark.parametrize(
    ("flip_yx", "scale"),
    [((False, True), 1.0), ((True, False), 1.0), ((True, True), 1.5), ((False, False), 0.5)],
)
def test_equal_views_give_what_each_gives(flip_yx: tuple[bool, bool], scale: float):
    """Mirrored and scaled, with padding on the other side."""
    rule = FitRule(size=Size("shortest", 64, 128), padding=Padding(divisor=48))
    view = View(scale, flip_yx)
    plain, frame = rule.frame((40, 61)), rule.frame((40, 61), scale=scale, flip_yx=flip_yx)
    mask = torch.arange(16.0).view(4, 4) / 16
    corners = torch.tensor([[4.0, 3, 20, 17], [30, 8, 55, 33]])  # pixels of the picture

    def seen(frame: Frame, flips: tuple[bool, bool]) -> BoxOutput:
        ratio = torch.tensor([frame.content_hw[i] / frame.picture_hw[i] for i in (1, 0, 1, 0)])
        found, plane = corners * ratio, mask
        for side, flipped in enumerate(flips):
            if flipped:  # the network sees the mirrored picture at the corner of its input
                low, high = 1 - side, 3 - side
                lows = frame.content_hw[side] - found[:, high]
                found[:, high] = frame.content_hw[side] - found[:, low]
                found[:, low] = lows
                plane = plane.flip(side)
        return BoxOutput(
            found, torch.tensor([1, 2]), torch.tensor([0.9, 0.8]), plane.expand(2, 4, 4), frame
        )

    found = average_boxes([seen(plain, (False, False)), seen(frame, flip_yx)], [PLAIN, view])
    expected = seen(plain, (False, False))
    torch.testing.assert_close(found.boxes_xyxy, expected.boxes_xyxy)
    torch.testing.assert_close(found.mask_probs, expected.mask_probs)
    torch.testing.assert_close(found.scores, expected.scores)
    assert found.labels.tolist() == [1, 2]
    assert found.frame == plain
    torch.testing.assert_close(found.agreement, torch.ones(2))


def test_partners_are_averaged_and_sorted():
    first = boxes((0, 0, 10, 10), (30, 5, 50, 30), scores=[0.9, 0.8])
    second = boxes((30, 5, 50, 26), (0, 0, 10, 10), scores=[0.9, 0.2], mask=torch.ones(4, 4))
    found = average_boxes([first, second], [PLAIN, PLAIN])
    assert found.boxes_xyxy.tolist() == [[30, 5, 50, 28], [0, 0, 10, 10]]
    torch.testing.assert_close(found.scores, torch.tensor([0.85, 0.55]))
    torch.testing.assert_close(found.mask_probs, torch.full((2, 4, 4), 0.75))
    iou = (23 / 25 + 21 / 23) / 2
    torch.testing.assert_close(found.agreement, torch.tensor([iou, 1.0]))


def test_another_category_or_place_is_no_partner():
    first = boxes((0, 0, 10, 10), (30, 5, 50, 30), labels=[1, 1])
    second = boxes((0, 0, 10, 10), (30, 5, 39, 30), labels=[2, 1])
    third = boxes((0, 0, 10, 10), labels=[1])
    found = average_boxes([first, second, third], [PLAIN] * 3)
    # what one view of three adds is dropped, what the first has stays
    assert found.boxes_xyxy.tolist() == [[0, 0, 10, 10], [30, 5, 50, 30]]
    torch.testing.assert_close(found.agreement, torch.tensor([2 / 3, 1 / 3]))


def test_what_half_of_the_views_add_is_kept():
    nothing, one = boxes(), boxes((3, 3, 9, 9), scores=[0.7])
    found = average_boxes([nothing, one, boxes(), one], [PLAIN] * 4)
    assert found.boxes_xyxy.tolist() == [[3, 3, 9, 9]]
    torch.testing.assert_close(found.scores, torch.tensor([0.7]))
    torch.testing.assert_close(found.agreement, torch.tensor([0.5]))
    assert len(average_boxes([nothing, one, boxes()], [PLAIN] * 3).scores) == 0


def test_nothing_in_any_view_is_nothing():
    found = average_boxes([boxes(), boxes()], [PLAIN, MIRRORED])
    assert found.boxes_xyxy.shape == (0, 4)
    assert found.mask_probs.shape == (0, 4, 4)
    assert found.agreement is not None
    assert found.agreement.shape == (0,)
