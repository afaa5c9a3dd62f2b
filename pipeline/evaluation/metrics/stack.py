"""Segments of many images side by side, as runs of pixels.

The images lie end to end on one line of pixels, each read column by column, so that one call of
numpy works on the segments of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline.evaluation.sources.source import Flags, Floats, Ints, Segments
from pipeline.masks import rle
from pipeline.masks.rle import read_runs


@dataclass(frozen=True, slots=True, eq=False)
class Stack:
    """n segments of k images, in r runs.

    Attributes:
        offset: k + 1 positions on the line: image i begins at offset[i] and ends before
            offset[i + 1].
        answered: k flags: somebody looked at this image.
        image: n indices of images.
        category_ids: n category ids.
        iscrowd: n flags.
        scores: n scores, NaN where there is none.
        coco_areas: n areas as the file states them, NaN where it does not.
        owner: r indices of segments.
        starts: r positions: first pixel of a run.
        ends: r positions: one past its last pixel. Runs of one segment do not overlap.
        counts: n compressed RLE strings; none where the masks are not those of the file.
        boxes: n×4 boxes [x, y, width, height] in pixels where boxes are compared; else None.
    """

    offset: Ints
    answered: Flags
    image: Ints
    category_ids: Ints
    iscrowd: Flags
    scores: Floats
    coco_areas: Floats
    owner: Ints
    starts: Ints
    ends: Ints
    counts: tuple[bytes, ...] = ()
    boxes: Floats | None = None

    def __len__(self) -> int:
        return len(self.image)

    def areas(self) -> Ints:
        """n mask areas, pixels."""
        # bincount adds in float64, which is exact far beyond any picture's pixels
        lengths = self.ends - self.starts
        return np.bincount(self.owner, weights=lengths, minlength=len(self)).astype(np.int64)

    def take(self, keep: Flags) -> Stack:
        """The segments of which the flag is set, in their order."""
        if keep.all():
            return self
        runs = keep[self.owner]
        return replace(
            self,
            image=self.image[keep],
            category_ids=self.category_ids[keep],
            iscrowd=self.iscrowd[keep],
            scores=self.scores[keep],
            coco_areas=self.coco_areas[keep],
            owner=(np.cumsum(keep) - 1)[self.owner[runs]],
            starts=self.starts[runs],
            ends=self.ends[runs],
            counts=tuple(c for c, kept in zip(self.counts, keep.tolist(), strict=False) if kept),
            boxes=None if self.boxes is None else self.boxes[keep],
        )

    def in_terms_of(self, ids: Mapping[int, int], *, others: int | None = None) -> Stack:
        """The same with other category ids.

        Args:
            ids: Category id here → id there.
            others: Id of all categories that are not in `ids`; None leaves their segments out.
        """
        here, inverse = np.unique(self.category_ids, return_inverse=True)
        there = [ids.get(id_, others) for id_ in here.tolist()]
        known = np.array([id_ is not None for id_ in there], np.bool_)
        new = np.array([id_ or 0 for id_ in there], np.int64)
        return replace(self, category_ids=new[inverse]).take(known[inverse])

    def overlap(self) -> bool:
        """Whether two segments share a pixel."""
        order = np.argsort(self.starts, kind="stable")
        return bool((self.starts[order][1:] < self.ends[order][:-1]).any())


def stack(images: Sequence[Segments], names: Sequence[str], *, masks: bool = True) -> Stack:
    """Lays images end to end.

    Args:
        images: k images' segments.
        names: Of the images, for messages.
        masks: Read their masks; without, there are no runs.

    Raises:
        ValueError: A mask's string is malformed or belongs to another picture size.
    """
    pixels = np.array([item.height * item.width for item in images], np.int64)
    offset = np.concatenate(([0], np.cumsum(pixels)))
    image = np.repeat(np.arange(len(images)), [len(item) for item in images])
    counts = tuple(text for item in images for text in item.counts) if masks else ()
    runs = read_runs(
        pa.array(counts, pa.binary()).view(pa.string()), pixels[image if masks else image[:0]]
    )
    if not runs.wellformed.all():
        wrong = int(np.argmin(runs.wellformed))
        try:
            rle.expand(counts[wrong], int(pixels[image[wrong]]))
        except ValueError as error:
            nth = wrong - int(np.searchsorted(image, image[wrong])) + 1
            raise ValueError(
                f"{names[image[wrong]]}: segment {nth}: {error} (--skip-invalid leaves out such "
                "entries of a file)"
            ) from None
    at = offset[image[runs.mask]]
    return Stack(
        offset=offset,
        answered=np.array([item.answered for item in images], np.bool_),
        image=image,
        category_ids=_column([item.category_ids for item in images], np.int64),
        iscrowd=_column([item.iscrowd for item in images], np.bool_),
        scores=_column([item.scores for item in images], np.float64),
        coco_areas=_column([item.coco_areas for item in images], np.float64),
        owner=runs.mask,
        starts=runs.starts + at,
        ends=runs.ends + at,
        counts=counts,
    )


def _column(parts: Sequence[np.ndarray], kind: type) -> np.ndarray:
    return np.concatenate(parts) if parts else np.zeros(0, kind)


# Objects painted over one another, and what they leave over.


def cuts_of(*stacks: Stack) -> Ints:
    """All positions where a run begins or ends, ascending."""
    cuts = np.sort(np.concatenate([ends for side in stacks for ends in (side.starts, side.ends)]))
    return (
        cuts[np.append(True, cuts[1:] != cuts[:-1])] if len(cuts) else cuts
    )  # not np.unique, which hashes


def run_cells(stack: Stack, cuts: Ints) -> tuple[Ints, Ints]:
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
    cells, owner = run_cells(stack, cuts)
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
