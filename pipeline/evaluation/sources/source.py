"""All segments of one image, column by column, as either side of a comparison sees them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, get_args

import numpy as np
import numpy.typing as npt

from pipeline.masks import codec
from schemas.records import Task

from .categories import Table
from .fields import LeftOut

Ints = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]
Flags = npt.NDArray[np.bool_]

IouType = Literal["segm", "bbox"]
"""What COCO's AP compares: masks or boxes."""
IOU_TYPES: tuple[IouType, ...] = get_args(IouType)


def iou_type_named(name: str) -> IouType:
    """The choice of this name.

    Raises:
        ValueError: There is no such choice.
    """
    for choice in IOU_TYPES:
        if name == choice:
            return choice
    raise ValueError(f"unknown iou_type {name!r}; known: {', '.join(IOU_TYPES)}")


@dataclass(frozen=True, slots=True, eq=False)
class Segments:
    """n segments of one image.

    Attributes:
        height: Of the image, pixels.
        width: Of the image, pixels.
        counts: n compressed RLE strings.
        category_ids: n ids.
        iscrowd: n flags; a crowd is a region of objects that nobody outlined one by one.
        scores: n confidences, NaN where there is none.
        coco_areas: n areas as the file states them, NaN where it does not. COCO's small, medium
            and large are told apart by these; nothing else uses them.
        answered: Somebody looked at the image; if not, there is no segment either.
        boxes: n×4 boxes [x, y, width, height] in pixels where boxes are compared, and `counts` is
            empty; else None.
        left_out: What was wrong with the first entries that were left out.
        left_out_count: How many were left out.
    """

    height: int
    width: int
    counts: tuple[bytes, ...]
    category_ids: Ints
    iscrowd: Flags
    scores: Floats
    coco_areas: Floats
    answered: bool = True
    boxes: Floats | None = None
    left_out: tuple[str, ...] = ()
    left_out_count: int = 0

    def __len__(self) -> int:
        return len(self.category_ids)


def make_segments(
    height: int,
    width: int,
    counts: Sequence[bytes] = (),
    category_ids: Sequence[int] = (),
    *,
    iscrowd: Sequence[bool | int] | None = None,
    scores: Sequence[float | None] | None = None,
    coco_areas: Sequence[float | None] | None = None,
    answered: bool = True,
    boxes: Sequence[Sequence[float]] | None = None,
    left_out: tuple[str, ...] = (),
    left_out_count: int = 0,
) -> Segments:
    """Segments from plain lists; what is not given is no crowd, has no score and no stated area.

    Raises:
        ValueError: The lists differ in length.
    """
    n = len(counts) if boxes is None else len(boxes)
    columns = (category_ids, iscrowd, scores, coco_areas)
    if any(column is not None and len(column) != n for column in columns):
        raise ValueError("the columns of a table of segments differ in length")
    return Segments(
        height=height,
        width=width,
        counts=tuple(counts),
        category_ids=np.array(category_ids, np.int64),
        iscrowd=np.array(iscrowd if iscrowd is not None else [False] * n, np.bool_),
        scores=np.array(scores if scores is not None else [None] * n, np.float64),
        coco_areas=np.array(coco_areas if coco_areas is not None else [None] * n, np.float64),
        answered=answered,
        boxes=None if boxes is None else np.array(boxes, np.float64).reshape(n, 4),
        left_out=left_out,
        left_out_count=left_out_count,
    )


def segments_of_map(
    label_map: npt.NDArray[np.integer],
    category_of: Mapping[int, int],
    *,
    crowds: frozenset[int] = frozenset(),
) -> Segments:
    """Segments from a label map.

    Args:
        label_map: HxW integers ≥ 0.
        category_of: Value in the map → category id; 0 and values that are missing are nothing.
        crowds: Values that are crowds.
    """
    height, width = label_map.shape
    found = [region for region in codec.regions(label_map) if region.label in category_of]
    return make_segments(
        height,
        width,
        [region.counts for region in found],
        [category_of[region.label] for region in found],
        iscrowd=[region.label in crowds for region in found],
    )


# Where segments come from: the protocol behind which every kind of ground truth stands.

KINDS = ("dataset", "coco-instances", "coco-results", "coco-panoptic", "labels", "semantic")
"""dataset: one of ours. labels: a folder of label maps, 0 = background, 1…n = objects. semantic:
a folder of pictures whose pixels are category ids."""


@dataclass(frozen=True, slots=True)
class ImageEntry:
    """An image that a source knows.

    Attributes:
        key: What `Source.read` wants; COCO's image id where there is one.
        name: Path relative to the source's root, with its extension; None where only ids are known.
        failed: The model could not do it.
    """

    key: int | str
    name: str | None
    failed: bool = False


class Source(Protocol):
    """Segments of many images, read one image at a time. Picklable."""

    left_out: LeftOut

    @property
    def kind(self) -> str:
        """One of `KINDS`."""
        ...

    @property
    def task(self) -> Task:
        """What the segments are: objects, everything, or one region a category."""
        ...

    @property
    def categories(self) -> Table | None:
        """What segments can be; None where nothing but the pixels tells."""
        ...

    def entries(self) -> Sequence[ImageEntry]:
        """All images, in the order in which reading is cheapest."""
        ...

    def block(self, key: int | str) -> int:
        """Number of the file that this image's segments are read from together with others'."""
        ...

    def read(self, key: int | str) -> Segments:
        """The segments of one image.

        Raises:
            ValueError: The file contradicts itself.
            StorageError: A file cannot be read.
        """
        ...
