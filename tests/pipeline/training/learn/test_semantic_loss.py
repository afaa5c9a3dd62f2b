"""The loss equals its definition, and nothing is learned where nothing is known."""

from __future__ import annotations

import pytest
import torch
from torch.nn import functional

from pipeline.training.learn.semantic import IGNORE, semantic_loss


def case(seed: int = 0) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    logits = torch.randn(2, 3, 5, 6, generator=generator, requires_grad=True)
    labels = torch.randint(-1, 3, (2, 5, 6), generator=generator)
    return logits, labels.to(torch.int16)


@pytest.mark.parametrize("weights", [None, torch.tensor([0.5, 2.0, 4.0])])
def test_cross_entropy_is_torchs_own(weights: torch.Tensor | None):
    logits, labels = case()
    expected = functional.cross_entropy(logits, labels.long(), weight=weights, ignore_index=IGNORE)
    found = semantic_loss(logits, labels, weights=weights)
    torch.testing.assert_close(found, expected)
    ours = torch.autograd.grad(found, logits, retain_graph=True)[0]
    torch.testing.assert_close(ours, torch.autograd.grad(expected, logits)[0])


def test_dice_by_hand():
    logits, labels = case(1)
    labels[labels == 2] = 0
    chance = logits.softmax(1)
    parts = []
    for index in (0, 1):
        seen = labels != IGNORE
        truth = (labels == index)[seen].float()
        found = chance[:, index][seen]
        parts.append(2 * (truth * found).sum() / (truth.sum() + found.sum()))
    expected = semantic_loss(logits, labels) + 1 - sum(parts) / 2
    torch.testing.assert_close(semantic_loss(logits, labels, dice=True), expected)


def test_a_perfect_answer_costs_nothing():
    _, labels = case(2)
    logits = 50.0 * functional.one_hot(labels.long().clamp_min(0), 3).permute(0, 3, 1, 2)
    assert semantic_loss(logits, labels, dice=True).item() == pytest.approx(0, abs=1e-5)


def test_ignored_pixels_have_no_gradient():
    logits, labels = case(3)
    semantic_loss(logits, labels, dice=True).backward()
    assert logits.grad is not None
    assert (logits.grad.abs().sum(1)[labels == IGNORE] == 0).all()
    assert (logits.grad.abs().sum(1)[labels != IGNORE] > 0).all()
    nothing = torch.full_like(labels, IGNORE)
    assert semantic_loss(logits, nothing, dice=True).isfinite()
