"""What every model asked by text promises, whatever SAM is beside it: whole jobs, tiny networks."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow.parquet as pq
import pytest
import segment_anything
import torch
from tiny_sam import package_checkpoint, package_of_full_size, sam_checkpoint
from tiny_text import picture, text_checkpoint, text_info

from pipeline.engine.resolve import resolve_model
from pipeline.engine.run import label
from pipeline.models.checkpoints.families import segmenter_class
from pipeline.storage.storage import Storage
from pipeline.validation.validate import validate
from schemas.config.job import JobConfig
from schemas.config.model import ModelConfig
from schemas.prompts import Ontology

PROMPTS = ("cat", "dog", "red car")
DETECTORS = ("grounding-dino", "mm-grounding-dino", "omdet-turbo", "owlv2")
SAMS = ("package", "sam", "sam_hq", "sam2", "edgetam")
PAIRS = [*(("grounding-dino", sam) for sam in SAMS), *((name, "sam") for name in DETECTORS[1:])]
EVERY = pytest.mark.parametrize(("detector", "sam"), [*PAIRS, ("sam3", "")])
SIZES = ((48, 60), (61, 37))


@pytest.fixture(scope="module")
def package() -> Path:
    return package_checkpoint()


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for number, hw in enumerate(SIZES):
        cv2.imwrite(str(tmp_path / f"in/{number}.png"), picture(hw, number).pixels)
    return tmp_path / "in"


@pytest.fixture
def model(
    request: pytest.FixtureRequest, detector: str, sam: str, monkeypatch: pytest.MonkeyPatch
) -> str:
    """As in `--model`."""
    first = text_checkpoint(detector)
    if not sam:
        return str(first)
    if sam == "package":
        monkeypatch.setitem(segment_anything.sam_model_registry, "vit_b", package_of_full_size)
        return f"{first}+{request.getfixturevalue('package')}"
    return f"{first}+{sam_checkpoint(sam)}"


def job(pictures: Path, model: str, **more: Any) -> JobConfig:
    conflicts = {"nms_iou": 1, "nms_ios": 1, **more.pop("conflicts", {})}
    return JobConfig.parse(
        {
            "input": {"uri": str(pictures)},
            "output": str(pictures.parent / "out"),
            "model": {"name": model, "threshold": 0.0, "allow_pickle": True},
            "prompts": {"text": PROMPTS},
            "conflicts": conflicts,
            "execution": {"inline": True},
            **more,
        }
    )


def rows(out: Path, table: str) -> list[dict[str, Any]]:
    parts = json.loads((out / "manifest.json").read_bytes())["parts"]
    return [
        row
        for part in parts
        for row in pq.read_table(out / table / f"{part['name']}.parquet").to_pylist()
    ]


@EVERY
def test_every_mask_names_the_prompt_that_its_category_is_of(
    pictures: Path, model: str, detector: str, sam: str
) -> None:
    done = label(job(pictures, model), report=False)
    out = pictures.parent / "out"
    assert done.failed == 0
    assert [row["status"] for row in rows(out, "images")] == ["ok", "ok"]
    found = rows(out, "annotations")
    ids = {name: id_ for id_, name in enumerate(PROMPTS, start=1)}
    assert found
    for row in found:
        assert (row["category"], row["category_id"]) == (row["prompt"], ids[row["prompt"]])
        assert 0 <= row["score"] <= 1
        assert row["area"] > 0
        assert row["model"].startswith(detector)
        assert ("+" in row["model"]) == bool(sam)
        if sam:
            x, y, width, height = row["prompt_bbox_xywh"]
            assert min(x, y) >= 0 < min(width, height)
            assert row["predicted_iou"] is not None
    assert not validate(str(out)).violations
    coco = json.loads((out / "exports/coco/instances.json").read_bytes())
    assert {each["name"]: each["id"] for each in coco["categories"]} == ids
    assert len(coco["annotations"]) == len(found)


@EVERY
def test_panoptic_leaves_no_overlap_and_is_exported(
    pictures: Path, model: str, detector: str, sam: str
) -> None:
    config = job(pictures, model, task="panoptic", conflicts={"non_overlap": True})
    done = label(config, report=False)
    out = pictures.parent / "out"
    assert done.failed == 0
    assert not validate(str(out)).violations
    panoptic = json.loads((out / "exports/coco/panoptic.json").read_bytes())
    areas = dict.fromkeys((row["image_id"] for row in rows(out, "images")), 0)
    for row in rows(out, "annotations"):
        areas[row["image_id"]] += row["area"]
    sides = {row["image_id"]: row["width"] * row["height"] for row in rows(out, "images")}
    assert any(areas.values())
    assert all(area <= sides[id_] for id_, area in areas.items())
    written = sum(len(each["segments_info"]) for each in panoptic["annotations"])
    assert written == len(rows(out, "annotations"))
    for each in panoptic["annotations"]:
        png = cv2.imread(str(out / "exports/coco/panoptic" / each["file_name"]))
        assert png is not None
        painted = png[..., ::-1].astype(np.int64) @ [1, 256, 65536]
        assert {int(value) for value in np.unique(painted)} - {0} == {
            one["id"] for one in each["segments_info"]
        }


@EVERY
def test_panoptic_without_it_names_the_key_before_the_first_picture(
    pictures: Path, model: str, detector: str, sam: str
) -> None:
    with pytest.raises(ValueError, match=r"conflicts\.non_overlap: .*'panoptic'"):
        resolve_model(job(pictures, model, task="panoptic"), Storage())


@pytest.mark.parametrize("detector", DETECTORS)
@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.gpu),
    ],
)
def test_every_device_sees_the_same_boxes_with_the_same_scores(
    detector: str, device: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.backends.cudnn, "allow_tf32", False)
    info = text_info(detector, Ontology.of_prompts(PROMPTS))
    options = ModelConfig(name="x", threshold=0.0, dtype="float32")
    found, given = [], None
    for place in ("cpu", device):
        model: Any = segmenter_class(info.family)(info, options, ("instance",))
        model.load(place)
        # One input for both: a GPU resizes with other roundings, which random nets make much of.
        given = given or model._shared._fitter.batch([picture(hw) for hw in ((64, 80), (64, 80))])
        pixels, frames = given
        with torch.inference_mode():
            found.append(model._shared._finder.find(pixels.to(place), frames))
        model.close()
    for one, other in zip(*found, strict=True):
        assert one.scores.shape == other.scores.shape
        np.testing.assert_allclose(one.scores, other.scores, atol=1e-3)
        np.testing.assert_allclose(one.boxes_xyxy, other.boxes_xyxy, atol=0.1)
