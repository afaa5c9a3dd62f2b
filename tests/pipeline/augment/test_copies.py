"""Copies of one picture: rows that fit their pixels, whatever the task and the chain."""

import json

import cv2
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from pipeline.augment.chain import replay
from pipeline.augment.copies import CopyMaker
from pipeline.augment.partners import Parent, check_pasted, pasteable
from pipeline.ledger.parts import annotation_rows, image_row
from pipeline.masks import codec
from pipeline.storage.storage import Storage
from schemas.categories import Categories, Category
from schemas.config.augment import AugmentConfig
from schemas.config.augment_steps import CopyPaste
from schemas.records import ErrorCode, ImageRecord, Segment, Segmentation

CATEGORIES = Categories(
    (
        Category(1, "cell", True, "#1f9e89"),
        Category(2, "sky", False, "#87ceeb"),
        Category(3, "background", False, "#101010", is_background=True),
    )
)
SIZE = (70, 90)
TASKS = ("semantic", "instance", "panoptic")


def label_map(seed):
    """1, 2, 3 cells, 4 sky, 5 the rest."""
    rng = np.random.default_rng(seed)
    labels = np.full(SIZE, 5, np.int32)
    labels[:15] = 4
    for label in (1, 2, 3):
        x, y = rng.integers(12, 60, 2).tolist()
        cv2.circle(labels, (x, y), 9, label, -1)
    return labels


def segments(seed):
    labels = label_map(seed)
    category = {1: 1, 2: 1, 3: 1, 4: 2, 5: 3}
    semantic = np.array([0, 1, 1, 1, 2, 3])[labels]
    found = []
    for task, plane, category_of in (
        ("semantic", semantic, {1: 1, 2: 2, 3: 3}),
        ("instance", np.where(labels <= 3, labels, 0), category),
        ("panoptic", labels, category),
    ):
        found += [
            Segment(category_of[r.label], r.counts, r.area, r.bbox_xywh, score=0.5, task=task)
            for r in codec.regions(plane)
        ]
    return tuple(found)


def parent(number, copies=2):
    record = ImageRecord(
        f"{number}.png",
        "",
        image_id=number + 1,
        copy_ids=tuple(1000 + 10 * number + k for k in range(copies)),
    )
    origin = {"model": "m", "model_revision": "", "run": "r"}
    rows = annotation_rows(
        record.image_id,
        Segmentation(*SIZE, segments(number)),
        categories=CATEGORIES.by_id(),
        origin=origin,
        tasks=TASKS,
    )
    labels = label_map(number)
    pixels = np.repeat((labels * 40 + number)[..., None].astype(np.uint8), 3, 2)
    image = {**image_row(record, segments=rows, original_hw=SIZE), "split": "train"}
    return Parent(record, image, rows, lambda: pixels)


def maker(tmp_path, *steps, **more):
    config = AugmentConfig.parse({"copies": 2, "steps": list(steps), **more})
    return CopyMaker(config, Storage(), str(tmp_path), frozenset([3]))


def check(image, rows, folder):
    pixels = cv2.imread(str(folder / image["file_name"]))
    assert pixels.shape[:2] == (image["height"], image["width"])
    planes = {task: np.zeros(pixels.shape[:2], int) for task in TASKS}
    once = set()
    for number, row in enumerate(rows, start=1):
        assert row["segment_id"] == number
        assert row["annotation_id"] == image["image_id"] << 21 | number
        assert row["rle"]["size"] == [image["height"], image["width"]]
        mask = codec.decode(row["rle"]["counts"], image["height"], image["width"])
        assert mask.sum() == row["area"] > 0
        assert tuple(row["bbox_xywh"]) == codec.bbox_xywh(row["rle"]["counts"], *mask.shape)
        assert 0 < row["visible_fraction"] <= 1
        assert not (planes[row["task"]] & mask).any()
        planes[row["task"]] |= mask
        if row["task"] == "semantic" or not row["isthing"]:
            key = (row["task"], row["category_id"])
            assert key not in once
            once.add(key)
    assert [TASKS.index(row["task"]) for row in rows] == sorted(
        TASKS.index(row["task"]) for row in rows
    )


