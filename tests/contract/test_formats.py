"""The facts about COCO's formats that are easily got wrong: one test each.

Every test states the fact with the official reader first, so that it fails when the reader
changes, and then holds our output against it.
"""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as _mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval
from small_datasets import (
    BACKGROUND,
    BROKEN,
    CATEGORIES,
    EMPTY,
    HEIGHT,
    NAMES,
    NUCLEUS,
    SKY,
    WIDTH,
    panoptic_map,
    small_dataset,
    things_map,
)

from pipeline.exporters import export, export_all, formats_of
from pipeline.exporters.coco_panoptic import bgr_of_ids, ids_of_bgr
from pipeline.exporters.png_folder import PngNames
from pipeline.ledger.ledger import open_ledger, write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.records import TASKS, ImageRecord, Segment, Segmentation

coco_mask: Any = _mask


@pytest.fixture(scope="module")
def out(tmp_path_factory) -> Path:
    """All exports of the small panoptic dataset."""
    folder = tmp_path_factory.mktemp("formats")
    formats = ("coco-instances", "coco-results", "coco-panoptic", "semantic-png",
               "semantic-png-stuffthing")  # fmt: skip
    export_all(small_dataset(folder / "data"), str(folder / "out"), formats=formats)
    return folder / "out"


@pytest.fixture(scope="module")
def instances(out) -> dict[str, Any]:
    return json.loads((out / "coco" / "instances.json").read_bytes())


@pytest.fixture(scope="module")
def panoptic(out) -> dict[str, Any]:
    return json.loads((out / "coco" / "panoptic.json").read_bytes())


def ids_of(path: Path) -> np.ndarray:
    """panopticapi's rgb2id, by its code rather than its docstring."""
    rgb = np.array(Image.open(path)).astype(np.uint32)
    return rgb[..., 0] + 256 * rgb[..., 1] + 256 * 256 * rgb[..., 2]


def average_precision(truth: dict[str, Any], results: list[dict[str, Any]]) -> float:
    coco: Any = COCO()
    coco.dataset = truth
    coco.createIndex()
    loaded = coco.loadRes(copy.deepcopy(results))  # it writes into what it is given
    evaluation = COCOeval(coco, loaded, "segm")
    evaluation.evaluate()
    evaluation.accumulate()
    evaluation.summarize()
    return float(evaluation.stats[0])


def as_results(annotations: list[dict[str, Any]]) -> list[dict[str, Any]]:
    keys = ("image_id", "category_id", "segmentation")
    return [{**{key: item[key] for key in keys}, "score": 0.9} for item in annotations]


def decoded(annotation: dict[str, Any]) -> np.ndarray:
    return coco_mask.decode(annotation["segmentation"])


# COCO instances


def test_the_root_and_every_annotation_have_the_keys_of_the_spec(instances):
    assert list(instances) == ["info", "licenses", "categories", "images", "annotations"]
    for item in instances["images"]:
        assert item.keys() == {"id", "width", "height", "file_name"}
    for item in instances["annotations"]:
        assert item.keys() - {"score"} == {
            "id", "image_id", "category_id", "segmentation", "area", "bbox", "iscrowd",
        }  # fmt: skip


def test_images_without_annotations_are_kept_and_failed_ones_are_not(instances):
    images = {item["id"] for item in instances["images"]}
    assert images == set(NAMES.values())
    assert EMPTY in images - {item["image_id"] for item in instances["annotations"]}
    assert BROKEN not in images


def test_size_is_height_width_and_rle_is_column_major(instances):
    labels = panoptic_map(7)
    ring = next(item for item in instances["annotations"] if item["image_id"] == 7)
    assert ring["segmentation"]["size"] == [HEIGHT, WIDTH]
    assert np.array_equal(decoded(ring), labels == 1)
    # Row-major reading of the same string would give another picture.
    assert not np.array_equal(decoded(ring).T.reshape(HEIGHT, WIDTH), labels == 1)


def test_counts_are_json_strings_byte_equal_to_pycocotools(instances):
    for item in instances["annotations"]:
        counts = item["segmentation"]["counts"]
        assert isinstance(counts, str)
        again = coco_mask.encode(np.asfortranarray(decoded(item)))
        assert counts.encode() == again["counts"]


