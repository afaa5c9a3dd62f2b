"""Every rule of the validator: a sound dataset passes, a damaged one names the damage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from small_datasets import BROKEN, EMPTY, HEIGHT, WIDTH, small_dataset

from pipeline.exporters import export_all
from pipeline.ledger.ledger import Ledger, write_dataset
from pipeline.masks import codec
from pipeline.validation.findings import RULES, ValidationReport
from pipeline.validation.validate import validate
from schemas.categories import Categories, Category
from schemas.manifest import DatasetManifest
from schemas.records import ImageRecord, Segment, Segmentation
from schemas.tables import ANNOTATIONS, IMAGES

ALL = ("coco-instances", "coco-results", "coco-panoptic", "semantic-png",
       "semantic-png-stuffthing")  # fmt: skip
Rows = list[dict[str, Any]]

A, B = 7 << 21 | 1, 7 << 21 | 2
"""Two annotations of image 7: a ring, and two parts."""


@pytest.mark.parametrize("task", ["semantic", "instance", "panoptic"])
def test_a_sound_dataset_is_valid(task, tmp_path):
    ledger = small_dataset(tmp_path / "data", task)
    formats = {"panoptic": ALL, "instance": ALL[:2], "semantic": ALL[3:]}[task]
    export_all(ledger, formats=formats)
    steps: list[tuple[int, int]] = []
    report = validate(ledger.uri, progress=lambda *step: steps.append(step))
    assert report.violations == ()
    assert report.ok
    assert set(report.exports) == set(formats)
    assert (report.images, report.annotations) == (9, ledger.manifest.counts["annotations"])
    assert steps == [(1, 3), (2, 3), (3, 3)]
    assert json.loads(report.to_json())["ok"] is True


def test_without_exports_there_is_nothing_to_compare(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    assert validate(ledger.uri).exports == ()
    export_all(ledger)
    assert validate(ledger.uri, exports=False).exports == ()


def test_no_dataset_and_a_newer_one_are_value_errors(tmp_path):
    with pytest.raises(ValueError, match="holds no dataset of ours"):
        validate(str(tmp_path))
    ledger = small_dataset(tmp_path / "data")
    newer = {**json.loads(ledger.manifest.to_json()), "schema_version": 99}
    Path(ledger.uri, "manifest.json").write_text(json.dumps(newer))
    with pytest.raises(ValueError, match="schema version 99"):
        validate(ledger.uri)


def rewrite(
    ledger: Ledger,
    *,
    images: Callable[[Rows], Rows] = lambda rows: rows,
    annotations: Callable[[Rows], Rows] = lambda rows: rows,
) -> Ledger:
    """Changes rows of the first part and makes the manifest say what the files now are."""
    part = ledger.manifest.parts[0]
    changed: dict[str, Any] = {}
    size = 0
    for table, change, schema in (
        ("images", images, IMAGES),
        ("annotations", annotations, ANNOTATIONS),
    ):
        path = Path(ledger.uri, table, f"{part.name}.parquet")
        rows = change(pq.read_table(path).to_pylist())
        pq.write_table(pa.Table.from_pylist(rows, schema=schema), path)
        data = path.read_bytes()
        size += len(data)
        changed |= {table: len(rows), f"{table}_sha256": hashlib.sha256(data).hexdigest()}
        changed |= {f"{table} rows": rows}
    rows, found = changed.pop("images rows"), changed.pop("annotations rows")
    part = replace(
        part,
        **changed,
        size=size,
        statuses=tally(row["status"] for row in rows),
        errors=tally(row["error_code"] for row in rows if row["error_code"]),
        categories=tally(str(row["category_id"]) for row in found),
    )
    return publish(ledger, parts=(part, *ledger.manifest.parts[1:]))


def tally(values: Any) -> dict[str, int]:
    values = list(values)
    return {value: values.count(value) for value in values}


def publish(ledger: Ledger, **changes: Any) -> Ledger:
    """Writes the manifest with these changes, and totals that fit its parts."""
    manifest = replace(ledger.manifest, **changes)
    if "parts" in changes:
        totals: dict[str, dict[str, int]] = {}
        for key in ("statuses", "errors", "categories"):
            total = totals.setdefault(key, {})
            for part in manifest.parts:
                for name, number in getattr(part, key).items():
                    total[name] = total.get(name, 0) + number
        manifest = replace(
            manifest,
            counts={
                "images": sum(part.images for part in manifest.parts),
                "annotations": sum(part.annotations for part in manifest.parts),
                **dict.fromkeys(("ok", "empty", "failed", "skipped"), 0),
                **totals["statuses"],
            },
            error_counts=totals["errors"],
            category_counts=totals["categories"],
        )
    text = manifest.to_json()
    Path(ledger.uri, "manifest.json").write_text(text)
    Path(ledger.uri, "versions", f"{manifest.version:06d}.json").write_text(text)
    return Ledger(ledger.uri, manifest, ledger.storage)


def one(number: int, **changes: Any) -> Callable[[Rows], Rows]:
    """Changes the row with this annotation id, or else this image id."""

    def change(rows: Rows) -> Rows:
        key = "annotation_id" if "annotation_id" in rows[0] else "image_id"
        assert number in [row[key] for row in rows]
        return [{**row, **changes} if row[key] == number else row for row in rows]

    return change


def rle(mask: np.ndarray) -> dict[str, Any]:
    return {"size": list(mask.shape), "counts": codec.encode(mask).decode()}


def respell(rows: Rows) -> Rows:
    """The same runs, the first number with a digit too many."""
    row = next(row for row in rows if row["annotation_id"] == A)
    counts = row["rle"]["counts"]
    stop = next(k for k, letter in enumerate(counts) if ord(letter) - 48 < 32)
    value = ord(counts[stop]) - 48
    spare = counts[:stop] + chr(value + 32 + 48) + ("o" if value & 16 else "0") + counts[stop + 1 :]
    return one(A, rle={**row["rle"], "counts": spare})(rows)


def stack(rows: Rows) -> Rows:
    """Annotation B gets A's mask."""
    first = next(row for row in rows if row["annotation_id"] == A)
    return one(B, **{key: first[key] for key in ("rle", "area", "bbox_xywh")})(rows)


