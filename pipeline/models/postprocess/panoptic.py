"""Panoptic: queries compete for pixels; things stay apart, stuff of one category is one segment."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import torch
from torch import Tensor

from pipeline.models.grids.maps import Floats, Found, Ints, LabelMap, Rules, Winners
from pipeline.models.grids.outputs import QueryOutput

from .backend import Path, path_for
from .winners import plain_winners


def merge_panoptic(
    outputs: Sequence[QueryOutput],
    *,
    isthing: Sequence[bool],
    threshold: float,
    mask_threshold: float,
    overlap_threshold: float,
    path: Path | None = None,
) -> list[LabelMap]:
    """Decides as MaskFormer does (Cheng et al., NeurIPS 2021, "panoptic inference").

    Each query has its best category, and that one's probability as score. Those whose best is
    "nothing", or that score at most `threshold`, leave. Every pixel goes to the query with the
    largest score × mask probability, the first of equals. A query stays if it won pixels, if it
    owns some (score × mask probability of at least `mask_threshold`), and if it won more than
    `overlap_threshold` times as many as it owns. Pixels of those that do not stay are nobody's.

    All stuff of one category is one segment with the highest score of its queries, and the mean
    of their agreements, weighted by the pixels they won. Segments come in the order of their
    (first) queries.

    On equal logits the map is that of transformers' `compute_segments` with all stuff in
    `label_ids_to_fuse`, except that numbers never repeat after a fused segment, which there makes
    one segment of several (huggingface/transformers#23461), and that nothing found is 0, not −1.

    Args:
        outputs: One a picture, all of one model.
        isthing: Of each of the model's categories.
        threshold: Score that a query must exceed.
        mask_threshold: Least score × mask probability of a query's own pixel.
        overlap_threshold: Share of its own pixels that a query must exceed in visible ones.
        path: How pixels are found; None = the fastest on the device. All give the same.

    Returns:
        One map a picture.
    """
    if not outputs:
        return []
    if path_for(outputs[0].mask_logits.device, path) == "kernels":
        from pipeline.models.kernels.dense_launch import query_winners, renumber

        contests = [Contest(*each) for each in query_winners(outputs, threshold, mask_threshold)]
    else:
        renumber = _renumber
        contests = [_contest(output, threshold, mask_threshold, path) for output in outputs]
    decided = [
        _decided(contest, output.agreement, isthing, overlap_threshold)
        for contest, output in zip(contests, outputs, strict=True)
    ]
    labels = [contest.winners.labels for contest in contests]
    renumber(labels, [table for table, _ in decided])
    return [LabelMap(each.T, found) for each, (_, found) in zip(labels, decided, strict=True)]


@dataclass(frozen=True, slots=True)
class Contest:
    """How the n queries that found something fared.

    Attributes:
        queries: n, their numbers, ascending.
        labels: n, category of each.
        scores: n.
        winners: Labels 1…n are the queries in their order.
    """

    queries: Ints
    labels: Ints
    scores: Floats
    winners: Winners


def _contest(
    output: QueryOutput, threshold: float, mask_threshold: float, path: Path | None
) -> Contest:
    scores, labels = output.class_logits.float().softmax(-1).max(-1)
    nothing = output.class_logits.shape[-1] - 1
    queries = ((labels != nothing) & (scores > threshold)).nonzero()[:, 0]
    scores, labels = scores[queries], labels[queries]
    device = scores.device
    if not len(queries):
        height, width = output.frame.picture_hw
        none = np.zeros(0, np.int64)
        blank = torch.zeros((width, height), dtype=torch.uint8, device=device)
        return Contest(none, none, none.astype(np.float64), Winners(blank, none, none))
    maps, rules = output.mask_logits[queries].float(), Rules(scores, mask_threshold)
    if path_for(device, path) == "cells":
        from .cells import cell_winners

        winners = cell_winners(maps, output.frame, rules)
    else:
        winners = plain_winners(maps, output.frame, rules)
    return Contest(
        queries.cpu().numpy(),
        labels.cpu().numpy(),
        scores.double().cpu().numpy(),
        winners,
    )


def _decided(
    contest: Contest,
    agreement: Tensor | None,
    isthing: Sequence[bool],
    overlap_threshold: float,
) -> tuple[Ints, Found]:
    """What each label becomes (n + 1 entries), and the segments."""
    visible, own = contest.winners.visible, contest.winners.own
    # In float32, as transformers divides: 4 of 5 pixels are a little more than 0.8 there.
    ratio = visible.astype(np.float32) / np.maximum(own, 1).astype(np.float32)
    stays = (visible > 0) & (own > 0) & (ratio.astype(np.float64) > overlap_threshold)
    index = np.flatnonzero(stays)
    labels = contest.labels[index]
    things = np.asarray(isthing, np.bool_)[labels]
    # Stuff of one category shares a key, and each thing has its own; numbers follow the first.
    keys = np.where(things, len(isthing) + index, labels)
    _, first, group = np.unique(keys, return_index=True, return_inverse=True)
    order = np.argsort(first)
    number = np.argsort(order)[group]
    scores = np.zeros(len(first))
    np.maximum.at(scores, number, contest.scores[index])
    means = None
    if agreement is not None:
        each = agreement.double().cpu().numpy()[contest.queries[index]]
        total = np.bincount(number, weights=each * visible[index], minlength=len(first))
        means = total / np.bincount(number, weights=visible[index], minlength=len(first))
    table = np.zeros(len(stays) + 1, np.int64)
    table[index + 1] = number + 1
    return table, Found(labels[first[order]], scores, means)


def _renumber(labels: Sequence[Tensor], tables: Sequence[Ints]) -> None:
    """Replaces the labels of each picture by their entries of its table, in place."""
    for each, table in zip(labels, tables, strict=True):
        if np.array_equal(table, np.arange(len(table))):
            continue
        if each.device.type == "cpu" and each.dtype == torch.uint8:
            cv2.LUT(each.numpy(), np.resize(table, 256).astype(np.uint8), each.numpy())
            continue
        entries = torch.from_numpy(table).to(each.device, each.dtype)
        for some in each.split(max(1, (1 << 24) // each.shape[1])):
            some.copy_(entries[some.long()])
