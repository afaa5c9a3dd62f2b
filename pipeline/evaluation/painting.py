"""Objects painted over one another, and what they leave over."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from .segments import Floats, Ints
from .stack import Stack


def cuts_of(*stacks: Stack) -> Ints:
    """All positions where a run begins or ends, ascending."""
    cuts = np.sort(np.concatenate([ends for side in stacks for ends in (side.starts, side.ends)]))
    return (
        cuts[np.append(True, cuts[1:] != cuts[:-1])] if len(cuts) else cuts
    )  # not np.unique, which hashes


def cells_of(stack: Stack, cuts: Ints) -> tuple[Ints, Ints]:
    """Every cell that each run consists of, and the segment that the run belongs to.

    Args:
        stack: Whose runs.
        cuts: Ascending positions, all ends of runs among them; cell i lies between cuts i and
            i + 1.
    """
    first = np.searchsorted(cuts, stack.starts)
    number = np.searchsorted(cuts, stack.ends) - first
    before = np.cumsum(number) - number
    cells = np.arange(number.sum()) + np.repeat(first - before, number)
    return cells, np.repeat(stack.owner, number)


def parted(stack: Stack, priority: Floats | Ints) -> Stack:
    """Gives every pixel to one segment; those that are wholly covered are left out.

    Args:
        stack: Segments that may overlap.
        priority: n numbers: the higher lies on top; of equals the later one.
    """
    cuts = cuts_of(stack)
    cells, owner = cells_of(stack, cuts)
    rank = np.empty(len(stack), np.int64)
    rank[np.argsort(priority, kind="stable")] = np.arange(len(stack))
    order = np.argsort(rank[owner], kind="stable")
    top = np.full(max(len(cuts) - 1, 0), -1)
    top[cells[order]] = owner[order]  # of equal places the last is kept
    seen = np.flatnonzero(top >= 0)
    shown = replace(
        stack,
        owner=top[seen],
        starts=cuts[seen],
        ends=cuts[seen + 1] if len(seen) else seen,
        counts=(),
    )
    return shown.take(shown.areas() > 0)


def with_rest(stack: Stack, category_id: int) -> Stack:
    """Adds, for every image that was looked at, one segment of the pixels that none covers."""
    starts = np.concatenate((stack.starts, stack.offset))  # images' ends as runs without pixels
    ends = np.concatenate((stack.ends, stack.offset))
    order = np.argsort(starts, kind="stable")
    reach = np.maximum.accumulate(ends[order])
    gap = np.flatnonzero(starts[order][1:] > reach[:-1])
    starts, ends = reach[gap], starts[order][gap + 1]
    image = np.searchsorted(stack.offset, starts, side="right") - 1
    wanted = stack.answered[image]
    images, place = np.unique(image[wanted], return_inverse=True)
    n = len(images)
    return replace(
        stack,
        image=np.append(stack.image, images),
        category_ids=np.append(stack.category_ids, np.full(n, category_id)),
        iscrowd=np.append(stack.iscrowd, np.zeros(n, np.bool_)),
        scores=np.append(stack.scores, np.full(n, np.nan)),
        coco_areas=np.append(stack.coco_areas, np.full(n, np.nan)),
        owner=np.append(stack.owner, len(stack) + place),
        starts=np.append(stack.starts, starts[wanted]),
        ends=np.append(stack.ends, ends[wanted]),
        counts=(),
    )