def test_backslashes_of_rle_strings_survive_json(tmp_path):
    labels = np.zeros((64, 64), np.int32)
    # Long steps back and forth between columns need every digit of the alphabet.
    random = np.random.default_rng(0)
    for column in range(64):
        start = random.integers(0, 60)
        labels[start : start + random.integers(1, 5), column] = 1
    (region,) = codec.regions(labels)
    assert b"\\" in region.counts
    found = Segmentation(64, 64, (Segment(1, region.counts, region.area, region.bbox_xywh),))
    images = [(ImageRecord("a.jpg", "", image_id=1), found)]
    export(write_dataset(str(tmp_path / "d"), images, categories=CATEGORIES),
           "coco-instances", str(tmp_path))  # fmt: skip
    coco: Any = COCO(str(tmp_path / "instances.json"))
    (annotation,) = coco.anns.values()
    assert np.array_equal(coco.annToMask(annotation), labels)


def test_area_is_the_masks_not_the_boxes_and_boxes_are_tight(instances):
    boxed = 0
    for item in instances["annotations"]:
        rle = item["segmentation"]
        assert item["area"] == int(coco_mask.area(rle))
        assert item["bbox"] == coco_mask.toBbox(rle).tolist()
        boxed += item["area"] != item["bbox"][2] * item["bbox"][3]
    assert boxed


def test_a_mask_with_a_hole_or_two_parts_is_one_object_and_no_crowd(instances):
    assert {item["iscrowd"] for item in instances["annotations"]} == {0}
    mine = [item for item in instances["annotations"] if item["image_id"] == 7]
    shapes = [cv2.connectedComponents(decoded(item))[0] - 1 for item in mine]
    assert 2 in shapes
    ring = decoded(mine[0])
    filled = cv2.connectedComponents(1 - ring)[0] - 1
    assert filled == 2  # outside and the hole


def test_rle_keeps_what_polygons_lose(instances):
    ring = (things_map() == 1).astype(np.uint8)
    contours, _ = cv2.findContours(ring, cv2.RETR_CCOMP, cv2.CHAIN_APPROX_NONE)
    polygons = [contour.ravel().tolist() for contour in contours]
    drawn = coco_mask.decode(coco_mask.merge(coco_mask.frPyObjects(polygons, HEIGHT, WIDTH)))
    assert not np.array_equal(drawn, ring)
    for item in instances["annotations"]:
        assert isinstance(item["segmentation"], dict)


def test_annotation_id_0_is_no_match_for_cocoeval_so_ids_start_above_it(instances):
    def renumbered(first: int) -> dict[str, Any]:
        rows = [{**item, "id": n} for n, item in enumerate(instances["annotations"], first)]
        return {**instances, "annotations": rows}

    results = as_results(instances["annotations"])
    assert average_precision(renumbered(0), results) < 1.0
    assert average_precision(renumbered(1), results) == 1.0
    for key in ("images", "categories", "annotations"):
        assert min(item["id"] for item in instances[key]) >= 1


def test_perfect_predictions_of_an_export_score_1(out, instances):
    results = json.loads((out / "coco" / "results.json").read_bytes())
    assert average_precision(instances, results) == 1.0


def test_all_crowds_would_leave_nothing_to_evaluate(instances):
    crowds = [{**item, "iscrowd": 1} for item in instances["annotations"]]
    results = as_results(instances["annotations"])
    assert average_precision({**instances, "annotations": crowds}, results) == -1.0
    assert not any(item["iscrowd"] for item in instances["annotations"])


def test_category_ids_are_kept_not_renumbered(instances, panoptic):
    assert [item["id"] for item in instances["categories"]] == [NUCLEUS.id]
    assert [item["id"] for item in panoptic["categories"]] == [NUCLEUS.id, SKY.id, BACKGROUND.id]


def test_file_names_keep_their_path(instances, panoptic):
    for data in (instances, panoptic):
        assert {item["file_name"]: item["id"] for item in data["images"]} == NAMES


def test_single_pixels_are_kept(instances):
    assert 1 in {item["area"] for item in instances["annotations"]}


# COCO results


def test_results_are_a_bare_list_without_boxes(out):
    results = json.loads((out / "coco" / "results.json").read_bytes())
    assert isinstance(results, list)
    for item in results:
        assert item.keys() == {"image_id", "category_id", "segmentation", "score"}
        assert 0 <= item["score"] <= 1