def second_sky(rows: Rows) -> Rows:
    return one(B, category_id=92, category="sky", isthing=False)(rows)


def swap(rows: Rows) -> Rows:
    return [rows[1], rows[0], *rows[2:]]


FULL = rle(np.ones((HEIGHT, WIDTH)))

IN_TABLES: dict[str, tuple[dict[str, Any], str]] = {
    "image-id": ({"images": one(7, image_id=0)}, "image 0"),
    "image-unique": ({"images": one(8, image_id=7)}, "image 7"),
    "image-name-unique": ({"images": one(8, file_name="plain.jpg")}, "image 8"),
    "image-status": ({"images": one(7, error_code="truncated")}, "image 7"),
    "image-size": ({"images": one(7, width=None)}, "image 7"),
    "image-segments": ({"images": one(7, num_segments=3)}, "image 7"),
    "image-empty": ({"images": one(7, status="empty")}, "image 7"),
    "image-split": ({"images": one(7, split="dev")}, "image 7"),
    "copy-parent": ({"images": one(7, parent_image_id=6)}, "image 7"),
    "copy-file": ({"images": one(7, parent_image_id=8, size_bytes=5)}, "image 7"),
    "copy-visible": ({"annotations": one(A, visible_fraction=0.5)}, f"annotation {A}"),
    "annotation-id": ({"annotations": one(A, annotation_id=5)}, "annotation 5"),
    "annotation-unique": ({"annotations": one(A, annotation_id=B)}, f"annotation {B}"),
    "annotation-image": ({"annotations": one(A, image_id=6)}, f"annotation {A}"),
    "annotation-order": ({"annotations": swap}, f"annotation {B}"),
    "annotation-category": ({"annotations": one(A, category="sky")}, f"annotation {A}"),
    "annotation-crowd": ({"annotations": one(A, iscrowd=1)}, f"annotation {A}"),
    "annotation-score": ({"annotations": one(A, score=1.5)}, f"annotation {A}"),
    "annotation-origin": ({"annotations": one(A, run="another")}, f"annotation {A}"),
    "lock-rows": ({"images": one(7, locked=True)}, "image 7"),
    "mask-size": (
        {"annotations": one(A, rle={**FULL, "size": [WIDTH, HEIGHT]})},
        f"annotation {A}",
    ),
    "mask-rle": ({"annotations": one(A, rle={**FULL, "counts": "0"})}, f"annotation {A}"),
    "mask-canonical": ({"annotations": respell}, f"annotation {A}"),
    "mask-area": ({"annotations": one(A, area=41)}, f"annotation {A}"),
    "mask-box": ({"annotations": one(A, bbox_xywh=[0, 0, 31, 24])}, f"annotation {A}"),
    "mask-overlap": ({"annotations": stack}, f"annotation {A}"),
    "category-once": ({"annotations": second_sky}, f"annotation {(7 << 21) + 6}"),
}


