"""One suite that every exporter passes, read back with the format's own reader."""

from __future__ import annotations

import json
import types
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Any, NotRequired, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from format_readers import READ_BACK
from PIL import Image
from small_datasets import (
    BACKGROUND,
    CATEGORIES,
    EMPTY,
    NAMES,
    NUCLEUS,
    SKY,
    category_of,
    panoptic_map,
    segmentation,
    small_dataset,
    with_pictures,
)

from pipeline.exporters import EXPORTERS, check_exports, export, export_all
from pipeline.exporters.table import Traits, make_exporter
from pipeline.ledger.ledger import Ledger, write_dataset
from pipeline.masks import codec
from pipeline.storage.prefixes import ELSEWHERE, FolderFiles
from pipeline.storage.storage import Storage
from pipeline.storage.swap import current_folder
from pipeline.storage.uris import join
from schemas import coco as shapes
from schemas.categories import Categories, Category
from schemas.records import SEGMENT_BITS, ImageRecord, Segmentation

TASKS = ("semantic", "instance", "panoptic")


CASES = [
    ("coco-instances", "instance"),
    ("coco-instances", "panoptic"),
    ("coco-results", "instance"),
    ("coco-results", "panoptic"),
    ("coco-panoptic", "panoptic"),
    ("semantic-png", "semantic"),
    ("semantic-png", "panoptic"),
    ("semantic-png-stuffthing", "semantic"),
    ("semantic-png-stuffthing", "panoptic"),
    ("coco-polygons", "instance"),
    ("coco-polygons", "panoptic"),
    ("coco-flat", "instance"),
    ("coco-flat", "panoptic"),
    ("csv", "instance"),
    ("csv", "semantic"),
    ("csv", "panoptic"),
    ("label-studio", "instance"),
    ("label-studio", "panoptic"),
    ("cvat", "instance"),
    ("cvat", "panoptic"),
    ("geojson", "instance"),
    ("geojson", "panoptic"),
    ("webdataset", "instance"),
    ("webdataset", "panoptic"),
    ("hf", "semantic"),
    ("hf", "panoptic"),
    ("voc", "semantic"),
    ("cityscapes", "panoptic"),
    ("ade20k", "semantic"),
    ("overlays", "panoptic"),
    ("yolo-seg", "instance"),
    ("yolo-seg", "panoptic"),
    ("yolo-detect", "instance"),
    ("yolo-detect", "panoptic"),
]
OF_SEVERAL = [
    ("coco-instances", ("semantic", "instance"), "instance"),
    ("coco-instances", TASKS, "instance"),
    ("coco-instances", ("semantic", "panoptic"), "panoptic"),
    ("coco-results", TASKS, "instance"),
    ("coco-panoptic", TASKS, "panoptic"),
    ("semantic-png", TASKS, "semantic"),
    ("semantic-png", ("instance", "panoptic"), "panoptic"),
    ("semantic-png-stuffthing", ("semantic", "instance"), "semantic"),
    ("coco-polygons", TASKS, "instance"),
    ("coco-flat", TASKS, "instance"),
    ("csv", ("semantic", "panoptic"), "panoptic"),
    ("label-studio", TASKS, "instance"),
    ("cvat", TASKS, "instance"),
    ("geojson", ("semantic", "panoptic"), "panoptic"),
    ("webdataset", TASKS, "instance"),
    ("hf", ("semantic", "panoptic"), "panoptic"),
    ("voc", TASKS, "semantic"),
    ("cityscapes", ("instance", "panoptic"), "panoptic"),
    ("ade20k", TASKS, "semantic"),
    ("overlays", TASKS, "panoptic"),
    ("yolo-seg", TASKS, "instance"),
    ("yolo-detect", ("semantic", "panoptic"), "panoptic"),
]
"""Format, what the dataset holds, and the task that the format is made from."""

BY_ROW = ("coco-instances", "coco-results", "coco-polygons")
"""Formats whose annotations name their image themselves."""


KEEPS = {"cityscapes": [SKY.id], "ade20k": [SKY.id], "voc": [BACKGROUND.id], "overlays": []}
"""Categories of the small dataset that come back from these: those of the other data set."""


def traits(name: str) -> Traits:
    return make_exporter(name).traits


def dataset_for(folder: Path, name: str, task: Any, **options: Any) -> Ledger:
    """The small dataset, with pictures where the format carries them along."""
    return small_dataset(folder, task, pictures=traits(name).pictures, **options)


