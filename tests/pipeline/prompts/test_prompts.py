"""Every format of prompts: read, looked up, refused."""

from __future__ import annotations

import json
import pickle
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
from pycocotools import mask as coco_mask
from small_datasets import small_dataset

from pipeline.prompts import FORMATS, open_prompts
from pipeline.storage.storage import Storage
from schemas.config.prompts import PromptsConfig

BOX = (10.0, 20.0, 40.0, 60.0)


def test_every_format_can_be_asked_for_by_its_name() -> None:
    names = get_args(PromptsConfig.model_fields["format"].annotation)
    assert names == ("auto", *FORMATS)


def opened(path: Path, **options):
    return open_prompts(str(path), Storage(), **options)


def written(path: Path, text: str) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    "text",
    [
        "file_name,category,x,y,w,h,id\na/b.jpg,cat,10,20,30,40,7\n",
        "image,x1,y1,x2,y2,category,id\na/b.jpg,10,20,40,60,cat,7\n",
        "path\txmin\tymin\txmax\tymax\tcategory\tid\na/b.jpg\t10\t20\t40\t60\tcat\t7\n",
        "\ufeffFile_Name,Category,x,y,width,height,id\r\na/b.jpg,cat,10,20,30,40,7\r\n",
    ],
)
def test_boxes_in_csv(tmp_path: Path, text: str) -> None:
    table = opened(written(tmp_path / "boxes.csv", text))
    (prompt,) = table.of("a/b.jpg", 100, 200)
    assert (prompt.bbox_xyxy, prompt.source_id, prompt.category_id) == (BOX, 7, 1)
    assert [c.name for c in table.categories] == ["cat"]
    assert table.of("a/c.jpg", 100, 200) == ()


def test_points_of_one_id_are_one_prompt(tmp_path: Path) -> None:
    lines = [
        "file_name,id,x,y,inside",
        "a.png,1,5,6,1",
        "a.png,1,8,9,0",
        "a.png,2,3,3,",
        "b.png,1,1,1,1",
    ]
    table = opened(written(tmp_path / "points.csv", "\n".join(lines)))
    first, second = table.of("a.png", 10, 10)
    assert first.points_xy == ((5, 6), (8, 9))
    assert first.inside == (True, False)
    assert (second.points_xy, second.inside) == (((3, 3),), (True,))
    assert len(table) == 3
    assert [c.name for c in table.categories] == ["object"]


def test_json_lists_and_lines(tmp_path: Path) -> None:
    entries = [
        {"file_name": "a.png", "category": "cat", "bbox_xywh": [10, 20, 30, 40], "id": 7},
        {"file_name": "a.png", "category": 5, "points_xy": [[1, 2], [3, 4]], "inside": [1, 0]},
        {"file_name": "b.png", "category": "cat", "bbox_xyxy": [1, 2, 3, 4], "points_xy": [[2, 3]]},
    ]
    whole = opened(written(tmp_path / "p.json", json.dumps(entries)))
    lines = opened(written(tmp_path / "p.jsonl", "\n".join(map(json.dumps, entries))))
    for table in (whole, lines):
        box, points = table.of("a.png", 9, 9)
        assert (box.bbox_xyxy, box.source_id) == (BOX, 7)
        assert (points.points_xy, points.inside) == (((1, 2), (3, 4)), (True, False))
        assert [(c.id, c.name) for c in table.categories] == [(1, "cat"), (5, "5")]
        assert table.of("b.png", 9, 9)[0].inside == (True,)
    assert whole.digest != lines.digest


