"""The shapes of COCO's JSON files, as pycocotools and panopticapi read them.

Specification: `dataset/format-data.htm` and `format-results.htm` of cocodataset.github.io.
Boxes are [x, y, width, height] in pixels, 0-indexed from the top left.
"""

from __future__ import annotations

from typing import Any, NotRequired, TypedDict


class CocoRle(TypedDict):
    """A mask: `size` is [height, width], `counts` the compressed column-major run lengths."""

    size: list[int]
    counts: str


class CocoCategory(TypedDict):
    """One category; `isthing` and `color` are what panoptic readers ask for."""

    id: int
    name: str
    supercategory: str
    isthing: int
    color: list[int]


class CocoImage(TypedDict):
    """One image, with or without annotations. `file_name` keeps the path below the input root."""

    id: int
    width: int
    height: int
    file_name: str
    split: NotRequired[str]
    parent_image_id: NotRequired[int]
    exif_orientation: NotRequired[int]
    source_uri: NotRequired[str]
    source_file_name: NotRequired[str]


class CocoAnnotation(TypedDict):
    """One object. `area` counts the mask's pixels, not the box's; `iscrowd` is 0 for a model."""

    id: int
    image_id: int
    category_id: int
    segmentation: CocoRle
    area: int
    bbox: list[int]
    iscrowd: int
    score: NotRequired[float]


class CocoInstances(TypedDict):
    """An instances file."""

    info: dict[str, Any]
    licenses: list[dict[str, Any]]
    categories: list[CocoCategory]
    images: list[CocoImage]
    annotations: list[CocoAnnotation]


class CocoResult(TypedDict):
    """One detection of a results file, which is a bare list of them.

    There is no `bbox`: `COCO.loadRes` would take the area from it instead of from the mask.
    """

    image_id: int
    category_id: int
    segmentation: CocoRle
    score: float


class PanopticSegment(TypedDict):
    """One segment of a panoptic annotation; `id` is its colour, R + 256·G + 256²·B, in the PNG."""

    id: int
    category_id: int
    area: int
    bbox: list[int]
    iscrowd: int
    score: NotRequired[float]


class PanopticAnnotation(TypedDict):
    """All segments of one image; `file_name` is the PNG inside the folder beside the JSON."""

    image_id: int
    file_name: str
    segments_info: list[PanopticSegment]


class CocoPanoptic(TypedDict):
    """A panoptic file."""

    info: dict[str, Any]
    licenses: list[dict[str, Any]]
    categories: list[CocoCategory]
    images: list[CocoImage]
    annotations: list[PanopticAnnotation]