def test_a_box_would_make_loadres_take_its_area(out, instances):
    coco = COCO(str(out / "coco" / "instances.json"))
    results = json.loads((out / "coco" / "results.json").read_bytes())
    loaded: Any = coco.loadRes(str(out / "coco" / "results.json"))
    assert [item["area"] for item in loaded.anns.values()] == [
        int(coco_mask.area(item["segmentation"])) for item in results
    ]
    boxed: Any = coco.loadRes(
        [{**item, "bbox": coco_mask.toBbox(item["segmentation"]).tolist()} for item in results]
    )
    assert [item["area"] for item in boxed.anns.values()] != [
        item["area"] for item in loaded.anns.values()
    ]


def test_every_result_is_of_an_image_in_the_instances_file(out, instances):
    results = json.loads((out / "coco" / "results.json").read_bytes())
    assert {item["image_id"] for item in results} <= {item["id"] for item in instances["images"]}


def test_no_results_are_an_empty_list_which_loadres_refuses(tmp_path):
    images = [(ImageRecord("a.jpg", "", image_id=1), Segmentation(4, 6))]
    ledger = write_dataset(str(tmp_path / "d"), images, categories=CATEGORIES)
    export(ledger, "coco-results", str(tmp_path / "out"))
    path = tmp_path / "out" / "results.json"
    assert json.loads(path.read_bytes()) == []
    truth = COCO()
    truth.dataset = {"images": [], "annotations": [], "categories": []}
    with pytest.raises(IndexError):
        truth.loadRes(str(path))


# COCO panoptic: panopticapi's rules, from its evaluation.py


def test_panoptic_pngs_are_rgb_beside_the_json(out, panoptic):
    for item in panoptic["annotations"]:
        with Image.open(out / "coco" / "panoptic" / item["file_name"]) as picture:
            assert picture.mode == "RGB"
            assert picture.size == (WIDTH, HEIGHT)


def test_ids_are_red_first_and_need_a_wide_type(tmp_path):
    ids = np.array([[1, 255, 256, 65_535, 65_536, 2_097_151]], np.int32)
    with pytest.raises(OverflowError):
        np.uint8(3) * 256
    found = []
    for segment_id in range(1, 300):
        mask = np.zeros((1, 300), np.uint8)
        mask[0, segment_id] = 1
        found.append(Segment(1, codec.encode(mask), 1, (segment_id, 0, 1, 1)))
    images = [(ImageRecord("a.jpg", "", image_id=1), Segmentation(1, 300, tuple(found)))]
    export(write_dataset(str(tmp_path / "d"), images, categories=CATEGORIES),
           "coco-panoptic", str(tmp_path / "out"))  # fmt: skip
    png = tmp_path / "out" / "panoptic" / "a.png"
    assert ids_of(png).tolist() == [list(range(300))]  # 0 is void
    assert np.array(Image.open(png))[0, 257].tolist() == [1, 1, 0]
    assert bgr_of_ids(ids)[0, 2].tolist() == [0, 1, 0]
    assert bgr_of_ids(ids)[0, 4].tolist() == [1, 0, 0]
    assert np.array_equal(ids_of_bgr(bgr_of_ids(ids)), ids)


def test_png_and_json_agree_by_panopticapis_rules(out, panoptic):
    categories = {item["id"]: item for item in panoptic["categories"]}
    entries = {item["image_id"]: item for item in panoptic["annotations"]}
    assert entries.keys() == {item["id"] for item in panoptic["images"]} == set(NAMES.values())
    assert len(entries) == len(panoptic["annotations"])
    for number, entry in entries.items():
        ids = ids_of(out / "coco" / "panoptic" / entry["file_name"])
        values, counts = np.unique(ids, return_counts=True)
        areas = dict(zip(values.tolist(), counts.tolist(), strict=True))
        areas.pop(0, None)
        segments = {item["id"]: item for item in entry["segments_info"]}
        assert len(segments) == len(entry["segments_info"])  # unique in the image
        assert segments.keys() == areas.keys()  # none only in the PNG, none only in the JSON
        stuff = []
        for segment_id, item in segments.items():
            assert item["area"] == areas[segment_id]
            assert item["category_id"] in categories
            assert item["iscrowd"] == 0
            y, x = np.nonzero(ids == segment_id)
            box = [x.min(), y.min(), x.max() - x.min() + 1, y.max() - y.min() + 1]
            assert item["bbox"] == box
            if not categories[item["category_id"]]["isthing"]:
                stuff.append(item["category_id"])
        assert len(stuff) == len(set(stuff))
        assert np.array_equal(ids != 0, panoptic_map(number) != 0)


