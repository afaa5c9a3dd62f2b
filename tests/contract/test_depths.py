"""One channel and sixteen bits, for models that find by prompts, by a grid or by themselves.

A grey picture, the same with three equal channels, and the same in sixteen bits say one thing; what
a model finds must not depend on which of them a microscope wrote. Families that answer by
themselves on PyTorch are in test_families.
"""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
from pictures import disc_picture
from tiny_sam import sam_checkpoint
from tiny_text import text_checkpoint

from pipeline.engine.run import label
from schemas.config.job import JobConfig

LOOSE = {"points_per_side": 4, "pred_iou_thresh": -1, "stability_score_thresh": -1}
WORDS = {"prompts": {"text": ["cat", "dog"]}, "conflicts": {"nms_iou": 1, "nms_ios": 1}}
NAMES = ("clipseg", "grounding-dino", "mm-grounding-dino", "omdet-turbo", "owlv2", "sam3")


def asked(name: str, folder: Path) -> dict[str, Any]:
    """The model and what it is asked, as in a job's file."""
    if name == "seggpt":
        cv2.imwrite(str(folder / "example.png"), disc_picture(1, size=50))
        mask = np.zeros((50, 51), np.uint8)
        mask[10:30, 5:40] = 1
        cv2.imwrite(str(folder / "mask.png"), mask)
        shown = [f"{folder}/example.png:@{folder}/mask.png=disc"]
        model = {"name": str(text_checkpoint(name)), "threshold": 0.3}
        return {"model": model, "prompts": {"exemplars": shown}}
    if name in NAMES:
        alone = name in ("clipseg", "sam3")
        beside = "" if alone else f"+{sam_checkpoint('sam')}"
        task = {"task": "semantic"} if name == "clipseg" else {}
        model = {"name": f"{text_checkpoint(name)}{beside}", "threshold": 0.0}
        return {"model": model, **WORDS, **task}
    if name.startswith("sam"):
        return {"model": {"name": str(sam_checkpoint(name))}, "everything": LOOSE}
    return {"model": {"name": name}}


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A portrait of odd sides in files of three channels, of one, and of sixteen bits."""
    folder = tmp_path_factory.mktemp("depths") / "in"
    folder.mkdir()
    grey = np.ascontiguousarray(disc_picture(3, size=61)[:, :43])
    grey = grey if grey.ndim == 2 else np.ascontiguousarray(grey[..., 0])
    deep = grey.astype(np.uint16) * 257
    files = {"a": np.repeat(grey[..., None], 3, axis=2), "b": grey, "c": deep}
    for stem, pixels in files.items():
        cv2.imwrite(str(folder / f"{stem}.png"), pixels)
    cv2.imwrite(str(folder / "d.tif"), deep)
    return folder


def person_graph(folder: Path, data: Path) -> Path:
    """A real graph (MIT): person or not, by sigmoids."""
    graph = data / "weights" / "prisma-unet-portrait" / "model.onnx"
    (folder / "graph").mkdir()
    shutil.copy(graph, folder / "graph")
    settings = {"tasks": ["semantic"], "output": "sigmoid", "input": {"size": [256, 256]}}
    names = (("person", True, "#ff0000"), ("background", False, "#000000"))
    categories = [
        {"id": id_, "name": name, "isthing": thing, "color": color, "is_background": not thing}
        for id_, (name, thing, color) in enumerate(names, start=1)
    ]
    told = json.dumps({**settings, "categories": categories})
    (folder / "graph" / "maskmill.json").write_text(told)
    return folder / "graph"


@pytest.mark.parametrize(
    "name", [*NAMES, "sam", "sam2", "sam_hq", "unet-nuclei", "otsu", "seggpt", "onnx"]
)
def test_they_are_seen_as_eight_bits_of_three(
    name: str, pictures: Path, tmp_path: Path, request: pytest.FixtureRequest
) -> None:
    if name == "onnx":
        graph = person_graph(tmp_path, request.getfixturevalue("shared_data"))
        model: dict[str, Any] = {"model": {"name": str(graph)}}
    else:
        model = asked(name, tmp_path)
    job = {
        "input": {"uri": str(pictures)},
        "output": str(tmp_path / "out"),
        "images": {"stretch_16bit": "full"},
        "execution": {"inline": True},
        **model,
    }
    done = label(JobConfig.parse(job), export=False, report=False)
    assert done.failed == 0
    out = tmp_path / "out"
    images = pq.read_table(out / "images").to_pylist()
    of = {row["image_id"]: row["file_name"] for row in images}
    found: dict[str, list[Any]] = {file: [] for file in of.values()}
    for row in pq.read_table(out / "annotations").to_pylist():
        found[of[row["image_id"]]].append((row["category_id"], row["rle"], row["score"]))
    first, *others = (sorted(found[file], key=str) for file in sorted(found))
    assert first
    assert len(others) == 3
    for other in others:
        assert other == first
