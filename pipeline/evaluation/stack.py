"""Segments of many images side by side, as runs of pixels.

The images lie end to end on one line of pixels, each read column by column, so that one call of
numpy works on the segments of all of them.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
import pyarrow as pa

from pipeline import rle
from pipeline.rle_batch import read_runs

from .segments import Flags, Floats, Ints, Segments


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


def stack(images: Sequence[Segments], names: Sequence[str]) -> Stack:
    """Lays images end to end.

    Args:
        images: k images' segments.
        names: Of the images, for messages.

    Raises:
        ValueError: A mask's string is malformed or belongs to another picture size.
    """
    pixels = np.array([item.height * item.width for item in images], np.int64)
    offset = np.concatenate(([0], np.cumsum(pixels)))
    image = np.repeat(np.arange(len(images)), [len(item) for item in images])
    counts = tuple(text for item in images for text in item.counts)
    runs = read_runs(pa.array(counts, pa.binary()).view(pa.string()), pixels[image])
    if not runs.wellformed.all():
        wrong = int(np.argmin(runs.wellformed))
        try:
            rle.expand(counts[wrong], int(pixels[image[wrong]]))
        except ValueError as error:
            nth = wrong - int(np.searchsorted(image, image[wrong])) + 1
            raise ValueError(f"{names[image[wrong]]}: segment {nth}: {error}") from None
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
