"""Damaged prompts, category tables, ground truth and corrections: one clear error, never a crash.

`support/fuzz.py` says how much is tried; the seeds that once broke something stand as examples.
"""

from __future__ import annotations

import io
import json
import struct
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import yaml
from fuzz import EDITS, FEW, JSON, edited, paths, replaced, survives
from hypothesis import example, given
from hypothesis import strategies as st
from small_datasets import small_dataset

from pipeline.evaluation.sources.categories import read_category_map
from pipeline.evaluation.sources.maps import read_id_map, read_map
from pipeline.evaluation.sources.open import open_source
from pipeline.prompts import open_prompts
from pipeline.review.read import read_corrections
from pipeline.storage.storage import Storage
from pipeline.training.categories import chosen_table
from schemas.categories import Categories
from schemas.prompts import ExemplarText, Ontology

pytestmark = pytest.mark.usefixtures("little_memory")
STORE = Storage()
RANDOM = st.randoms(use_true_random=False)

COCO: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
    "categories": [{"id": 1, "name": "cell"}],
    "annotations": [
        {
            "id": 1,
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 1, 4, 4],
            "area": 16,
            "iscrowd": 0,
            "segmentation": {"size": [9, 9], "counts": "1" * 4},
        },
        {
            "id": 2,
            "image_id": 1,
            "category_id": 1,
            "bbox": [1, 1, 4, 4],
            "area": 12.5,
            "iscrowd": 0,
            "segmentation": [[1, 1, 5, 1, 5, 5, 1, 5]],
        },
        {
            "id": 3,
            "image_id": 1,
            "category_id": 1,
            "bbox": [0, 0, 9, 9],
            "area": 1,
            "iscrowd": 1,
            "segmentation": {"size": [9, 9], "counts": [40, 1, 40]},
        },
    ],
}
RESULTS = [
    {"image_id": 1, "category_id": 1, "score": 0.5, "bbox": [1, 1, 4, 4]},
    {
        "image_id": 1,
        "category_id": 1,
        "score": 0.5,
        "segmentation": {"size": [9, 9], "counts": "1" * 4},
    },
]
PANOPTIC: dict[str, Any] = {
    "images": [{"id": 1, "file_name": "a.jpg", "width": 9, "height": 9}],
    "categories": [{"id": 1, "name": "cell", "isthing": 1}],
    "annotations": [
        {
            "image_id": 1,
            "file_name": "a.png",
            "segments_info": [
                {"id": 1, "category_id": 1, "area": 5, "bbox": [0, 0, 5, 1], "iscrowd": 0}
            ],
        }
    ],
}
PROMPTS = [
    {"file_name": "a.jpg", "category": "cell", "id": 1, "bbox_xywh": [1, 1, 4, 4]},
    {"file_name": "a.jpg", "bbox_xyxy": [1, 1, 4, 4], "image_width": 9, "image_height": 9},
    {"file_name": "a.jpg", "points_xy": [[1, 1], [2, 3]], "inside": [1, 0]},
]
CSV = b"file_name,category,id,x,y,w,h,inside\na.jpg,cell,1,1,1,4,4,\na.jpg,cell,2,1,1,,,1\n"
YOLO = {"names": {0: "cell", 1: "nucleus"}, "train": "images/train"}
MAPS = {"unlabelled": 255, "categories": [{"pixel": 1, "id": 1, "name": "cell", "isthing": True}]}
CVAT = b"""<annotations><meta><task><assignee><username>ada</username></assignee></task></meta>
<image id="0" name="a.jpg" width="9" height="9">
<polygon label="cell" group_id="1" points="1,1;5,1;5,5"/>
<mask label="cell" rle="1, 3, 5" left="1" top="1" width="3" height="3"/></image></annotations>"""
TASKS = [
    {
        "data": {"image": "/data/a.jpg"},
        "annotations": [
            {
                "completed_by": {"email": "ada"},
                "result": [
                    {
                        "type": "brushlabels",
                        "original_width": 9,
                        "original_height": 9,
                        "value": {"format": "rle", "rle": [0, 0, 0, 9], "brushlabels": ["cell"]},
                    },
                    {
                        "type": "polygonlabels",
                        "original_width": 9,
                        "original_height": 9,
                        "value": {"points": [[1, 1], [50, 1], [50, 50]], "polygonlabels": ["cell"]},
                    },
                ],
            }
        ],
    }
]
ONTOLOGY = b'[[category]]\nname = "cell"\nprompts = ["a cell"]\nthreshold = 0.3\n'


