"""jobs.label --prompts with files that are wrong, or made for other pictures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from PIL import Image
from tiny_sam import sam_checkpoint
from typer.testing import CliRunner

from jobs.label import app

HW = (48, 64)


def run(pictures: Path, prompts: Path, out: Path, *more: str, model: Path | None = None) -> Any:
    given = [
        "--input", str(pictures), "--output", str(out), "--prompts", str(prompts), "--inline",
        "--model", str(model or sam_checkpoint("sam")), "--quiet", *more,
    ]  # fmt: skip
    return CliRunner().invoke(app, given)


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    manifest = json.loads((out / "manifest.json").read_text())
    names = [part["name"] for part in manifest["parts"]]
    return [
        row for name in names for row in pq.read_table(out / table / f"{name}.parquet").to_pylist()
    ]


def picture(path: Path, hw: tuple[int, int] = HW, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.random.default_rng(seed).integers(0, 255, (*hw, 3), np.uint8)
    Image.fromarray(pixels).save(path)


def prompt_file(path: Path, entries: list[dict[str, Any]]) -> Path:
    path.write_text(json.dumps(entries))
    return path


def coco_file(path: Path, images: dict[str, tuple[int, int]], boxes: list[list[float]]) -> Path:
    coco = {
        "images": [
            {"id": n, "file_name": name, "height": h, "width": w}
            for n, (name, (h, w)) in enumerate(images.items(), 1)
        ],
        "annotations": [
            {"id": n, "image_id": 1, "category_id": 1, "bbox": box, "iscrowd": 0}
            for n, box in enumerate(boxes, 1)
        ],
        "categories": [{"id": 1, "name": "nucleus"}],
    }
    path.write_text(json.dumps(coco))
    return path


def test_ids_of_text_come_back_and_none_is_lost(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    box = [4, 5, 30, 20]
    prompts = prompt_file(
        tmp_path / "p.json",
        [
            {"file_name": "a.png", "bbox_xywh": box, "id": "abc"},
            {"file_name": "a.png", "bbox_xywh": box, "id": 7},
            {"file_name": "a.png", "bbox_xywh": [70, 5, 30, 20], "id": "far"},
            {"file_name": "a.png", "bbox_xywh": [10, 10, 0, 12], "id": "flat"},
        ],
    )
    result = run(tmp_path / "in", prompts, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "prompts: 2 answered with a mask, 1 outside" in result.output
    found = rows(tmp_path / "out", "annotations")
    assert [(row["source_id"], row["source_key"]) for row in found] == [(None, "abc"), (7, None)]
    (image,) = rows(tmp_path / "out", "images")
    assert [(row["source_id"], row["outcome"], row["segment_id"]) for row in image["prompts"]] == [
        ("abc", "mask", 1),
        ("7", "mask", 2),
        ("far", "outside", None),
        ("flat", "no_area", None),
    ]
    assert "of 4 prompts 1 outside" in image["note"]
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["prompt_counts"] == {"mask": 2, "no_area": 1, "outside": 1}
    assert "1 outside their picture" in (tmp_path / "out" / "report" / "index.html").read_text()
    coco = json.loads((tmp_path / "out" / "exports" / "coco" / "instances.json").read_text())
    assert [each.get("source_key") for each in coco["annotations"]] == ["abc", None]


def test_a_box_outside_alone_leaves_the_picture_empty(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    prompts = coco_file(tmp_path / "p.json", {"a.png": HW}, [[HW[1] + 20, 10, 30, 30]])
    assert run(tmp_path / "in", prompts, tmp_path / "out").exit_code == 0
    (image,) = rows(tmp_path / "out", "images")
    assert (image["status"], image["num_segments"]) == ("empty", 0)
    assert "outside their picture" in image["note"]


@pytest.mark.parametrize(
    ("names", "words"),
    [
        (["img-1.png"], ["none is in the input", "'img-1.png'", "'a/IMG_1.png'"]),
        (["b/IMG_1.png", "2.png", "3.png"], ["1 only", "'2.png', '3.png'", "min_matched"]),
        (["IMG_1.png"], ["'IMG_1.png'", "fits 'a/IMG_1.png', 'b/IMG_1.png' equally well"]),
    ],
)
def test_names_that_do_not_fit_stop_the_job(tmp_path: Path, names: list[str], words) -> None:
    for folder in "ab":
        picture(tmp_path / "in" / folder / "IMG_1.png")
    entries = [{"file_name": name, "bbox_xywh": [4, 5, 30, 20]} for name in names]
    result = run(tmp_path / "in", prompt_file(tmp_path / "p.json", entries), tmp_path / "out")
    assert result.exit_code == 2
    for word in words:
        assert word in result.output
    assert not (tmp_path / "out" / "manifest.json").exists()


def test_pictures_that_are_not_there_are_counted(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    picture(tmp_path / "in" / "b.png", seed=1)
    entries = [{"file_name": name, "bbox_xywh": [4, 5, 30, 20]} for name in ("a.png", "c.png")]
    prompts = prompt_file(tmp_path / "p.json", entries)
    result = run(tmp_path / "in", prompts, tmp_path / "out")
    assert result.exit_code == 0, result.output
    assert "1 pictures that the file names are not in the input, as 'c.png'" in result.output
    manifest = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert manifest["prompt_counts"]["absent_images"] == 1
    assert "are not in the input" in (tmp_path / "out" / "report" / "index.html").read_text()


def test_the_same_picture_under_another_name_is_asked_its_own_prompts(tmp_path: Path) -> None:
    picture(tmp_path / "in" / "a.png")
    entries = [
        {"file_name": "a.png", "bbox_xywh": [4, 5, 30, 20]},
        {"file_name": "b.png", "bbox_xywh": [30, 10, 20, 30]},
    ]
    prompts = prompt_file(tmp_path / "p.json", entries)
    assert run(tmp_path / "in", prompts, tmp_path / "out").exit_code == 0
    picture(tmp_path / "in" / "b.png")
    assert run(tmp_path / "in", prompts, tmp_path / "out").exit_code == 0
    boxes = [row["prompt_bbox_xywh"] for row in rows(tmp_path / "out", "annotations")]
    assert boxes == [[4, 5, 30, 20], [30, 10, 20, 30]]


def nuclei(shared_data: Path) -> tuple[np.ndarray, np.ndarray]:
    """A picture of fluorescence, higher than wide by a crop, and its label map."""
    root = shared_data / "nuclei-dsb2018"
    index = json.loads((root / "index.json").read_text())["images"]
    each = next(
        each
        for each in index
        if (each["split"], each["kind"]) == ("test", "fluorescence") and each["height"] == 360
    )
    pixels = cv2.imread(str(root / each["image"]))
    labels = cv2.imread(str(root / each["label"]), cv2.IMREAD_UNCHANGED)
    assert pixels is not None
    assert labels is not None
    return pixels[:, 20:300, ::-1], labels[:, 20:300]


def boxes_of(labels: np.ndarray, least: int = 80) -> list[list[int]]:
    masks = [(labels == value).astype(np.uint8) for value in np.unique(labels)[1:]]
    return [list(cv2.boundingRect(mask)) for mask in masks if mask.sum() >= least]


def mean_cover(out: Path, boxes: list[list[int]]) -> float:
    """Mean IoU of the masks' boxes with the boxes that a nucleus really has."""
    found = {row["source_id"]: row["bbox_xywh"] for row in rows(out, "annotations")}
    ious = []
    for n, (x, y, w, h) in enumerate(boxes, 1):
        a, b, c, d = found.get(n, (0, 0, 0, 0))
        wide, high = min(x + w, a + c) - max(x, a), min(y + h, b + d) - max(y, b)
        both = max(wide, 0) * max(high, 0)
        ious.append(both / (w * h + c * d - both))
    return float(np.mean(ious))


