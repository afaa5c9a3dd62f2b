"""Several views' queries, each with its partner."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import QueryOutput
from pipeline.models.network.fit import View
from pipeline.models.network.tta_merge import average_queries

PLAIN, MIRRORED = View(), View(flip_yx=(False, True))
FRAME = Frame((40, 60), (20, 30), (20, 30))


def masks(*boxes: tuple[int, int, int, int], strength: float = 6.0) -> torch.Tensor:
    """Mask logits: positive inside (top, left, bottom, right)."""
    logits = torch.full((len(boxes), 20, 30), -strength)
    for plane, (top, left, bottom, right) in zip(logits, boxes, strict=True):
        plane[top:bottom, left:right] = strength
    return logits


def categories(*best: int, strength: float = 5.0) -> torch.Tensor:
    """Category logits of 3 categories and nothing (3)."""
    return torch.eye(4)[list(best)] * strength


LEFT, RIGHT, LOW = (2, 1, 12, 11), (4, 16, 16, 28), (13, 2, 19, 29)


def query(mask_logits: torch.Tensor, class_logits: torch.Tensor) -> QueryOutput:
    return QueryOutput(class_logits, mask_logits, FRAME)


def test_equal_views_in_another_order_change_nothing():
    torch.manual_seed(0)
    shape, kind = masks(LEFT, RIGHT, LOW) + torch.randn(3, 20, 30), torch.randn(3, 4) * 3
    order = [2, 0, 1]
    other = query(shape[order].flip(-1), kind[order])
    found = average_queries([query(shape, kind), other], [PLAIN, MIRRORED])
    torch.testing.assert_close(found.mask_logits, shape)
    torch.testing.assert_close(found.class_logits.softmax(-1), kind.softmax(-1))
    assert found.agreement is not None
    torch.testing.assert_close(found.agreement, torch.ones(3))
    assert found.frame == FRAME


def test_masks_and_categories_are_averaged():
    first = query(masks(LEFT, strength=1), categories(0))
    wider = (2, 1, 12, 13)
    second = query(masks(wider, strength=3), categories(0, strength=1))
    found = average_queries([first, second], [PLAIN, PLAIN])
    assert torch.equal(found.mask_logits[0] > 0, masks(wider)[0] > 0)  # the surer one decides
    mean = (categories(0).softmax(-1) + categories(0, strength=1).softmax(-1)) / 2
    torch.testing.assert_close(found.class_logits.softmax(-1), mean)


@pytest.mark.parametrize("other_category", [1, 2])
def test_another_category_is_disagreement(other_category: int):
    found = average_queries(
        [
            query(masks(LEFT, RIGHT), categories(0, 1)),
            query(masks(RIGHT, LEFT), categories(1, other_category, strength=2)),
        ],
        [PLAIN, PLAIN],
    )
    assert found.agreement is not None
    torch.testing.assert_close(found.agreement, torch.tensor([0.5, 1.0]))
    assert found.class_logits.argmax(-1).tolist() == [0, 1]


def test_a_view_without_partner_disagrees_and_takes_no_part():
    first = query(masks(LEFT, RIGHT), categories(0, 1))
    second = query(masks(LOW, RIGHT), categories(0, 1))
    found = average_queries([first, second], [PLAIN, PLAIN])
    assert found.agreement is not None
    torch.testing.assert_close(found.agreement, torch.tensor([0.5, 1.0]))
    torch.testing.assert_close(found.mask_logits, first.mask_logits)
    torch.testing.assert_close(found.class_logits.softmax(-1), first.class_logits.softmax(-1))


def test_of_two_that_fit_each_finds_its_own():
    """The best pair first would leave the other without partner."""
    inner, outer = (2, 1, 12, 11), (2, 1, 12, 13)
    first = query(masks(inner, outer), categories(0, 0))
    second = query(masks(outer, inner), categories(0, 0))
    found = average_queries([first, second], [PLAIN, PLAIN])
    torch.testing.assert_close(found.mask_logits, first.mask_logits)


def test_partial_overlap_lowers_agreement_by_as_much():
    first, second = masks((0, 0, 10, 10), strength=9), masks((0, 0, 10, 8), strength=30)
    found = average_queries(
        [query(first, categories(0)), query(second, categories(0))], [PLAIN] * 2
    )
    assert found.agreement is not None  # the merged mask is the second one
    assert found.agreement[0] == pytest.approx((0.8 + 1) / 2, abs=0.01)


def test_extreme_values_stay_finite():
    sure = query(masks(LEFT, strength=1e4), categories(0, strength=1e4))
    found = average_queries([sure, sure], [PLAIN, PLAIN])
    assert found.class_logits.isfinite().all()
    assert found.class_logits.softmax(-1)[0, 0] == 1
    empty = query(masks((0, 0, 0, 0), strength=1e4), categories(3))
    found = average_queries([empty, empty], [PLAIN, PLAIN])
    assert found.agreement is not None
    assert found.agreement.isfinite().all()
