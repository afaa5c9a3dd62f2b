"""The published Arrow schemas, through a file and against the schema version."""

from __future__ import annotations

import io

import duckdb
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from schemas.manifest import SCHEMA_VERSION
from schemas.records import MAX_IMAGE_ID, SEGMENT_BITS, annotation_id
from schemas.tables import ANNOTATIONS, IMAGES, schema_of

IMAGE = {
    "image_id": MAX_IMAGE_ID,
    "file_name": 'ünï/"a"\n.jpg',
    "width": 5,
    "height": 4,
    "status": "ok",
    "num_segments": 1,
    "image_format": "JPEG",
    "exif_orientation": 6,
    "size_bytes": 2**40,
    "sha256": "00",
    "fingerprint": "ab",
}
ANNOTATION = {
    "annotation_id": annotation_id(MAX_IMAGE_ID, (1 << SEGMENT_BITS) - 1),
    "image_id": MAX_IMAGE_ID,
    "segment_id": (1 << SEGMENT_BITS) - 1,
    "category_id": 2**31 - 1,
    "category": "cell",
    "isthing": True,
    "iscrowd": 0,
    "area": 2**40,
    "bbox_xywh": [0, 1, 2, 3],
    "rle": {"size": [4, 5], "counts": "05"},
    "score": 0.5,
    "task": "instance",
    "model": "m",
    "model_revision": "1",
    "run": "r",
}


@pytest.mark.parametrize(("schema", "row"), [(IMAGES, IMAGE), (ANNOTATIONS, ANNOTATION)])
def test_largest_values_and_the_schema_survive_a_file(schema: pa.Schema, row: dict) -> None:
    buffer = io.BytesIO()
    pq.write_table(pa.Table.from_pylist([row], schema=schema), buffer)
    table = pq.ParquetFile(buffer).read()
    assert table.schema.equals(schema, check_metadata=True)
    (back,) = table.to_pylist()
    assert {key: value for key, value in back.items() if value is not None} == row
    missing = [key for key, value in back.items() if value is None]
    assert all(schema.field(key).nullable for key in missing)
    assert set(back) == set(schema.names)


@pytest.mark.parametrize("schema", [IMAGES, ANNOTATIONS])
def test_schema_version_is_in_every_file(schema: pa.Schema) -> None:
    assert schema.metadata == {b"maskmill_schema_version": str(SCHEMA_VERSION).encode()}


@pytest.mark.parametrize(("schema", "row"), [(IMAGES, IMAGE), (ANNOTATIONS, ANNOTATION)])
def test_keys_are_never_null(schema: pa.Schema, row: dict) -> None:
    # pyarrow's writer checks leaf columns only.
    required = [f.name for f in schema if not f.nullable and not pa.types.is_nested(f.type)]
    assert "image_id" in required
    for key in required:
        table = pa.Table.from_pylist([{**row, key: None}], schema=schema)
        with pytest.raises(pa.ArrowInvalid, match="non-nullable"):
            pq.write_table(table, io.BytesIO())


def test_older_datasets_have_the_columns_of_their_time() -> None:
    latest = {"prompts", "parent_file_name", "plane_axis", "plane_index"}
    latest |= {"locked", "locked_by", "locked_at", "locked_from"}
    assert set(IMAGES.names) - set(schema_of("images", 3).names) == latest
    new = {"split", "parent_image_id", "augmentation"}
    assert set(schema_of("images", 3).names) - set(schema_of("images", 2).names) == new
    assert schema_of("images", 1).names == schema_of("images", 2).names
    third, second, first = (set(schema_of("annotations", version).names) for version in (3, 2, 1))
    assert set(ANNOTATIONS.names) - third >= {"locked", "source_key"}
    assert third - second == {"visible_fraction"}
    assert "tta_agreement" in second - first
    assert schema_of("images", SCHEMA_VERSION) is IMAGES


def test_plain_sql_reaches_every_nested_value() -> None:
    rows = pa.Table.from_pylist([ANNOTATION], schema=ANNOTATIONS)  # noqa: F841 - duckdb sees it
    query = "SELECT bbox_xywh[3], rle.size[1], rle.counts, iscrowd FROM rows"
    assert duckdb.sql(query).fetchall() == [(2, 4, "05", 0)]
