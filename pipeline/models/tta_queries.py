"""Several views' queries of one picture, made one view's."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from scipy.optimize import linear_sum_assignment
from torch import Tensor

from .fit import View
from .outputs import QueryOutput
from .regrid import flipped_back, regrid

MIN_OVERLAP = 0.5
"""Least overlap of two queries' masks that may be one segment; no mask overlaps two so much."""


def average_queries(outputs: Sequence[QueryOutput], views: Sequence[View]) -> QueryOutput:
    """The first view's queries, each averaged with its partner in every other view.

    Partners are found one to one, so that the sum over pairs of mask overlap × likeness of the
    categories is largest (the Hungarian method). Mask logits are averaged, and category
    probabilities. A query without partner in a view stays what it is without that view.

    Args:
        outputs: Of the same picture, one a view.
        views: How each was looked at.

    Returns:
        Queries and grid of the first output. `agreement` of a query is the mean over the views of
        the overlap of the view's mask with the merged one; 0 for a view that has no partner, or
        one of another category.
    """
    reference = outputs[0]
    hw = (reference.mask_logits.shape[-2], reference.mask_logits.shape[-1])
    logits, shares = _read(reference, reference, views[0], hw)
    count = torch.ones(len(shares), device=shares.device)
    total_logits, total_shares = logits.clone(), shares.clone()
    partners: list[tuple[Tensor, Tensor, Tensor]] = []
    for output, view in zip(outputs[1:], views[1:], strict=True):
        other_logits, other_shares = _read(output, reference, view, hw)
        mine, theirs = _pairs((logits, shares), (other_logits, other_shares))
        total_logits[mine] += other_logits[theirs]
        total_shares[mine] += other_shares[theirs]
        count[mine] += 1
        partners.append((mine, other_logits[theirs], other_shares[theirs]))
    total_logits /= count[:, None]
    total_shares /= count[:, None]
    masks = total_logits.sigmoid()
    best = _category(total_shares)
    agreement = torch.zeros_like(count)
    everyone = torch.arange(len(shares), device=shares.device)
    for mine, other_logits, other_shares in [(everyone, logits, shares), *partners]:
        like = _category(other_shares) == best[mine]
        agreement[mine] += like * _overlap(other_logits.sigmoid(), masks[mine])
    return QueryOutput(
        class_logits=total_shares.clamp(min=torch.finfo(torch.float32).tiny).log(),
        mask_logits=total_logits.view(-1, *hw),
        frame=reference.frame,
        agreement=(agreement / len(outputs)).clamp(0, 1),
    )


def _read(
    output: QueryOutput, reference: QueryOutput, view: View, hw: tuple[int, int]
) -> tuple[Tensor, Tensor]:
    """Q×(h·w) mask logits on the reference's grid, and Q×(C+1) probabilities; float32."""
    masks = regrid(flipped_back(output.mask_logits, view), output.frame, reference.frame, hw)
    return masks.float().flatten(1), output.class_logits.float().softmax(-1)


def _category(shares: Tensor) -> Tensor:
    """Q int, the best category; "nothing" is none."""
    return shares[:, :-1].argmax(1)


def _pairs(mine: tuple[Tensor, Tensor], theirs: tuple[Tensor, Tensor]) -> tuple[Tensor, Tensor]:
    """Indices of the queries here and there that are partners."""
    here, there = mine[0].sigmoid(), theirs[0].sigmoid()
    both = here @ there.T
    squares = here.square().sum(1)[:, None] + there.square().sum(1)[None]
    overlap = both / (squares - both).clamp(min=1e-12)
    likeness = mine[1].sqrt() @ theirs[1].sqrt().T  # Bhattacharyya's coefficient
    overlap, likeness = overlap.cpu(), likeness.cpu()
    rows, columns = linear_sum_assignment((overlap * likeness).numpy(), maximize=True)
    rows, columns = torch.from_numpy(rows), torch.from_numpy(columns)
    near = overlap[rows, columns] >= MIN_OVERLAP
    device = mine[0].device
    return rows[near].to(device), columns[near].to(device)


def _overlap(masks: Tensor, others: Tensor) -> Tensor:
    """Q float: IoU of soft masks, a·b / (a·a + b·b − a·b) (Tanimoto); 1 for equal ones."""
    both = (masks * others).sum(1)
    return both / (masks.square().sum(1) + others.square().sum(1) - both).clamp(min=1e-12)
