"""Arrow schemas of the two published tables. docs/data-format.md explains every column."""

from __future__ import annotations

import pyarrow as pa

from .manifest import SCHEMA_VERSION

# "element" is the name that Parquet gives list items: schemas stay equal through a file.
_ELEMENT = pa.field("element", pa.int32())
_REAL = pa.field("element", pa.float32())

RLE_TYPE = pa.struct([("size", pa.list_(_ELEMENT, 2)), ("counts", pa.string())])
"""pycocotools' own shape: {"size": [height, width], "counts": "…"}."""

PROMPTS_TYPE = pa.list_(
    pa.field(
        "element",
        pa.struct(
            [
                ("source_id", pa.string()),
                ("category_id", pa.int32()),
                ("bbox_xywh", pa.list_(_REAL, 4)),
                ("outcome", pa.string()),
                ("segment_id", pa.int32()),
            ]
        ),
    )
)
"""What came of each prompt of a file of prompts, in the file's order."""

_VERSION_KEY = "maskmill_schema_version"
_METADATA = {_VERSION_KEY: str(SCHEMA_VERSION)}

IMAGES = pa.schema(
    [
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("file_name", pa.string(), nullable=False),
        pa.field("width", pa.int32()),
        pa.field("height", pa.int32()),
        pa.field("status", pa.string(), nullable=False),
        pa.field("error_code", pa.string()),
        pa.field("error_message", pa.string()),
        pa.field("num_segments", pa.int32(), nullable=False),
        pa.field("image_format", pa.string()),
        pa.field("exif_orientation", pa.int8()),
        pa.field("note", pa.string()),
        pa.field("size_bytes", pa.int64()),
        pa.field("sha256", pa.string()),
        pa.field("fingerprint", pa.string(), nullable=False),
        pa.field("split", pa.string()),
        pa.field("parent_image_id", pa.int64()),
        pa.field("augmentation", pa.string()),
        pa.field("prompts", PROMPTS_TYPE),
        pa.field("parent_file_name", pa.string()),
        pa.field("plane_axis", pa.string()),
        pa.field("plane_index", pa.int32()),
        pa.field("locked", pa.bool_()),
        pa.field("locked_by", pa.string()),
        pa.field("locked_at", pa.string()),
        pa.field("locked_from", pa.string()),
    ],
    metadata=_METADATA,
)
"""One row an input image, then its copies. width and height are after EXIF rotation."""

ANNOTATIONS = pa.schema(
    [
        pa.field("annotation_id", pa.int64(), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
        pa.field("segment_id", pa.int32(), nullable=False),
        pa.field("category_id", pa.int32(), nullable=False),
        pa.field("category", pa.string(), nullable=False),
        pa.field("isthing", pa.bool_(), nullable=False),
        pa.field("iscrowd", pa.int8(), nullable=False),
        pa.field("area", pa.int64(), nullable=False),
        pa.field("bbox_xywh", pa.list_(_ELEMENT, 4), nullable=False),
        pa.field("rle", RLE_TYPE, nullable=False),
        pa.field("score", pa.float32()),
        pa.field("tta_agreement", pa.float32()),
        pa.field("task", pa.string(), nullable=False),
        pa.field("prompt", pa.string()),
        pa.field("predicted_iou", pa.float32()),
        pa.field("stability_score", pa.float32()),
        pa.field("point_xy", pa.list_(_REAL, 2)),
        pa.field("crop_xywh", pa.list_(_ELEMENT, 4)),
        pa.field("prompt_bbox_xywh", pa.list_(_REAL, 4)),
        pa.field("source_id", pa.int64()),
        pa.field("source_key", pa.string()),
        pa.field("visible_fraction", pa.float32()),
        pa.field("locked", pa.bool_()),
        pa.field("model", pa.string(), nullable=False),
        pa.field("model_revision", pa.string(), nullable=False),
        pa.field("run", pa.string(), nullable=False),
    ],
    metadata=_METADATA,
)
"""One row a segment, sorted by image then segment_id. `run` = manifest's config_fingerprint."""

CONTAINERS = pa.schema(
    [
        pa.field("uri", pa.string(), nullable=False),
        pa.field("status", pa.string(), nullable=False),
        pa.field("reason", pa.string(), nullable=False),
        pa.field("images", pa.int64(), nullable=False),
    ],
    metadata=_METADATA,
)
"""One row a tar, table, list or closed folder of the input, in the order of the listing."""

REMOVED = pa.schema(
    [
        pa.field("part", pa.string(), nullable=False),
        pa.field("image_id", pa.int64(), nullable=False),
    ],
    metadata=_METADATA,
)
"""One row an image that lies in a part and is not of the version, in the order of the parts."""

LOCKS = pa.schema(
    [
        pa.field("sha256", pa.string(), nullable=False),
        pa.field("view", pa.string(), nullable=False),
        pa.field("file_names", pa.list_(pa.field("element", pa.string())), nullable=False),
        pa.field("task", pa.string(), nullable=False),
        pa.field("width", pa.int32(), nullable=False),
        pa.field("height", pa.int32(), nullable=False),
        pa.field("size_bytes", pa.int64()),
        pa.field("image_format", pa.string()),
        pa.field("exif_orientation", pa.int8()),
        pa.field("note", pa.string()),
        pa.field("locked_by", pa.string(), nullable=False),
        pa.field("locked_at", pa.string(), nullable=False),
        pa.field("locked_from", pa.string(), nullable=False),
        pa.field("digest", pa.string(), nullable=False),
        pa.field(
            "segments",
            pa.list_(
                pa.field(
                    "element",
                    pa.struct(
                        [
                            pa.field("category", pa.string()),
                            pa.field("iscrowd", pa.int8()),
                            pa.field("area", pa.int64()),
                            pa.field("bbox_xywh", pa.list_(_ELEMENT, 4)),
                            pa.field("counts", pa.string()),
                        ]
                    ),
                )
            ),
            nullable=False,
        ),
    ],
    metadata=_METADATA,
)
"""One row a picture that a person corrected: what `locks/` holds, sorted by sha256."""

_SINCE: dict[str, int] = {
    **dict.fromkeys(
        (
            "tta_agreement",
            "predicted_iou",
            "stability_score",
            "point_xy",
            "crop_xywh",
            "prompt_bbox_xywh",
            "source_id",
        ),
        2,
    ),
    **dict.fromkeys(("split", "parent_image_id", "augmentation", "visible_fraction"), 3),
    **dict.fromkeys(("source_key", "prompts"), 4),
    **dict.fromkeys(("parent_file_name", "plane_axis", "plane_index"), 4),
    **dict.fromkeys(("locked", "locked_by", "locked_at", "locked_from"), 4),
}
"""Column → the schema version that brought it, where it was not there from the beginning."""


def schema_of(table: str, version: int) -> pa.Schema:
    """The schema of "images" or "annotations" in a dataset of this or an earlier schema version."""
    schema = {"images": IMAGES, "annotations": ANNOTATIONS}[table]
    if version == SCHEMA_VERSION:
        return schema
    old = [item for item in schema if _SINCE.get(item.name, 1) <= version]
    return pa.schema(old, metadata={_VERSION_KEY: str(version)})