@pytest.mark.parametrize(
    ("orientation", "factor", "how"), [(6, 1, "turn"), (3, 1, "turn"), (1, 2, "scale")]
)
def test_boxes_of_other_pixels_fail_unless_the_job_says_what_they_are(
    shared_data: Path, tmp_path: Path, orientation: int, factor: int, how: str
) -> None:
    pixels, labels = nuclei(shared_data)
    turn = {1: lambda a: a, 3: lambda a: a[::-1, ::-1], 6: lambda a: np.rot90(a)}[orientation]
    stored = Image.fromarray(np.ascontiguousarray(turn(pixels)))
    exif = stored.getexif()
    exif[274] = orientation
    (tmp_path / "in").mkdir()
    stored.save(tmp_path / "in" / "p.png", exif=exif)
    raw = np.kron(np.ascontiguousarray(turn(labels)), np.ones((factor, factor), labels.dtype))
    by_value = {int(v): list(cv2.boundingRect((raw == v).astype(np.uint8))) for v in np.unique(raw)}
    chosen = [int(v) for v in np.unique(labels)[1:] if (labels == v).sum() >= 80]
    truth = boxes_of(labels)
    height, width = raw.shape
    prompts = coco_file(
        tmp_path / "p.json", {"p.png": (height, width)}, [by_value[v] for v in chosen]
    )
    model = shared_data / "weights" / "sam-nuclei-tiny"
    if orientation != 3:  # a size says nothing of half a turn
        allowed = ("--max-failures", "1")
        result = run(tmp_path / "in", prompts, tmp_path / "no", *allowed, model=model)
        assert result.exit_code == 0, result.output
        (image,) = rows(tmp_path / "no", "images")
        assert (image["status"], image["error_code"]) == ("failed", "bad_prompt")
        assert (
            f"the file says {width}×{height}, the upright picture is 280×360"
            in (image["error_message"])
        )
    told = ("--set", f"prompts.on_size_mismatch={how}")
    result = run(tmp_path / "in", prompts, tmp_path / "out", *told, model=model)
    assert result.exit_code == 0, result.output
    (image,) = rows(tmp_path / "out", "images")
    assert (image["width"], image["height"]) == (280, 360)
    assert mean_cover(tmp_path / "out", truth) > 0.6