def coco(**changes) -> dict:
    mask = np.zeros((50, 60), np.uint8, order="F")
    mask[5:20, 3:9] = 1
    rle = coco_mask.encode(mask)
    return {
        "images": [
            {"id": 139, "file_name": "val/a.jpg", "width": 60, "height": 50},
            {"id": 5, "file_name": "val/b.jpg", "width": 60, "height": 50},
        ],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 1, "name": "person"},
        ],
        "annotations": [
            {"id": 900, "image_id": 139, "category_id": 18, "bbox": [10, 20, 30, 40], "iscrowd": 0},
            {
                "id": 901,
                "image_id": 139,
                "category_id": 1,
                "bbox": [3, 5, 6, 15],
                "iscrowd": 1,
                "segmentation": {"size": [50, 60], "counts": rle["counts"].decode()},
            },
        ],
        **changes,
    }


def test_coco_keeps_ids_categories_and_crowds(tmp_path: Path) -> None:
    table = opened(written(tmp_path / "instances.json", json.dumps(coco())))
    box, crowd = table.of("val/a.jpg", 50, 60)
    assert (box.bbox_xyxy, box.source_id, box.category_id, box.iscrowd) == (BOX, 900, 18, False)
    assert (crowd.source_id, crowd.category_id, crowd.iscrowd) == (901, 1, True)
    assert crowd.bbox_xyxy is None
    assert coco_mask.decode({"size": [50, 60], "counts": crowd.counts}).sum() == 15 * 6
    assert {c.id: (c.name, c.supercategory) for c in table.categories} == {
        18: ("dog", "animal"),
        1: ("person", ""),
    }
    assert (table.image_id("val/a.jpg"), table.image_id("b.jpg")) == (139, 5)
    assert table.image_id("c.jpg") is None
    assert table.knows("val/b.jpg")
    assert table.of("val/b.jpg", 50, 60) == ()
    with pytest.raises(ValueError, match="the file says 60×50, the upright picture is 60×51"):
        table.of("val/a.jpg", 51, 60)
    del (plain := coco())["images"][0]["height"]
    table = opened(written(tmp_path / "plain.json", json.dumps(plain)))
    with pytest.raises(ValueError, match="not the picture's"):
        table.of("val/a.jpg", 51, 60)


def test_coco_numbers_as_text_and_ids_that_coco_would_trip_over(tmp_path: Path) -> None:
    data = coco()
    box, crowd = data["annotations"]
    box.update(id=0, image_id="139", category_id="18", iscrowd="0", bbox=["10", "20", "30", "40"])
    data["annotations"] = [box, dict(box), {**crowd, "iscrowd": "1"}]
    found = opened(written(tmp_path / "a.json", json.dumps(data))).of("val/a.jpg", 50, 60)
    assert [(item.source_id, item.bbox_xyxy, item.iscrowd) for item in found] == [
        (0, BOX, False),
        (0, BOX, False),
        (901, None, True),
    ]


def test_yolo_folders_are_fractions_of_the_picture(tmp_path: Path) -> None:
    written(
        tmp_path / "labels/train/a.txt", "1 0.25 0.5 0.3 0.5\n0 0.1 0.1 0.2 0.1 0.2 0.3 0.1 0.3\n"
    )
    written(tmp_path / "labels/train/empty.txt", "")
    written(tmp_path / "data.yaml", "names:\n  0: cat\n  1: dog\n")
    for place in (tmp_path / "data.yaml", tmp_path):
        table = opened(place)
        dog, cat = table.of("images/train/a.jpg", 80, 100)
        assert dog.bbox_xyxy == pytest.approx((10, 20, 40, 60))
        assert cat.bbox_xyxy == pytest.approx((10, 8, 20, 24))
        assert (dog.category_id, cat.category_id) == (2, 1)
        assert [c.name for c in table.categories] == ["cat", "dog"]
        assert table.knows("images/train/empty.png")
        assert len(table) == 2
    assert opened(tmp_path / "labels").of("a.png", 80, 100) == (dog, cat)