def test_categories_have_isthing_and_a_colour(panoptic, instances):
    for item in panoptic["categories"] + instances["categories"]:
        assert item["isthing"] in (0, 1)
        assert len(item["color"]) == 3
        assert all(0 <= value <= 255 for value in item["color"])


def test_png_names_survive_dots_and_other_suffixes(panoptic):
    names = {item["image_id"]: item["file_name"] for item in panoptic["annotations"]}
    dotted = NAMES['ünï/"quoted" back\\slash.v2.jpeg']
    assert names[dotted] == 'ünï/"quoted" back\\slash.v2.png'
    assert len(set(names.values())) == len(NAMES)


# Semantic PNG


def test_two_conventions_each_said_in_its_key(out):
    for folder, convention, empty, less in (
        ("semantic", "category-id", 0, 0),
        ("semantic-stuffthing", "stuffthingmaps", 255, 1),
    ):
        key = json.loads((out / folder / "categories.json").read_bytes())
        assert (key["convention"], key["unlabelled"]) == (convention, empty)
        assert {item["id"]: item["pixel"] for item in key["categories"]} == {
            item.id: item.id - less for item in CATEGORIES
        }


def test_uncovered_pixels_are_unlabelled(tmp_path):
    labels = things_map()
    found = tuple(
        Segment(1, region.counts, region.area, region.bbox_xywh)
        for region in codec.regions((labels > 0).astype(np.int32))
    )
    images = [(ImageRecord("a.jpg", "", image_id=1), Segmentation(HEIGHT, WIDTH, found))]
    ledger = write_dataset(str(tmp_path / "d"), images, categories=CATEGORIES, task="semantic")
    for name, inside, outside in (("semantic-png", 1, 0), ("semantic-png-stuffthing", 0, 255)):
        export(ledger, name, str(tmp_path / name))
        with Image.open(tmp_path / name / "a.png") as picture:
            assert picture.mode == "L"
            assert np.array_equal(np.array(picture), np.where(labels > 0, inside, outside))


def test_coco_stuff_maps_of_the_real_set_are_reproduced(shared_data, tmp_path):
    """COCO-Stuff's own pixel maps, through a ledger, come out as they were."""
    source = sorted((shared_data / "coco-stuff" / "labels").glob("*.png"))
    assert source
    table = Categories(tuple(Category(n, f"c{n}", n <= 91, "#000000") for n in range(1, 183)))
    images = []
    for number, path in enumerate(source, start=1):
        pixels = np.array(Image.open(path)).astype(np.int32)
        found = tuple(
            Segment(region.label, region.counts, region.area, region.bbox_xywh)
            for region in codec.regions(np.where(pixels == 255, 0, pixels + 1))
        )
        record = ImageRecord(f"{path.stem}.jpg", "", image_id=number)
        images.append((record, Segmentation(*pixels.shape, found)))
    ledger = write_dataset(str(tmp_path / "d"), images, categories=table, task="semantic")
    export(ledger, "semantic-png-stuffthing", str(tmp_path / "out"))
    for path in source:
        again = np.array(Image.open(tmp_path / "out" / path.name))
        assert np.array_equal(again, np.array(Image.open(path)))


