"""One shard as two files: rows, names, idempotent writes, damage."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.ledger import parts
from pipeline.ledger.parts import (
    TooManySegmentsError,
    annotation_rows,
    image_row,
    part_name,
    part_uri,
    read_part,
    rows_by_image,
    write_part,
)
from pipeline.masks.codec import encode
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.categories import Categories, Category
from schemas.manifest import Part
from schemas.records import ErrorCode, Failure, ImageRecord, Segment, Segmentation
from schemas.rows import AnnotationRow, LabelledRows, Origin
from schemas.tables import ANNOTATIONS, IMAGES

CATEGORIES = Categories(
    (
        Category(1, "cell", True, "#ff0000"),
        Category(2, "sky", False, "#0000ff"),
        Category(3, "ground", False, "#000000", is_background=True),
    )
)
GROUND = frozenset({3})
ORIGIN: Origin = {"model": "m", "model_revision": "1", "run": "r"}


def found(*categories: int, score: float | None = 0.25) -> Segmentation:
    mask = np.zeros((3, 4), np.uint8)
    mask[1, 1:3] = 1
    counts = encode(mask)
    segments = [Segment(c, counts, 2, (1, 1, 2, 1), score, prompt="p") for c in categories]
    return Segmentation(3, 4, tuple(segments))


def record(image_id: int = 1) -> ImageRecord:
    return ImageRecord(f"{image_id}.png", "/x", image_id=image_id)


def rows(image_id: int, *categories: int, score: float | None = 0.25) -> list[AnnotationRow]:
    return annotation_rows(
        image_id,
        found(*categories, score=score),
        categories=CATEGORIES.by_id(),
        origin=ORIGIN,
        tasks=("panoptic",),
    )


def write(folder: Path, *pairs: LabelledRows) -> Part:
    return write_part(
        Storage(),
        str(folder),
        shard="00000001",
        run="r",
        images=[image for image, _ in pairs],
        annotations=[row for _, own in pairs for row in own],
        background=GROUND,
    )


@pytest.mark.parametrize(
    ("categories", "status"),
    [((), "empty"), ((3,), "empty"), ((1,), "ok"), ((3, 2), "ok"), ((3, 3), "empty")],
)
def test_status_follows_from_what_was_found(categories: tuple[int, ...], status: str) -> None:
    row = image_row(record(), segments=rows(1, *categories), background=GROUND)
    assert (row["status"], row["num_segments"]) == (status, len(categories))
    assert row["error_code"] is None


def test_a_failure_wins_over_everything() -> None:
    failure = Failure(ErrorCode.TRUNCATED, "ends early")
    row = image_row(record(), failure=failure, original_hw=(3, 4))
    assert (row["status"], row["error_code"], row["error_message"]) == (
        *("failed", "truncated", "ends early"),
    )
    assert (row["width"], row["height"]) == (4, 3)


def test_what_is_not_known_is_null() -> None:
    row = image_row(record())
    unknown = {"width", "height", "image_format", "note", "size_bytes", "sha256"}
    assert {key for key in unknown if row[key] is None} == unknown
    assert set(row) == set(IMAGES.names)


def test_annotation_rows_fill_every_column() -> None:
    one, two = rows(5, 1, 3)
    assert set(one) == set(ANNOTATIONS.names)
    assert (one["segment_id"], two["segment_id"]) == (1, 2)
    assert two["annotation_id"] == one["annotation_id"] + 1
    assert (one["category"], one["isthing"], two["category"], two["isthing"]) == (
        *("cell", True, "ground", False),
    )
    assert one["rle"]["size"] == [3, 4]
    assert (one["iscrowd"], one["prompt"]) == (0, "p")


def test_limits_of_an_image(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(parts, "SEGMENT_BITS", 2)
    assert len(rows(1, 1, 1, 1)) == 3
    with pytest.raises(TooManySegmentsError, match="4 segments, at most 3"):
        rows(1, 1, 1, 1, 1)


@given(st.lists(st.tuples(st.integers(1, 5), st.integers(1, 3)), max_size=20))
def test_rows_are_grouped_by_image_in_their_order(pairs: list[tuple[int, int]]) -> None:
    made = [row for image, category in pairs for row in rows(image, category)]
    for number, row in enumerate(made, start=1):
        row["segment_id"] = number
    grouped = rows_by_image(pa.Table.from_pylist(made, schema=ANNOTATIONS))
    assert {key: [r["segment_id"] for r in own] for key, own in grouped.items()} == {
        image: [n for n, (i, _) in enumerate(pairs, start=1) if i == image] for image, _ in pairs
    }


def test_the_part_counts_what_it_holds(tmp_path: Path) -> None:
    failed = image_row(record(3), failure=Failure(ErrorCode.TOO_LARGE, "m"))
    one, two = rows(1, 1, 1, 3), rows(2, 3)
    part = write(
        tmp_path,
        (image_row(record(1), segments=one, background=GROUND), one),
        (image_row(record(2), segments=two, background=GROUND), two),
        (failed, []),
    )
    assert (part.images, part.annotations) == (3, 4)
    assert part.statuses == {"empty": 1, "failed": 1, "ok": 1}
    assert part.errors == {"too_large": 1}
    assert part.categories == {"1": 2, "3": 2}
    size = 0
    for table, digest in (
        ("images", part.images_sha256),
        ("annotations", part.annotations_sha256),
    ):
        data = Path(part_uri(str(tmp_path), table, part.name)).read_bytes()
        assert hashlib.sha256(data).hexdigest() == digest
        size += len(data)
    assert part.size == size


def test_scores_and_nulls_survive(tmp_path: Path) -> None:
    own = [*rows(1, 1), *rows(1, 2, score=None)]
    part = write(tmp_path, (image_row(record(), segments=own), own))
    table = read_part(Storage(), str(tmp_path), "annotations", part.name)
    assert table["score"].to_pylist() == [0.25, None]
    assert table.schema.equals(ANNOTATIONS, check_metadata=True)
    only = read_part(Storage(), str(tmp_path), "annotations", part.name, ["area", "image_id"])
    assert set(only.column_names) == {"area", "image_id"}


def test_an_empty_part_has_the_columns(tmp_path: Path) -> None:
    part = write(tmp_path)
    for table, schema in (("images", IMAGES), ("annotations", ANNOTATIONS)):
        found = read_part(Storage(), str(tmp_path), table, part.name)
        assert found.num_rows == 0
        assert found.schema.equals(schema, check_metadata=True)


def test_bytes_do_not_depend_on_time_or_process(tmp_path: Path) -> None:
    own = rows(1, 1, 3)
    pair = (image_row(record(), segments=own), own)
    one, two = write(tmp_path / "a", pair), write(tmp_path / "b", pair)
    assert one == two


def test_what_decides_a_name() -> None:
    plain = image_row(record(), sha256="aa")
    name = part_name("00000001", [plain], "r")
    assert part_name("00000001", [{**plain, "status": "ok", "note": "x"}], "r") == name
    assert part_name("00000001", [plain, plain], "r") != name
    assert part_name("00000001", [{**plain, "image_id": 2}], "r") != name
    # Not the same as another cut of the same text.
    one = part_name("s", [{**plain, "file_name": "a', 1, 'b"}], "r")
    two = part_name("s", [{**plain, "file_name": "a"}], "r")
    assert one != two


def test_a_writer_that_died_between_the_files_is_completed(tmp_path: Path) -> None:
    own = rows(1, 1)
    pair = (image_row(record(), segments=own, background=GROUND), own)
    part = write(tmp_path, pair)
    path = Path(part_uri(str(tmp_path), "images", part.name))
    data = path.read_bytes()
    path.unlink()
    assert write(tmp_path, pair) == part
    assert path.read_bytes() == data


def test_failed_rows_stay_failed_where_annotations_are_adopted(tmp_path: Path) -> None:
    failed = image_row(record(2), failure=Failure(ErrorCode.TRUNCATED, "m"))
    slow, fast = rows(1, 3), rows(1, 1, 1)
    image = image_row(record(1), segments=slow, background=GROUND, sha256="aa")
    first = write(tmp_path, (image, slow), (failed, []))
    Path(part_uri(str(tmp_path), "images", first.name)).unlink()
    image = image_row(record(1), segments=fast, background=GROUND, sha256="aa")
    second = write(tmp_path, (image, fast), (failed, []))
    assert second == first
    assert second.statuses == {"empty": 1, "failed": 1}
    table = read_part(Storage(), str(tmp_path), "images", second.name)
    assert table["num_segments"].to_pylist() == [1, 0]


@pytest.mark.parametrize("data", [b"", b"PAR1", b"not parquet at all", b"PAR1" * 20])
def test_what_is_no_parquet_is_named_in_one_line(tmp_path: Path, data: bytes) -> None:
    path = Path(part_uri(str(tmp_path), "images", "x"))
    path.parent.mkdir()
    path.write_bytes(data)
    with pytest.raises(ValueError, match=str(path)) as caught:
        read_part(Storage(), str(tmp_path), "images", "x")
    assert "\n" not in str(caught.value)


def test_a_page_that_does_not_decompress_is_named(tmp_path: Path) -> None:
    own = rows(1, 1)
    part = write(tmp_path, (image_row(record(), segments=own), own))
    path = Path(part_uri(str(tmp_path), "annotations", part.name))
    data = bytearray(path.read_bytes())
    start = data.index(b"\x28\xb5\x2f\xfd")  # zstd's magic number
    data[start : start + 4] = b"\0\0\0\0"
    path.write_bytes(data)
    with pytest.raises(ValueError, match=f"{path} is not a readable Parquet file"):
        read_part(Storage(), str(tmp_path), "annotations", part.name)


def test_a_missing_file_is_a_storage_error(tmp_path: Path) -> None:
    with pytest.raises(StorageError, match="no such file"):
        read_part(Storage(), str(tmp_path), "images", "never")


def test_parts_are_plain_parquet(tmp_path: Path) -> None:
    own = rows(1, 1)
    part = write(tmp_path, (image_row(record(), segments=own), own))
    meta = pq.read_metadata(part_uri(str(tmp_path), "annotations", part.name))
    assert meta.row_group(0).column(0).compression == "ZSTD"
    assert meta.num_rows == 1