def test_a_dataset_of_ours_asks_with_its_boxes(tmp_path: Path) -> None:
    ledger = small_dataset(tmp_path / "d")
    table = opened(tmp_path / "d")
    background = {c.id for c in ledger.categories if c.is_background}
    count = 0
    for image, segments in ledger.rows():
        rows = [row for row in segments if row["category_id"] not in background]
        found = table.of(image["file_name"], image["height"] or 1, image["width"] or 1)
        assert [p.source_id for p in found] == [row["annotation_id"] for row in rows]
        for prompt, row in zip(found, rows, strict=True):
            x, y, w, h = row["bbox_xywh"]
            assert prompt.bbox_xyxy == (x, y, x + w, y + h)
        assert table.image_id(image["file_name"]) == image["image_id"]
        count += len(rows)
    assert len(table) == count > 0


def test_pictures_are_found_by_looser_names_only_where_they_are_unique(tmp_path: Path) -> None:
    rows = ["file_name,x,y,w,h", "a/x.jpg,1,1,2,2", "b/x.jpg,3,3,2,2", "b/y.jpg,5,5,2,2"]
    table = opened(written(tmp_path / "b.csv", "\n".join(rows)))
    assert table.of("a/x.png", 9, 9) == table.of("./a/x.jpg", 9, 9) != ()
    assert table.of("x.jpg", 9, 9) == ()  # two of them
    assert table.of("elsewhere/y.jpg", 9, 9)[0].bbox_xyxy == (5, 5, 7, 7)
    assert table.of("y.tif", 9, 9) == table.of("b/y.jpg", 9, 9)


def test_the_table_travels_and_its_digest_follows_the_content(tmp_path: Path) -> None:
    path = written(tmp_path / "instances.json", json.dumps(coco()))
    table = opened(path)
    again = pickle.loads(pickle.dumps(table))
    assert again.of("val/a.jpg", 50, 60) == table.of("val/a.jpg", 50, 60)
    assert opened(path).digest == table.digest
    path.write_text(json.dumps(coco(annotations=coco()["annotations"][:1])))
    assert opened(path).digest != table.digest