def broken(report: ValidationReport) -> dict[str, tuple[str, ...]]:
    assert not report.ok
    return {item.rule: item.examples for item in report.violations}


@pytest.mark.parametrize("rule", IN_TABLES)
def test_damaged_rows_are_named(rule, tmp_path):
    changes, example = IN_TABLES[rule]
    ledger = rewrite(small_dataset(tmp_path / "data"), **changes)
    found = broken(validate(ledger.uri))
    assert example in found[rule]


ALONE = ("image-name-unique", "image-status", "image-empty", "image-split", "copy-visible",
         "annotation-category",
         "annotation-crowd", "annotation-score", "annotation-origin", "mask-canonical",
         "mask-area", "mask-box", "mask-rle", "category-once", "mask-overlap")  # fmt: skip


@pytest.mark.parametrize("rule", ALONE)
def test_one_mistake_breaks_one_rule(rule, tmp_path):
    changes, _ = IN_TABLES[rule]
    ledger = rewrite(small_dataset(tmp_path / "data"), **changes)
    assert list(broken(validate(ledger.uri))) == [rule]


@pytest.mark.parametrize(
    ("rule", "changes", "example"),
    [
        ("image-status", {"images": one(7, status="seen")}, "image 7"),
        ("image-status", {"images": one(9, status="failed")}, "image 9"),
        ("image-size", {"images": one(7, height=0)}, "image 7"),
        ("annotation-id", {"annotations": one(A, segment_id=0)}, f"annotation {A}"),
        ("annotation-order", {"annotations": one(B, segment_id=9)}, f"annotation {B}"),
        ("annotation-category", {"annotations": one(A, category_id=44)}, f"annotation {A}"),
        ("annotation-category", {"annotations": one(A, isthing=False)}, f"annotation {A}"),
        ("annotation-score", {"annotations": one(A, score=float("nan"))}, f"annotation {A}"),
        ("annotation-origin", {"annotations": one(A, task="instance")}, f"annotation {A}"),
        ("lock-rows", {"annotations": one(A, locked=True)}, f"annotation {A}"),
        ("mask-rle", {"annotations": one(A, rle={**FULL, "counts": "~"})}, f"annotation {A}"),
        ("mask-rle", {"annotations": one(A, rle={**FULL, "counts": ""})}, f"annotation {A}"),
        ("mask-rle", {"annotations": one(A, rle=rle(np.zeros((24, 31))))}, f"annotation {A}"),
        ("mask-rle", {"annotations": one(A, rle={**FULL, "size": [-1, 31]})}, f"annotation {A}"),
        ("mask-rle", {"annotations": one(A, rle={"size": [2**31 - 1] * 2, "counts": "1"})},
         f"annotation {A}"),
    ],
)  # fmt: skip
def test_other_ways_to_break_a_rule(rule, changes, example, tmp_path):
    ledger = rewrite(small_dataset(tmp_path / "data"), **changes)
    assert example in broken(validate(ledger.uri))[rule]


def test_an_image_that_failed_may_have_no_annotations(tmp_path):
    ledger = small_dataset(tmp_path / "data", shard_size=100)

    def give(rows: Rows) -> Rows:
        return [
            {**row, "image_id": BROKEN, "annotation_id": BROKEN << 21 | row["segment_id"]}
            if row["image_id"] == 7
            else row
            for row in rows
        ]

    found = broken(validate(rewrite(ledger, annotations=give).uri))
    assert f"annotation {BROKEN << 21 | 1}" in found["annotation-image"]