def evaluated(path: Path, **options: Any) -> Callable[[], None]:
    """Reads everything that a comparison would."""

    def read() -> None:
        source = open_source(str(path), storage=STORE, **options)
        for entry in source.entries():
            survives(lambda key=entry.key: source.read(key))

    return read


@FEW
@given(RANDOM, JSON)
@example(None, None)
def test_coco_files_with_any_value_anywhere(tmp_path, rng, value):
    path = tmp_path / "coco.json"
    for known in (COCO, RESULTS, PANOPTIC):
        made = replaced(known, rng.choice(paths(known)), value) if rng else known
        path.write_text(json.dumps(made))
        if known is PANOPTIC:
            (tmp_path / "coco").mkdir(exist_ok=True)
            cv2.imwrite(str(tmp_path / "coco" / "a.png"), np.eye(9, dtype=np.uint8))
        survives(lambda: open_prompts(str(path), STORE))
        survives(evaluated(path))
        survives(evaluated(path, skip_invalid=True))
        survives(evaluated(path, iou_type="bbox"))
        survives(lambda: read_corrections(str(path), STORE))


def test_a_size_that_is_no_list(tmp_path):
    path = tmp_path / "results.json"
    path.write_text(json.dumps(replaced(RESULTS, (1, "segmentation", "size"), True)))
    source = open_source(str(path), storage=STORE)
    with pytest.raises(ValueError, match="RLE with their size"):
        source.read(1)


@FEW
@given(EDITS)
def test_coco_files_with_any_bytes(tmp_path, edits):
    path = tmp_path / "coco.json"
    path.write_bytes(edited(json.dumps(COCO).encode(), edits))
    survives(lambda: open_prompts(str(path), STORE))
    survives(evaluated(path))


def test_a_map_takes_no_memory_for_parts_that_it_lacks(tmp_path):
    """OpenCV took 4 GB for a PNG of 60 bytes whose part says that it is so long."""
    data = cv2.imencode(".png", np.eye(9, dtype=np.uint16))[1].tobytes()
    at = data.index(b"IDAT") - 4
    end = data.index(b"IEND") - 4
    for place in (at, end):
        made = data[:place] + b"\xff\xff\x00\x00" + data[place + 4 :]
        with pytest.raises(ValueError, match="its end is missing"):
            read_map(made, "a.png")
        with pytest.raises(ValueError, match="its end is missing"):
            read_id_map(made, "a.png")
    wide = data[:16] + struct.pack(">II", 60_000, 60_000) + data[24:]
    with pytest.raises(ValueError, match="60000 × 60000 pixels"):
        read_map(wide, "a.png")


def test_what_the_key_of_maps_calls_unlabelled_is_a_number(tmp_path):
    (tmp_path / "categories.json").write_text(json.dumps({**MAPS, "unlabelled": [1]}))
    cv2.imwrite(str(tmp_path / "a.png"), np.eye(9, dtype=np.uint8))
    with pytest.raises(ValueError, match="does not say what pixels mean"):
        open_source(str(tmp_path), storage=STORE)


@FEW
@given(EDITS, RANDOM, JSON)
def test_folders_of_maps_with_any_bytes(tmp_path, edits, rng, value):
    folder = tmp_path / "maps"
    folder.mkdir(exist_ok=True)
    (folder / "categories.json").unlink(missing_ok=True)
    cv2.imwrite(str(folder / "a.png"), np.eye(9, dtype=np.uint8))
    cv2.imwrite(str(folder / "b.png"), np.eye(9, dtype=np.uint16) * 300)
    for path in (folder / "a.png", folder / "b.png"):
        path.write_bytes(edited(path.read_bytes(), edits))
    survives(evaluated(folder, kind="labels"))
    made = replaced(MAPS, rng.choice(paths(MAPS)), value)
    (folder / "categories.json").write_text(json.dumps(made))
    survives(evaluated(folder))


@FEW
@given(st.sampled_from([".csv", ".json", ".jsonl"]), st.binary(max_size=60))
@example(".csv", b"file_name,x,y\na.jpg,nan,1\n")
@example(".csv", b"\r\x00")
@example(".csv", b"file_name,x,y\n" + b"a" * 200_000)
def test_prompt_files_of_any_bytes(tmp_path, suffix, data):
    path = tmp_path / f"prompts{suffix}"
    path.write_bytes(data)
    survives(lambda: open_prompts(str(path), STORE))


@FEW
@given(RANDOM, JSON, EDITS)
def test_prompt_files_with_any_value_anywhere(tmp_path, rng, value, edits):
    made = replaced(PROMPTS, rng.choice(paths(PROMPTS)), value)
    files = {
        "prompts.json": json.dumps(made).encode(),
        "lines.jsonl": "\n".join(map(json.dumps, made if isinstance(made, list) else [])).encode(),
        "prompts.csv": edited(CSV, edits),
        "prompts.tsv": edited(CSV.replace(b",", b"\t"), edits),
    }
    for name, data in files.items():
        path = tmp_path / name
        path.write_bytes(data)
        survives(lambda path=path: asked_of(path))