@pytest.mark.parametrize(
    ("name", "text", "words"),
    [
        ("a.csv", "name,x,y\nq,1,2\n", ["no column of file names", "file_name"]),
        ("a.csv", "file_name,x,y,w,h\nq.jpg,1,b,3,4\n", ["line 2", "y must be a number", "'b'"]),
        ("a.csv", "file_name,x\nq.jpg,1\n", ["line 2", "neither a box", "nor a point"]),
        ("a.csv", "file_name,x,y,w,h\nq.jpg,nan,2,3,4\n", ["q.jpg", "no number of pixels"]),
        ("a.csv", "file_name,category,x,y\nq.jpg,0,2,3\n", ["line 2", "start at 1"]),
        ("a.csv", "file_name,x,y\n", ["holds no prompt"]),
        ("a.json", "[{}]", ["entry 1", "file_name is missing"]),
        ("a.json", '[{"file_name": "a", "box": 1}]', ["entry 1", "'box'", "bbox_xywh"]),
        ("a.json", '[{"file_name": "a", "bbox_xywh": [1, 2]}]', ["4 numbers"]),
        ("a.json", '[{"file_name": "a", "bbox_xywh": [1, 2, true, 9]}]', ["4 numbers"]),
        ("a.json", '[{"file_name": "a", "bbox_xywh": "1234"}]', ["4 numbers", "'1234'"]),
        ("a.json", json.dumps(coco()).replace("[10, 20,", "[true, 20,"), ["900", "bbox"]),
        ("a.json", '[{"file_name": "a", "points_xy": [[1, 2]], "inside": [2]}]', ["inside"]),
        ("a.json", "[", ["neither a JSON list nor JSON lines"]),
        ("a.json", '{"images": []}', ["no COCO file"]),
        ("a.json", json.dumps(coco(images=[])), ["unknown image 139"]),
        ("a.json", json.dumps(coco(images=coco()["images"] * 2)).replace("val/b", "val/a"), ["a"]),
        ("a.json", json.dumps(coco()).replace('"id": 5', '"id": 139'), ["val/a", "val/b", "139"]),
        ("a.json", json.dumps(coco()).replace('"iscrowd": 0', '"iscrowd": "no"'), ["900", "no"]),
        ("a.json", json.dumps(coco()).replace("[10, 20, 30, 40]", "[1, 2]"), ["900", "bbox"]),
        ("a.json", '[{"file_name": "a", "points_xy": [[1, 2]], "id": 1.5}]', ["entry 1", "id"]),
        (
            "a.csv",
            "file_name,x,y,image_width,image_height\nq.jpg,1,2,8,9\nq.jpg,1,2,9,9\n",
            ["line 3", "9×9 here and 8×9 before"],
        ),
        ("a.json", json.dumps(coco(annotations=[{"id": 1}])), ["lacks"]),
        ("l/a.txt", "0 5 5 1 1\n", ["line 1", "not fractions"]),
        ("l/a.txt", "cat 0 0 1 1\n", ["line 1", "number cx cy"]),
        ("l/readme.md", "", ["no .txt file"]),
        ("a.xml", "<a/>", ["prompts.format"]),
    ],
)
def test_mistakes_are_named_with_their_place(tmp_path: Path, name: str, text: str, words) -> None:
    path = written(tmp_path / "in" / name, text)
    with pytest.raises(ValueError, match=r".") as error:
        opened(path.parent if name.startswith("l/") else path)
    for word in words:
        assert word in str(error.value)


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        # The size that a file states is of another picture only if it can be read.
        ("p.csv", "file_name,x,y,w,h,image_width\na.png,1,2,9,9,50\n", "must both be numbers"),
        (
            "p.csv",
            "file_name,x,y,w,h,image_width,image_height\na.png,1,2,9,9,50,tall\n",
            "line 2: image_width and image_height must both be numbers of pixels, got '50' and 't",
        ),
        (
            "p.json",
            '[{"file_name": "a.png", "bbox_xywh": [1, 2, 9, 9], "image_height": 40}]',
            "entry 1: image_width and image_height must both be numbers of pixels, got None and 40",
        ),
        (
            "p.json",
            '[{"file_name": "a.png", "bbox_xywh": [1, 2, 9, 9], "image_height": true, '
            '"image_width": 3}]',
            "must both be numbers",
        ),
        # Fractions that are taken for pixels ask for the first pixel, which has an answer.
        ("p.csv", "file_name,x1,y1,x2,y2\na.png,0.2,0.3,0.48,0.7\n", "look like fractions"),
        ("p.json", '[{"file_name": "a.png", "points_xy": [[0.3, 0.5]]}]', "look like fractions"),
        (
            "p.json",
            json.dumps(
                {
                    "images": [{"id": 1, "file_name": "a.png"}],
                    "annotations": [
                        {"id": 1, "image_id": 1, "category_id": 1, "bbox": [0.2, 0.3, 0.3, 0.4]}
                    ],
                    "categories": [{"id": 1, "name": "n"}],
                }
            ),
            "look like fractions",
        ),
        # A point beside the object alone says nothing of where it is.
        (
            "p.json",
            '[{"file_name": "a.png", "points_xy": [[30, 30]], "inside": [0]}]',
            "points are all beside the object",
        ),
    ],
)
def test_what_would_mean_another_place_is_refused(
    tmp_path: Path, name: str, text: str, message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        opened(written(tmp_path / name, text))


def test_a_size_may_be_text_and_whole_pixels_small(tmp_path: Path) -> None:
    entry = {"file_name": "a.png", "bbox_xywh": BOX, "image_width": "50", "image_height": "40"}
    table = opened(written(tmp_path / "p.json", json.dumps([entry])))
    assert len(table.of("a.png", 40, 50)) == 1
    with pytest.raises(ValueError, match="the file says 50×40"):
        table.of("a.png", 20, 25)
    corner = '[{"file_name": "a.png", "bbox_xyxy": [0, 0, 1, 1]}]'
    (prompt,) = opened(written(tmp_path / "c.json", corner)).of("a.png", 40, 50)
    assert prompt.bbox_xyxy == (0, 0, 1, 1)