def due_of(mask: np.ndarray, name: str, labels: np.ndarray) -> np.ndarray:
    """What of a category's mask a format keeps: itself, or the boxes of its objects."""
    if name == "voc":  # all of it is background there
        return np.ones(mask.shape, np.uint8)
    if traits(name).masks != "boxes":
        return mask.astype(np.uint8)
    boxes = np.zeros(mask.shape, np.uint8)
    for region in codec.regions(np.where(mask, labels, 0)):
        x, y, w, h = region.bbox_xywh
        boxes[y : y + h, x : x + w] = 1
    return boxes


def with_lines(name: str, task: str) -> set[int]:
    """The images that a format names: all, or those that have a segment."""
    none = {EMPTY} if name == "csv" and task == "instance" else set()
    return set(NAMES.values()) - none


def tree(folder: Path) -> dict[str, bytes]:
    files = (path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): path.read_bytes() for path in files}


def test_every_format_has_its_row():
    assert set(READ_BACK) == set(EXPORTERS) == {name for name, _ in CASES}
    assert set(EXPORTERS) == {name for name, _, _ in OF_SEVERAL}


@pytest.mark.parametrize(("name", "task"), CASES)
def test_the_reader_finds_what_the_ledger_holds(name, task, tmp_path):
    ledger = dataset_for(tmp_path / "data", name, task)
    export(ledger, name, str(tmp_path / "out"))
    found = READ_BACK[name](tmp_path / "out")
    assert found.images == with_lines(name, task)
    expected = {}
    for number in NAMES.values():
        labels = panoptic_map(number)
        things_only = task == "instance" or traits(name).things_only
        wanted = [NUCLEUS.id] if things_only else [NUCLEUS.id, SKY.id, BACKGROUND.id]
        wanted = KEEPS.get(name, wanted)
        if name == "geojson":
            wanted = [category for category in wanted if category != BACKGROUND.id]
        by_category = np.vectorize(category_of)(labels)
        for category in wanted:
            if (mask := by_category == category).any():
                expected[number, category] = due_of(mask, name, labels)
    assert found.unions.keys() == expected.keys()
    for key, mask in expected.items():
        assert np.array_equal(found.unions[key], mask), key


@pytest.mark.parametrize(("name", "tasks", "best"), OF_SEVERAL)
def test_of_several_tasks_the_best_is_exported(name, tasks, best, tmp_path):
    several = dataset_for(tmp_path / "several", name, tasks)
    alone = dataset_for(tmp_path / "alone", name, best)
    for ledger, out in ((several, "a"), (several.view(best), "b"), (alone, "c")):
        export(ledger, name, str(tmp_path / out))
    found, due = (READ_BACK[name](tmp_path / out) for out in "ac")
    assert found.images == due.images
    assert found.unions.keys() == due.unions.keys()
    for key, mask in due.unions.items():
        assert np.array_equal(found.unions[key], mask), key
    trees = [tree(tmp_path / out) for out in "ab"]
    for files in trees:
        files.pop("exports.json")  # names the manifest
    assert trees[0] == trees[1]
    export_all(several, formats=(name,))
    assert check_exports(several, lambda *problem: pytest.fail(str(problem))) == (name,)


@pytest.mark.parametrize(("name", "task"), CASES)
def test_same_ledger_same_bytes_whatever_the_parts(name, task, tmp_path):
    trees = []
    for index, size in enumerate((2, 100)):
        ledger = dataset_for(tmp_path / f"data{index}", name, task, shard_size=size)
        export(ledger, name, str(tmp_path / f"out{index}"))
        trees.append(tree(tmp_path / f"out{index}"))
        trees[-1].pop("exports.json")  # names the manifest, which names its parts
    assert trees[0] == trees[1]


@pytest.mark.parametrize(("name", "task"), CASES)
def test_a_dataset_without_images_or_segments(name, task, tmp_path):
    nothing = write_dataset(str(tmp_path / "none"), [], categories=CATEGORIES, task=task)
    one = [(ImageRecord("a.jpg", "", image_id=1), Segmentation(4, 6))]
    bare = write_dataset(str(tmp_path / "bare"), one, categories=CATEGORIES, task=task)
    bare = with_pictures(bare, {"a.jpg": 1}, size_hw=(4, 6))
    for ledger, images in ((nothing, 0), (bare, 1)):
        export_all(ledger, formats=(name,))
        assert check_exports(ledger, lambda *problem: pytest.fail(str(problem))) == (name,)
        if traits(name).pictures:
            continue
        pngs = list(Path(ledger.uri, "exports").rglob("*.png"))
        assert len(pngs) == images * traits(name).label_pngs
        for png in pngs:
            empty = 255 if name in ("semantic-png-stuffthing", "voc") else 0
            assert np.unique(np.array(Image.open(png))).tolist() == [empty]


