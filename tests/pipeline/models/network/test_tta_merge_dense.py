"""Several views' maps, made one."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.network.fit import View
from pipeline.models.network.tta_merge import DenseMean

PLAIN, MIRRORED, LARGE = View(), View(flip_yx=(False, True)), View(scale=2.0)


def frame(scale: int = 1) -> Frame:
    return Frame((40, 60), (8 * scale, 12 * scale), (8 * scale, 12 * scale))


def dense(logits: torch.Tensor, scale: int = 1) -> DenseOutput:
    return DenseOutput(logits, frame(scale))


def average_dense(outputs: list[DenseOutput], views: list[View]) -> DenseOutput:
    mean = DenseMean()
    for output, view in zip(outputs, views, strict=True):
        mean.add(output, view)
    return mean.result()


def test_equal_views_give_what_each_gives():
    logits = torch.randn(3, 8, 12)
    found = average_dense([dense(logits), dense(logits.flip(-1))], [PLAIN, MIRRORED])
    assert torch.equal(found.logits, logits)
    assert found.agreement is not None
    assert torch.equal(found.agreement, torch.ones(8, 12))
    assert found.frame == frame()


def test_the_mean_of_logits_is_the_geometric_mean_of_probabilities():
    """Whatever constant a view adds to all logits of a cell."""
    one, other = torch.randn(3, 8, 12), torch.randn(3, 8, 12)
    shifted = other + torch.randn(1, 8, 12) * 9
    found = average_dense([dense(one), dense(shifted)], [PLAIN, PLAIN]).logits.softmax(0)
    product = (one.softmax(0) * other.softmax(0)).sqrt()
    torch.testing.assert_close(found, product / product.sum(0), atol=1e-5, rtol=1e-4)


def test_agreement_is_the_share_of_views_with_the_merged_category():
    first = torch.tensor([4.0, 0, 0]).view(3, 1, 1).expand(3, 8, 12)
    second = torch.tensor([0.0, 1, 0]).view(3, 1, 1).expand(3, 8, 12)
    views = [dense(first), dense(second), dense(second)]
    found = average_dense(views, [PLAIN] * 3)
    assert found.logits.argmax(0).unique().tolist() == [0]  # one view is surer than two
    assert found.agreement is not None
    torch.testing.assert_close(found.agreement, torch.full((8, 12), 1 / 3))


def test_a_larger_view_is_read_on_the_grid_of_the_first():
    logits = torch.randn(2, 8, 12)
    large = logits.repeat_interleave(2, 1).repeat_interleave(2, 2)
    found = average_dense([dense(logits), dense(large, 2)], [PLAIN, LARGE])
    torch.testing.assert_close(found.logits, logits, atol=1e-5, rtol=0)


def test_probabilities_stay_probabilities():
    shares = torch.rand(2, 3, 8, 12)
    views = [DenseOutput(each, frame(), probabilities=True) for each in shares]
    found = average_dense(views, [PLAIN, PLAIN])
    assert found.probabilities
    torch.testing.assert_close(found.logits, shares.mean(0))


def test_half_precision_is_averaged_in_full():
    logits = torch.randn(2, 8, 12)
    found = average_dense([dense(logits.bfloat16())] * 2, [PLAIN, PLAIN])
    assert found.logits.dtype == torch.float32
    assert torch.equal(found.logits, logits.bfloat16().float())


def test_without_a_view_there_is_no_mean():
    with pytest.raises(ValueError, match="no view"):
        DenseMean().result()


def test_one_view_is_itself():
    logits = torch.randn(3, 8, 12)
    before = logits.clone()
    mean = DenseMean()
    mean.add(dense(logits), PLAIN)
    mean.add(dense(torch.zeros(3, 8, 12)), PLAIN)
    assert torch.equal(logits, before)  # a network's own output is never written to
    assert torch.equal(average_dense([dense(logits)], [PLAIN]).logits, logits)