def test_background_alone_is_empty(tmp_path):
    ledger = small_dataset(tmp_path / "data", shard_size=100)
    ledger = rewrite(ledger, images=one(EMPTY, status="ok"))
    assert broken(validate(ledger.uri)) == {"image-empty": (f"image {EMPTY}",)}


def test_overlap_is_no_fault_of_instances(tmp_path):
    ledger = rewrite(small_dataset(tmp_path / "data", "instance"), annotations=stack)
    assert validate(ledger.uri).ok


def test_a_semantic_image_has_one_segment_a_category(tmp_path):
    ledger = small_dataset(tmp_path / "data", "semantic")

    def second(rows: Rows) -> Rows:
        kind = {key: rows[0][key] for key in ("category_id", "category", "isthing")}
        return one(B, **kind)(rows)

    found = broken(validate(rewrite(ledger, annotations=second).uri))
    assert found == {"category-once": (f"annotation {B}",)}


def test_many_offenders_are_counted_and_the_first_twenty_named(tmp_path):
    ledger = small_dataset(tmp_path / "data", shard_size=100)

    def crowd(rows: Rows) -> Rows:
        return [{**row, "iscrowd": 1} for row in rows]

    (found,) = validate(rewrite(ledger, annotations=crowd).uri).violations
    assert (found.rule, found.meaning) == ("annotation-crowd", RULES["annotation-crowd"])
    assert found.count == ledger.manifest.counts["annotations"] == 50
    assert len(found.examples) == 20
    assert found.examples[0] == f"annotation {A}"


# Parts and manifest


def first(ledger: Ledger, table: str) -> Path:
    return Path(ledger.uri, table, f"{ledger.manifest.parts[0].name}.parquet")


def lose_part(ledger: Ledger) -> None:
    first(ledger, "annotations").unlink()


def cut_part(ledger: Ledger) -> None:
    path = first(ledger, "images")
    path.write_bytes(path.read_bytes()[:-10])


def retouch_part(ledger: Ledger) -> None:
    table = pq.read_table(first(ledger, "images"))
    pq.write_table(table, first(ledger, "images"), compression="none")


def add_column(ledger: Ledger) -> None:
    table = pq.read_table(first(ledger, "images"))
    pq.write_table(table.append_column("mine", table["image_id"]), first(ledger, "images"))


def other_version(ledger: Ledger) -> None:
    table = pq.read_table(first(ledger, "images"))
    pq.write_table(table.replace_schema_metadata({}), first(ledger, "images"))


def change_part(**changes: Any) -> Callable[[Ledger], None]:
    def change(ledger: Ledger) -> None:
        part = replace(ledger.manifest.parts[0], **changes)
        publish(ledger, parts=(part, *ledger.manifest.parts[1:]))

    return change


def change_counts(ledger: Ledger) -> None:
    publish(ledger, counts={**ledger.manifest.counts, "ok": 99})


def lose_version(ledger: Ledger) -> None:
    Path(ledger.uri, "versions", "000001.json").unlink()


IN_FILES: list[tuple[str, Callable[[Ledger], None], str]] = [
    ("part-missing", lose_part, "no such file"),
    ("part-missing", cut_part, "images/"),
    ("part-bytes", retouch_part, "images/"),
    ("part-bytes", change_part(size=1), "not 1"),
    ("part-schema", add_column, "images/"),
    ("part-schema", other_version, "images/"),
    ("part-rows", change_part(images=2), "3 rows, not 2"),
    ("part-removed", change_part(removed=1), "0 rows removed, not 1"),
    ("part-counts", change_part(statuses={"ok": 1, "failed": 2}), "statuses"),
    ("part-counts", change_part(errors={"truncated": 1}), "errors"),
    ("part-counts", change_part(categories={"1": 3}), "categories"),
    ("manifest-counts", change_counts, "counts"),
    ("manifest-version", lose_version, "version 1"),
]