@pytest.mark.parametrize("pictures", [False, True])
def test_on_s3_as_on_disk(pictures, tmp_path, s3_server):
    """Every format, of those with pictures and of those without all at once."""
    names = tuple(name for name in EXPORTERS if traits(name).pictures == pictures)
    storage = Storage(s3_server.config)
    bucket = s3_server.new_bucket()
    local = small_dataset(tmp_path / "data", "panoptic", pictures=pictures, shard_size=6)
    for entry in Storage().list(local.uri):
        storage.write(join(bucket, "data", entry.path), Path(entry.uri).read_bytes())
    remote = Ledger(join(bucket, "data"), local.manifest, storage)
    export_all(remote, formats=names)
    export_all(local, formats=names)
    entries = [*storage.list(current_folder(storage, join(remote.uri, "exports")), hidden=True)]
    with ThreadPoolExecutor(8) as readers:
        found = readers.map(storage.read, [entry.uri for entry in entries])
        there = {entry.path: content for entry, content in zip(entries, found, strict=True)}
    assert there == tree(tmp_path / "data" / "exports")
    problems: list[tuple[str, str]] = []
    assert check_exports(remote, lambda *problem: problems.append(problem)) == names
    assert not problems
    fewer = replace(local.manifest, version=2, parts=local.manifest.parts[:1])
    export_all(Ledger(remote.uri, fewer, storage), formats=names)
    export_all(Ledger(local.uri, fewer, local.storage), formats=names)
    now = current_folder(storage, join(remote.uri, "exports"))
    left = {entry.path for entry in storage.list(now, hidden=True)} - {ELSEWHERE}
    left |= {*FolderFiles(storage, now).elsewhere()}
    assert left == tree(tmp_path / "data" / "exports").keys()
    files_a_picture = (".png", ".txt", ".jpg", ".geojson")
    for folder in {make_exporter(name).folder for name in names}:
        before = [path for path in there if path.startswith(f"{folder}/")]
        after = [path for path in left if path.startswith(f"{folder}/")]
        assert before
        assert len(after) < len(before) or not any(p.endswith(files_a_picture) for p in before)


@pytest.mark.parametrize(("name", "task"), [case for case in CASES if case[0] not in BY_ROW])
def test_a_ledger_out_of_step_is_refused(name, task, tmp_path, monkeypatch):
    """Whoever reads an export must not get one image's segments under another's name."""
    ledger = dataset_for(tmp_path / "data", name, task, shard_size=100)
    whole = Ledger.annotations

    def shuffled(self, columns=None):
        for table in whole(self, columns):
            yield table.take(list(range(len(table) - 1, -1, -1)))

    monkeypatch.setattr(Ledger, "annotations", shuffled)
    with pytest.raises(ValueError, match=r"run jobs\.validate"):
        export(ledger, name, str(tmp_path / "out"))


@pytest.mark.parametrize("name", ["coco-panoptic", "semantic-png", "semantic-png-stuffthing"])
def test_overlapping_segments_are_refused_with_the_image(name, tmp_path):
    full, half = np.ones((4, 6), np.uint8), np.tri(4, 6, dtype=np.uint8)
    found = tuple(
        replace(segmentation(7, "panoptic").segments[0], counts=codec.encode(mask))
        for mask in (full, half)
    )
    images = [(ImageRecord("a.jpg", "", image_id=1), Segmentation(4, 6, found))]
    ledger = write_dataset(str(tmp_path / "data"), images, categories=CATEGORIES)
    with pytest.raises(ValueError, match=r"a\.jpg: segments overlap; run jobs\.validate"):
        export(ledger, name, str(tmp_path / "out"))