def test_a_real_panoptic_picture_is_reproduced(shared_data, tmp_path):
    """panopticapi's own example, read by its rules, exported, and read again."""
    folder = shared_data / "coco-panoptic"
    data = json.loads((folder / "panoptic_examples.json").read_bytes())
    (entry,), (image,) = data["annotations"], data["images"]
    ids = ids_of(folder / "panoptic_examples" / entry["file_name"])
    table = Categories(
        tuple(
            Category(
                item["id"],
                item["name"],
                bool(item["isthing"]),
                "#{:02x}{:02x}{:02x}".format(*item["color"]),
                item["supercategory"],
            )
            for item in data["categories"]
        )
    )
    found = []
    for item in entry["segments_info"]:
        (region,) = codec.regions((ids == item["id"]).astype(np.int32))
        assert region.area == item["area"]
        found.append(Segment(item["category_id"], region.counts, region.area, region.bbox_xywh))
    record = ImageRecord(image["file_name"], "", image_id=image["id"])
    images = [(record, Segmentation(*ids.shape, tuple(found)))]
    ledger = write_dataset(str(tmp_path / "d"), images, categories=table)
    export(ledger, "coco-panoptic", str(tmp_path / "out"))
    again = json.loads((tmp_path / "out" / "panoptic.json").read_bytes())
    (mine,) = again["annotations"]
    assert mine["file_name"] == entry["file_name"]
    assert again["categories"] == [
        {key: item[key] for key in again["categories"][0]} for item in data["categories"]
    ]
    ours = ids_of(tmp_path / "out" / "panoptic" / mine["file_name"])
    for item, theirs in zip(mine["segments_info"], entry["segments_info"], strict=True):
        assert np.array_equal(ours == item["id"], ids == theirs["id"])
        for key in ("category_id", "area", "bbox"):
            assert item[key] == theirs[key]


# Several tasks in one dataset


@pytest.fixture(scope="module")
def several(tmp_path_factory) -> Path:
    """The small dataset with the labels of all three tasks, and its exports."""
    folder = tmp_path_factory.mktemp("several")
    small_dataset(folder, TASKS)
    export_all(open_ledger(str(folder)), formats=("coco-results", *formats_of(TASKS)))
    return folder


def rows_of(folder: Path, task: str) -> dict[int, dict[str, Any]]:
    found = (row for _, rows in open_ledger(str(folder)).rows() for row in rows)
    return {row["annotation_id"]: row for row in found if row["task"] == task}


def test_coco_reads_the_instances_of_several_tasks_once(several):
    coco: Any = COCO(str(several / "exports/coco/instances.json"))
    expected = rows_of(several, "instance")
    assert coco.anns.keys() == expected.keys()
    for key, annotation in coco.anns.items():
        assert np.array_equal(coco.annToMask(annotation), coco_mask.decode(expected[key]["rle"]))
        assert int(coco_mask.area(coco.annToRLE(annotation))) == annotation["area"]
    results = json.loads((several / "exports/coco/results.json").read_bytes())
    assert average_precision(coco.dataset, results) == 1.0


def test_panoptic_ids_of_several_tasks_are_the_ledgers_segment_ids(several):
    data = json.loads((several / "exports/coco/panoptic.json").read_bytes())
    expected = rows_of(several, "panoptic")
    there = {}
    for entry in data["annotations"]:
        ids = ids_of(several / "exports/coco/panoptic" / entry["file_name"])
        infos = {item["id"]: item for item in entry["segments_info"]}
        assert set(np.unique(ids).tolist()) - {0} == infos.keys()
        there |= {(entry["image_id"], key): ids == key for key in infos}
    assert there.keys() == {(row["image_id"], row["segment_id"]) for row in expected.values()}
    assert min(key for _, key in there) > 1  # other tasks' rows come first
    for row in expected.values():
        mask = there[row["image_id"], row["segment_id"]]
        assert np.array_equal(mask, coco_mask.decode(row["rle"]))


def test_semantic_pixels_of_several_tasks_are_the_semantic_rows(several):
    names = PngNames(NAMES)
    by_id = {number: name for name, number in NAMES.items()}
    for row in rows_of(several, "semantic").values():
        with Image.open(several / "exports/semantic" / names[by_id[row["image_id"]]]) as picture:
            assert np.array_equal(
                np.array(picture) == row["category_id"], coco_mask.decode(row["rle"])
            )


def test_scores_of_results_default_to_1(tmp_path):
    region = codec.regions(things_map())[0]
    plain = Segment(1, region.counts, region.area, region.bbox_xywh, None)
    found = Segmentation(HEIGHT, WIDTH, (plain, replace(plain, score=0.25)))
    images = [(ImageRecord("a.jpg", "", image_id=1), found)]
    ledger = write_dataset(str(tmp_path / "d"), images, categories=CATEGORIES, task="instance")
    export(ledger, "coco-results", str(tmp_path / "out"))
    results = json.loads((tmp_path / "out" / "results.json").read_bytes())
    assert [item["score"] for item in results] == [1, 0.25]