@pytest.mark.parametrize(("rule", "damage", "example"), IN_FILES)
def test_damaged_files_are_named(rule, damage, example, tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export_all(ledger)
    damage(ledger)
    report = validate(ledger.uri)
    found = broken(report)
    assert any(example in item for item in found[rule])
    assert report.exports == ()  # not held against a ledger that is itself in doubt


# Exports


def exports(ledger: Ledger, *parts: str) -> Path:
    return Path(ledger.uri, "exports", *parts)


def edit(*parts: str, old: str, new: str) -> Callable[[Ledger], None]:
    def change(ledger: Ledger) -> None:
        path = exports(ledger, *parts)
        text = path.read_text("utf-8")
        assert old in text
        path.write_text(text.replace(old, new, 1), "utf-8")

    return change


def without_line(*parts: str, starts: str) -> Callable[[Ledger], None]:
    def change(ledger: Ledger) -> None:
        path = exports(ledger, *parts)
        lines = path.read_text("utf-8").split("\n")
        index = next(k for k, line in enumerate(lines) if line.startswith(starts))
        path.write_text("\n".join(lines[:index] + lines[index + 1 :]), "utf-8")

    return change


def repaint(folder: str, change: Callable[[Any], Any]) -> Callable[[Ledger], None]:
    def paint(ledger: Ledger) -> None:
        path = exports(ledger, folder, "plain.png")
        done, data = cv2.imencode(".png", change(cv2.imread(str(path), cv2.IMREAD_UNCHANGED)))
        assert done
        path.write_bytes(data.tobytes())

    return paint


def spot(value: Any) -> Callable[[Any], Any]:
    def change(pixels: Any) -> Any:
        pixels[0, 0] = value
        return pixels

    return change


def remove(*parts: str) -> Callable[[Ledger], None]:
    return lambda ledger: exports(ledger, *parts).unlink()


def stray(ledger: Ledger) -> None:
    exports(ledger, "semantic", "sub", "old.png").write_bytes(b"")


def forget(ledger: Ledger) -> None:
    exports(ledger, "exports.json").unlink()


def next_version(ledger: Ledger) -> None:
    publish(ledger, version=2)


def truncate(ledger: Ledger) -> None:
    path = exports(ledger, "coco", "instances.json")
    path.write_bytes(path.read_bytes()[:-40])


PANOPTIC = ("coco", "panoptic.json")
INSTANCES = ("coco", "instances.json")

IN_EXPORTS: list[tuple[str, Callable[[Ledger], None], str]] = [
    ("export-current", forget, "coco/instances.json"),
    ("export-current", next_version, "semantic/categories.json"),
    ("export-json", truncate, "coco/instances.json"),
    ("export-json", remove(*INSTANCES), "no such file"),
    ("export-json", edit(*PANOPTIC, old='"images"', new='"image"'), "no list of images"),
    ("export-head", edit(*INSTANCES, old='"nucleus"', new='"cell"'), "instances.json"),
    ("export-head", edit("semantic", "categories.json", old='"sky"', new='"sea"'), "categories"),
    ("export-images", edit(*INSTANCES, old='"width":31', new='"width":32'), "image 7 differs"),
    ("export-images", without_line(*PANOPTIC, starts='{"id":8,'), "image 8 is missing"),
    ("export-annotations", edit(*INSTANCES, old='"iscrowd":0', new='"iscrowd":1'), f"{A} differs"),
    ("export-annotations", without_line(*INSTANCES, starts=f'{{"id":{B}'), f"{B} is missing"),
    ("export-annotations", edit(*PANOPTIC, old='"area":40', new='"area":49'), "image 7 differs"),
    ("export-annotations", without_line(*PANOPTIC, starts='{"image_id":9'), "image 9 is missing"),
    ("export-annotations", edit("coco", "results.json", old='"score":1}', new='"score":0}'),
     "image 7 differs"),
    ("export-png-missing", remove("coco", "panoptic", "plain.png"), "plain.png"),
    ("export-png-missing", remove("semantic", "plain.png"), "plain.png"),
    ("export-png-stray", stray, "sub/old.png"),
    ("export-png-mode", repaint("coco/panoptic", lambda rgb: rgb[..., 0]), "plain.png: 8 bits"),
    ("export-png-mode", repaint("coco/panoptic", lambda rgb: rgb[1:]), "plain.png: it is 31x23"),
    ("export-png-mode", repaint("semantic", np.uint16), "plain.png: 16 bits of colour type 0"),
    ("export-png-mode", lambda ledger: exports(ledger, "semantic", "plain.png").write_text("x"),
     "plain.png: it is no PNG"),
    ("export-png-pixels", repaint("coco/panoptic", spot((0, 0, 99))), "it holds 99"),
    ("export-png-pixels", repaint("coco/panoptic", spot((0, 0, 1))), "1 pixels differ"),
    ("export-png-pixels", repaint("coco/panoptic", lambda rgb: np.where(rgb == 3, 7, rgb)),
     "3 is not in it"),
    ("export-png-pixels", repaint("semantic", spot(92)), "plain.png: 1 pixels differ"),
    ("export-png-pixels", repaint("semantic-stuffthing", spot(255)), "it holds 255"),
]  # fmt: skip


@pytest.mark.parametrize(("rule", "damage", "example"), IN_EXPORTS)
def test_damaged_exports_are_named(rule, damage, example, tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export_all(ledger, formats=ALL)
    damage(ledger)
    found = broken(validate(ledger.uri))
    assert any(example in item for item in found[rule]), found


IN_TREES: list[tuple[str, Callable[[Path], None], str]] = [
    ("export-file-missing", lambda path: path.unlink(), "plain-0000000007.txt"),
    ("export-file-differs", lambda path: path.write_text("0 0 0 1 1 1 0\n"), "plain-0000000007"),
    ("export-file-stray", lambda path: path.with_name("old.txt").write_text(""), "old.txt"),
    ("export-head", lambda path: path.parents[2].joinpath("data.yaml").write_text(""), "data.yaml"),
]


@pytest.mark.parametrize(("rule", "damage", "example"), IN_TREES)
def test_damaged_trees_are_named(rule, damage, example, tmp_path):
    ledger = small_dataset(tmp_path / "data", "instance", pictures=True)
    export_all(ledger, formats=("yolo-seg",))
    assert validate(ledger.uri).exports == ("yolo-seg",)
    damage(exports(ledger, "yolo-seg", "labels", "train", "plain-0000000007.txt"))
    found = broken(validate(ledger.uri))
    assert found.keys() == {rule}
    assert any(example in item for item in found[rule])


def test_a_picture_of_another_size_is_no_picture_of_the_export(tmp_path):
    ledger = small_dataset(tmp_path / "data", "instance", pictures=True)
    export_all(ledger, formats=("yolo-seg",))
    path = next(exports(ledger, "yolo-seg", "images").rglob("plain-*8.png"))
    path.write_bytes(cv2.imencode(".png", np.zeros((31, 24, 3), np.uint8))[1].tobytes())
    assert broken(validate(ledger.uri)).keys() == {"export-file-differs"}


def test_every_rule_has_its_damage():
    rows = (*IN_FILES, *IN_EXPORTS, *IN_TREES)
    tested = {*IN_TABLES, *(row[0] for row in rows)}
    assert tested | {"export-pycocotools"} == set(RULES)


def test_the_manifest_reads_back_as_it_was(tmp_path):
    """What `publish` above relies on: writing a manifest again changes no byte."""
    ledger = small_dataset(tmp_path / "data")
    text = Path(ledger.uri, "manifest.json").read_text("utf-8")
    again = DatasetManifest.from_json(text)
    assert again.to_json() == text
    assert asdict(again) == asdict(ledger.manifest)


def test_processes_find_the_same(tmp_path):
    square = np.zeros((12, 9), np.uint8)
    square[2:5, 3:8] = 1
    counts = codec.encode(square)
    good = Segment(1, counts, 15, codec.bbox_xywh(counts, 12, 9), 0.5)
    bad = replace(good, area=16)
    images = [
        (ImageRecord(f"{n}.png", "", image_id=n), Segmentation(12, 9, (bad if n % 3 else good,)))
        for n in range(1, 61)
    ]
    table = Categories((Category(1, "cell", True, "#ff0000"),))
    write_dataset(str(tmp_path / "out"), images, categories=table, task="instance", shard_size=2)
    one, two = (validate(str(tmp_path / "out"), workers=workers) for workers in (1, 2))
    assert one == two
    assert [(item.rule, item.count) for item in one.violations] == [("mask-area", 40)]