@pytest.mark.parametrize(
    ("highest", "dtype", "unlabelled"),
    [(255, "uint8", 255), (256, "uint16", 65_535), (330, "uint16", 65_535)],
)
def test_more_categories_than_a_byte_holds(highest, dtype, unlabelled, tmp_path):
    many = Categories(
        tuple(Category(n, f"c{n}", n % 2 == 1, "#000000") for n in range(1, highest + 1))
    )
    labels = np.arange(1, highest + 1, dtype=np.int32).reshape(1, -1)
    labels[0, 0] = 0
    regions = codec.regions(labels)
    found = Segmentation(
        *labels.shape,
        tuple(
            replace(segmentation(7, "panoptic").segments[0], category_id=region.label,
                    counts=region.counts, area=1, bbox_xywh=region.bbox_xywh)
            for region in regions
        ),
    )  # fmt: skip
    images = [(ImageRecord("a.jpg", "", image_id=1), found)]
    ledger = write_dataset(str(tmp_path / "d"), images, categories=many, task="semantic")
    modes = {"uint8": "L", "uint16": "I;16"}
    for name, empty, less in (("semantic-png", 0, 0), ("semantic-png-stuffthing", unlabelled, 1)):
        out = tmp_path / name
        export(ledger, name, str(out))
        picture = Image.open(out / "a.png")
        key = json.loads((out / "categories.json").read_bytes())
        # The plain convention's largest value is the id itself, the other's is 255 or 65535.
        assert picture.mode == modes[key["dtype"]] == modes[dtype]
        assert key["unlabelled"] == empty
        assert np.array_equal(np.array(picture), np.where(labels == 0, empty, labels - less))
        assert [item["pixel"] for item in key["categories"]] == [
            item["id"] - less for item in key["categories"]
        ]


def test_a_category_beyond_16_bits_is_refused(tmp_path):
    far = Categories((Category(65_536, "far", True, "#000000"),))
    ledger = write_dataset(str(tmp_path / "d"), [], categories=far, task="semantic")
    with pytest.raises(ValueError, match="more than 16 bits"):
        export(ledger, "semantic-png", str(tmp_path / "out"))


def fits(value: Any, shape: Any) -> bool:
    """Whether plain data has the shape of a TypedDict, all keys known."""
    origin, arguments = get_origin(shape), get_args(shape)
    if origin is NotRequired:
        return fits(value, arguments[0])
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is dict:
        return isinstance(value, dict)
    if isinstance(shape, type) and issubclass(shape, dict):
        hints = get_type_hints(shape, include_extras=True)
        needed = {key for key, hint in hints.items() if get_origin(hint) is not NotRequired}
        return (
            needed <= value.keys() <= hints.keys()
            and all(fits(item, hints[key]) for key, item in value.items())
        )  # fmt: skip
    assert isinstance(shape, type | types.GenericAlias)
    if shape is float:
        return isinstance(value, int | float)
    return isinstance(value, shape) and not isinstance(value, bool)


@pytest.mark.parametrize(
    ("file", "shape"),
    [
        ("instances.json", shapes.CocoInstances),
        ("panoptic.json", shapes.CocoPanoptic),
        ("results.json", list[shapes.CocoResult]),
    ],
)
def test_files_have_the_published_shapes(file, shape, tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export(ledger, "coco-" + file.removesuffix(".json"), str(tmp_path / "out"))
    data = json.loads((tmp_path / "out" / file).read_bytes())
    assert fits(data, shape)
    assert not fits({**data, "stray": 1} if isinstance(data, dict) else [{}], shape)


def test_annotations_carry_the_ledgers_ids_and_scores(tmp_path):
    ledger = small_dataset(tmp_path / "data")
    export(ledger, "coco-instances", str(tmp_path / "out"))
    data = json.loads((tmp_path / "out" / "instances.json").read_bytes())
    rows = {row["annotation_id"]: row for _, found in ledger.rows() for row in found}
    things = {number for number, row in rows.items() if row["isthing"]}
    assert {item["id"] for item in data["annotations"]} == things
    assert max(things) > (2**31 - 1) << SEGMENT_BITS
    assert max(things) < 2**52
    for item in data["annotations"]:
        row = rows[item["id"]]
        assert (item["image_id"], item["segmentation"]) == (row["image_id"], row["rle"])
        assert (item["area"], item["bbox"]) == (row["area"], row["bbox_xywh"])
        assert item.get("score") == row["score"]
    assert [item["name"] for item in data["categories"]] == ["nucleus"]
    assert data["info"]["config_fingerprint"] == ledger.manifest.config_fingerprint
    assert EMPTY in {item["id"] for item in data["images"]}
