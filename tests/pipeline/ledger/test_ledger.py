"""Parts, receipts, manifests: round trips, atomic publishing, idempotent writes."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest

from pipeline.ledger.ledger import open_ledger, publish, write_dataset
from pipeline.ledger.parts import annotation_rows, image_row, part_name, write_part
from pipeline.ledger.receipts import read_receipt, write_receipt
from pipeline.masks.codec import encode
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from schemas.categories import Categories, Category
from schemas.manifest import DatasetManifest, ShardReceipt
from schemas.records import ErrorCode, Failure, ImageRecord, Segment, Segmentation
from schemas.tables import ANNOTATIONS, IMAGES

CATEGORIES = Categories(
    (
        Category(1, "cell", True, "#ff0000"),
        Category(2, "ground", False, "#000000", is_background=True),
    )
)
ORIGIN = {"model": "m", "model_revision": "1", "run": "r"}
GIVEN: dict[str, Any] = {"categories": CATEGORIES.by_id(), "origin": ORIGIN, "tasks": ("panoptic",)}


def segment(category: int, at: int, score: float | None = 0.5) -> Segment:
    mask = np.zeros((8, 10), np.uint8)
    mask[2:5, at : at + 3] = 1
    return Segment(category, encode(mask), 9, (at, 2, 3, 3), score)


def found(*segments: Segment) -> Segmentation:
    return Segmentation(8, 10, segments)


IMAGES_FOUND = [
    (ImageRecord("a.png", "", image_id=1), found(segment(1, 0), segment(1, 4), segment(2, 7))),
    (ImageRecord("b.png", "", image_id=2**31 - 1), found(segment(2, 0, None))),
    (ImageRecord("c.png", "", image_id=7), Failure(ErrorCode.TRUNCATED, "ends too early")),
]


def test_rows_come_back_as_they_went_in(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), IMAGES_FOUND, categories=CATEGORIES, shard_size=2)
    ledger = open_ledger(str(tmp_path))
    rows = list(ledger.rows())
    assert [image["status"] for image, _ in rows] == ["ok", "empty", "failed"]
    assert [len(own) for _, own in rows] == [3, 1, 0]
    first = rows[0][1][0]
    assert first["annotation_id"] == (1 << 21) + 1
    assert first["rle"] == {"size": [8, 10], "counts": segment(1, 0).counts.decode()}
    assert first["category"] == "cell"
    assert rows[1][1][0]["annotation_id"] == ((2**31 - 1) << 21) + 1 < 2**53
    assert rows[2][0]["error_message"] == "ends too early"
    assert ledger.manifest.counts == {
        "images": 3,
        "annotations": 4,
        "ok": 1,
        "empty": 1,
        "failed": 1,
        "skipped": 0,
    }
    assert ledger.manifest.category_counts == {"1": 2, "2": 2}


def test_files_have_the_published_schemas(tmp_path: Path) -> None:
    write_dataset(str(tmp_path), IMAGES_FOUND, categories=CATEGORIES)
    (images,) = (tmp_path / "images").iterdir()
    (segments,) = (tmp_path / "annotations").iterdir()
    assert pq.read_schema(images).equals(IMAGES, check_metadata=True)
    assert pq.read_schema(segments).equals(ANNOTATIONS, check_metadata=True)


def test_writing_a_part_again_changes_nothing(tmp_path: Path) -> None:
    record, segmentation = IMAGES_FOUND[0]
    assert isinstance(segmentation, Segmentation)
    rows = annotation_rows(record.image_id, segmentation, **GIVEN)
    image = image_row(record, segments=rows, original_hw=(8, 10), sha256="ab")
    first = write_part(
        Storage(), str(tmp_path), shard="s", run="r", images=[image], annotations=rows
    )
    again = write_part(
        Storage(), str(tmp_path), shard="s", run="r", images=[image], annotations=rows
    )
    assert first == again
    assert len(list(tmp_path.rglob("*.parquet"))) == 2


def test_a_second_writer_with_other_arithmetic_adopts_what_stands(tmp_path: Path) -> None:
    record, _ = IMAGES_FOUND[0]

    def write(segmentation: Segmentation):  # type: ignore[no-untyped-def]
        rows = annotation_rows(record.image_id, segmentation, **GIVEN)
        image = image_row(
            record, segments=rows, original_hw=(8, 10), sha256="ab", background=frozenset({2})
        )
        return write_part(
            Storage(),
            str(tmp_path),
            shard="s",
            run="r",
            images=[image],
            annotations=rows,
            background=frozenset({2}),
        )

    slow = write(found(segment(2, 0)))
    (images,) = (tmp_path / "images").iterdir()
    images.unlink()  # the slow one died between its two files
    fast = write(found(segment(1, 0), segment(1, 4)))
    assert fast.annotations_sha256 == slow.annotations_sha256
    assert fast.annotations == 1
    (row,) = pq.read_table(images).to_pylist()
    assert (row["num_segments"], row["status"]) == (1, "empty")


def test_a_part_is_named_by_content_shard_and_config() -> None:
    row = image_row(ImageRecord("a", "", image_id=1), sha256="x")
    name = part_name("00000001", [row], "run")
    assert name.startswith("00000001-")
    assert name == part_name("00000001", [dict(row)], "run")
    others = {
        part_name("00000002", [row], "run"),
        part_name("00000001", [row], "other"),
        part_name("00000001", [{**row, "sha256": "y"}], "run"),
        part_name("00000001", [{**row, "file_name": "b"}], "run"),
        part_name("00000001", [{**row, "error_code": "crashed"}], "run"),
    }
    assert name not in others
    assert len(others) == 5


def test_publishing_is_numbered_and_keeps_the_old_version(tmp_path: Path) -> None:
    ledger = write_dataset(str(tmp_path), IMAGES_FOUND, categories=CATEGORIES)
    again = publish(Storage(), str(tmp_path), ledger.manifest)
    assert again.version == 1
    changed = replace(ledger.manifest, tasks=("instance",))
    assert publish(Storage(), str(tmp_path), changed).version == 2
    assert open_ledger(str(tmp_path)).manifest.task == "instance"
    old = DatasetManifest.from_json((tmp_path / "versions/000001.json").read_bytes())
    assert old.task == "panoptic"
    assert old.to_json() == ledger.manifest.to_json()


def test_a_version_that_was_never_current_is_replaced(tmp_path: Path) -> None:
    ledger = write_dataset(str(tmp_path), IMAGES_FOUND, categories=CATEGORIES)
    (tmp_path / "versions/000002.json").write_text("half a manifest of a killed run")
    publish(Storage(), str(tmp_path), replace(ledger.manifest, tasks=("instance",)))
    assert json.loads((tmp_path / "versions/000002.json").read_text())["tasks"] == ["instance"]


def test_receipts_round_trip_and_damaged_ones_count_as_missing(tmp_path: Path) -> None:
    ledger = write_dataset(str(tmp_path), IMAGES_FOUND, categories=CATEGORIES)
    receipt = ShardReceipt("s", "t", "r", ledger.manifest.parts[0], 3, 0, 1.5)
    write_receipt(Storage(), str(tmp_path), receipt)
    path = tmp_path / "receipts/s-t.json"
    assert read_receipt(Storage(), str(path)) == receipt
    for text in ("", "{}", "[1]", '{"shard": "s"}'):
        path.write_text(text)
        assert read_receipt(Storage(), str(path)) is None
    path.unlink()
    assert read_receipt(Storage(), str(path)) is None


def test_what_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="no dataset of ours"):
        open_ledger(str(tmp_path))
    (tmp_path / "manifest.json").write_text('{"schema_version": 99}')
    with pytest.raises(ValueError, match="schema version 99"):
        open_ledger(str(tmp_path))
    (tmp_path / "manifest.json").write_text("[]")
    with pytest.raises(ValueError, match="not a maskmill manifest"):
        open_ledger(str(tmp_path))


def test_a_missing_part_is_named(tmp_path: Path) -> None:
    ledger = write_dataset(str(tmp_path), IMAGES_FOUND, categories=CATEGORIES)
    (part,) = (tmp_path / "images").iterdir()
    part.unlink()
    with pytest.raises(StorageError, match=part.name):
        list(ledger.rows())


def test_a_segment_of_an_unknown_category_is_refused() -> None:
    with pytest.raises(ValueError, match="unknown category 9"):
        annotation_rows(1, found(segment(9, 0)), **GIVEN)


@pytest.mark.parametrize(("most", "reads"), [(1 << 20, 2), (0, 0)])
def test_files_of_a_small_dataset_on_a_store_are_fetched_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int, reads: int
) -> None:
    uri = f"memory://{tmp_path.name}-{most}"
    images = [(ImageRecord(f"{n}.png", "", image_id=n + 1), found(segment(1, n))) for n in range(4)]
    made = write_dataset(uri, images, categories=CATEGORIES, task="instance", shard_size=2)
    monkeypatch.setattr("pipeline.ledger.ledger._KEPT_BYTES", most)
    ledger = open_ledger(uri)
    asked: list[str] = []
    real = Storage.read

    def read(self: Storage, uri: str, **options: Any) -> bytes:
        asked.append(uri)
        return real(self, uri, **options)

    monkeypatch.setattr(Storage, "read", read)
    for one in (ledger, ledger.view("instance"), ledger.of_parts(ledger.manifest.parts)):
        assert sum(len(table) for table in one.images(["image_id"])) == 4
        assert sum(len(table) for table in one.annotations()) == 4
    assert len(asked) == reads * len(made.manifest.parts)