steps = st.sampled_from(
    [
        {"step": "rotate", "expand": True},
        {"step": "elastic"},
        {"step": "crop"},
        {"step": "mosaic"},
        {"step": "copy_paste", "count": [1, 3]},
        {"step": "object_crop"},
        {"step": "cutout", "labels": "erase"},
        {"step": "noise"},
    ]
)


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(chain=st.lists(steps, min_size=1, max_size=5), seed=st.integers(0, 1000))
def test_any_chain_gives_rows_that_fit_the_picture(chain, seed, tmp_path):
    family = [parent(i) for i in range(5)]
    made = maker(tmp_path, *chain, seed=seed).copies(family[0], family)
    assert len(made) == 2
    for image, rows in made:
        check(image, rows, tmp_path)
    again = maker(tmp_path, *chain, seed=seed).copies(parent(0), [parent(i) for i in range(5)])
    assert again == made


def test_the_row_says_how_to_do_it_again(tmp_path):
    chain = [{"step": "rotate"}, {"step": "contrast"}, {"step": "noise"}]
    origin = parent(3)
    for image, rows in maker(tmp_path, *chain, fill=[1, 2, 3]).copies(origin):
        assert image["parent_image_id"] == 4
        said = json.loads(image["augmentation"])
        draw = replay(said["steps"], SIZE, fill=tuple(said["fill"]))
        shown = cv2.imread(str(tmp_path / image["file_name"]))[..., ::-1]
        np.testing.assert_array_equal(draw.picture(origin.load()), shown)
        moved = draw.labels(label_map(3))
        for row in rows:
            if row["task"] == "instance":
                mask = codec.decode(row["rle"]["counts"], *SIZE)
                assert len(np.unique(moved[mask == 1])) == 1


def test_what_is_hardly_left_is_dropped_but_ground_stays(tmp_path):
    chain = [{"step": "crop", "scale": 0.3}]
    everything = maker(tmp_path, *chain, min_visible=0).copies(parent(1))
    most = maker(tmp_path, *chain, min_visible=0.9).copies(parent(1))
    for (_, all_rows), (_, few) in zip(everything, most, strict=True):
        kept = [r for r in all_rows if r["visible_fraction"] >= 0.9 or not r["isthing"]]
        objects = [r for r in kept if r["task"] != "semantic"]
        assert [r["area"] for r in few if r["task"] != "semantic"] == [r["area"] for r in objects]


def test_copies_carry_what_the_parent_knows(tmp_path):
    origin = parent(2)
    origin.rows[4].update(predicted_iou=0.7, source_id=9, point_xy=[1.0, 2.0])
    (_, rows), _ = maker(tmp_path, {"step": "flip", "horizontal": 1}).copies(origin)
    assert len(rows) == len(origin.rows)
    assert (rows[4]["predicted_iou"], rows[4]["source_id"], rows[4]["point_xy"]) == (0.7, 9, None)
    assert [r["area"] for r in rows] == [r["area"] for r in origin.rows]
    assert {r["visible_fraction"] for r in rows} == {1.0}
    assert {r["score"] for r in rows} == {0.5}


def test_a_copy_that_cannot_be_made_is_a_failed_row(tmp_path, monkeypatch):
    monkeypatch.setattr("pipeline.augment.steps._LARGEST", 5000)
    chain = {"step": "scale", "factor": 4, "expand": True}
    for image, rows in maker(tmp_path, chain).copies(parent(0)):
        assert (image["status"], image["error_code"]) == ("failed", ErrorCode.AUGMENT_ERROR)
        assert "too large" in image["error_message"]
        assert rows == []

    def gone():
        raise ValueError("0.png has changed")

    lost = Parent(parent(0).record, parent(0).image, parent(0).rows, gone)
    codes = [image["error_code"] for image, _ in maker(tmp_path).copies(lost)]
    assert codes == [ErrorCode.READ_ERROR] * 2


def test_jpeg_is_written_where_asked(tmp_path):
    ((image, rows), _) = maker(tmp_path, {"step": "flip"}, format="jpeg").copies(parent(0))
    assert image["file_name"].endswith(".jpg")
    assert image["image_format"] == "JPEG"
    check(image, rows, tmp_path)


def test_only_things_are_pasted_and_named_categories_exist():
    rows = parent(0).rows
    plain = pasteable(CopyPaste(step="copy_paste"), rows)
    assert {(r["task"], r["category"]) for r in plain} == {("instance", "cell")}
    assert pasteable(CopyPaste(step="copy_paste", categories=("sky",)), rows) == []
    panoptic = [r for r in rows if r["task"] == "panoptic"]
    sky = pasteable(CopyPaste(step="copy_paste", categories=("sky",)), panoptic)
    assert [r["category"] for r in sky] == ["sky"]
    bad = {"copies": 1, "steps": [{"step": "copy_paste", "categories": ["cel"]}]}
    with pytest.raises(ValueError, match="'cel'; did you mean 'cell'"):
        check_pasted(AugmentConfig.parse(bad), CATEGORIES)