def asked_of(path: Path) -> None:
    """What a worker asks of the table."""
    table = open_prompts(str(path), STORE)
    for name in ("a.jpg", "b.jpg"):
        table.of(name, 9, 9)


@FEW
@given(RANDOM, JSON, EDITS)
def test_folders_of_yolo_with_any_bytes(tmp_path, rng, value, edits):
    folder = tmp_path / "yolo"
    folder.mkdir(exist_ok=True)
    (folder / "a.txt").write_bytes(edited(b"0 0.5 0.5 0.2 0.2\n1 .1 .1 .2 .2 .3 .3\n", edits))
    made = replaced(YOLO, rng.choice(paths(YOLO)), value)
    (folder / "data.yaml").write_text(yaml.safe_dump(made), "utf-8", errors="replace")
    survives(lambda: open_prompts(str(folder), STORE))
    (folder / "data.yaml").write_bytes(edited(yaml.safe_dump(YOLO).encode(), edits))
    survives(lambda: open_prompts(str(folder / "data.yaml"), STORE))


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("fuzz") / "data"
    small_dataset(folder)
    return folder


@FEW
@given(st.sampled_from(["images", "annotations"]), EDITS)
def test_datasets_as_prompts_and_as_truth(dataset, table, edits):
    file = sorted((dataset / table).iterdir())[0]
    sound = file.read_bytes()
    try:
        file.write_bytes(edited(sound, edits))
        survives(lambda: open_prompts(str(dataset), STORE))
        survives(evaluated(dataset))
    finally:
        file.write_bytes(sound)


@FEW
@given(RANDOM, JSON, EDITS)
def test_tables_of_categories_of_any_json(tmp_path, rng, value, edits):
    known = [{"id": 1, "name": "cell", "isthing": True, "color": "#00ff00"}]
    made = replaced(known, rng.choice(paths(known)), value)
    if isinstance(made, list) and all(isinstance(row, dict) for row in made):
        survives(lambda: Categories.from_json(made))
    path = tmp_path / "table.json"
    for data in (made, {"categories": made}):
        path.write_text(json.dumps(data))
        survives(lambda: chosen_table(str(path)))
        survives(lambda: read_category_map(str(path), STORE))
    path.write_bytes(edited(json.dumps({"cell": "nucleus"}).encode(), edits))
    survives(lambda: read_category_map(str(path), STORE))


@FEW
@given(EDITS, st.text(max_size=40))
def test_what_is_asked_in_words_of_any_text(edits, text):
    survives(lambda: Ontology.from_toml(edited(ONTOLOGY, edits), "a.toml"))
    survives(lambda: Ontology.from_toml(text, "a.toml"))
    survives(lambda: Ontology.of_prompts([text]))
    survives(lambda: ExemplarText.parse(text))


def zipped() -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("annotations.xml", CVAT)
    return file.getvalue()


@pytest.mark.parametrize("place", [45, 6, 55], ids=["damaged", "encrypted", "newer"])
def test_zip_files_that_python_cannot_unpack(tmp_path, place):
    data = bytearray(zipped())
    directory = data.index(b"PK\x01\x02")
    if place == 45:
        data[place] ^= 2
    elif place == 6:
        data[directory + 8] |= 1
        data[6] |= 1
    else:
        data[directory + 6] = 255
    path = tmp_path / "cvat.zip"
    path.write_bytes(data)
    with pytest.raises(ValueError, match="no zip file that can be read"):
        read_corrections(str(path), STORE)


def test_annotations_of_a_task_that_are_no_list(tmp_path):
    path = tmp_path / "tasks.json"
    path.write_text(json.dumps([{"data": {}, "annotations": True}]))
    assert read_corrections(str(path), STORE) == []


@FEW
@given(EDITS, RANDOM, JSON)
def test_corrections_with_any_bytes(tmp_path, edits, rng, value):
    made = replaced(TASKS, rng.choice(paths(TASKS)), value)
    files = {
        "cvat.xml": edited(CVAT, edits),
        "cvat.zip": edited(zipped(), edits),
        "tasks.json": json.dumps(made).encode(),
        "bytes.json": edited(json.dumps(TASKS).encode(), edits),
    }
    for name, data in files.items():
        (tmp_path / name).write_bytes(data)
        survives(lambda name=name: read_corrections(str(tmp_path / name), STORE))
