"""SAM's masks of everything get the names of what they look like."""

from __future__ import annotations

import json
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
import torch
import transformers
from pycocotools import mask as coco_mask
from tiny_embedders import EASY, named_info
from tiny_text import picture

from pipeline.masks.codec import bbox_xywh, decode, encode, from_coco
from pipeline.models.checkpoints.hf_preprocessor import EmbedderInput
from pipeline.models.embedder import EmbedderSegmenter
from pipeline.prompts.request import Exemplar, read_exemplars, window_of
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig, EverythingConfig
from schemas.prompts import Ontology
from schemas.records import ImageRecord, Sample, Segment

OPTIONS = ModelConfig(name="x", threshold=0.0)
THINGS = Ontology.parse(
    {
        "category": [
            {"name": "cat"},
            {"name": "red car", "prompts": ["red car", "a car that is red"]},
            {"name": "road", "isthing": False},
            {"name": "sky", "isthing": False},
        ]
    }
)
OFF = ConflictsConfig(nms_iou=1, nms_ios=1)


def loaded(*args: Any, tasks: Any = ("instance",), options: ModelConfig = OPTIONS, **more: Any):
    model = EmbedderSegmenter(named_info(*args, **more), options, tasks)
    model.load("cpu")
    return model


def exemplar_of(sample: Sample, box: tuple[int, int, int, int], category: str) -> Exemplar:
    x, y, w, h = box
    xyxy = (float(x), float(y), float(x + w), float(y + h))
    return Exemplar("e", category, sample.pixels, xyxy, "0", box)


def test_all_masks_of_sam_get_a_name_and_keep_their_evidence() -> None:
    sample = picture((60, 80))
    model = loaded("clip", THINGS, conflicts=OFF, rivals=[])
    (found,) = model.segment([sample])
    (plain,) = model._sam.segment([sample])
    assert len(found.segments) == len(plain.segments) > 10
    own = {(one.counts, one.area, one.evidence) for one in plain.segments}
    assert {(one.counts, one.area, one.evidence) for one in found.segments} == own
    texts = {text: id_ for item, id_ in zip(THINGS.category, THINGS.ids(), strict=True)
             for text in item.phrases}  # fmt: skip
    for one in found.segments:
        assert texts[one.prompt or ""] == one.category_id
        assert 0 < (one.score or 0) <= 1
    order = [(one.category_id, -(one.score or 0)) for one in found.segments]
    assert order == sorted(order)


def test_what_fits_nothing_is_dropped_or_kept_as_object() -> None:
    strict = ModelConfig(name="x", threshold=1.0)
    batch = [picture((60, 80)), picture((33, 50), 1)]
    dropped = loaded("siglip", THINGS, options=strict).segment(batch)
    assert [one.segments for one in dropped] == [(), ()]
    model = loaded("siglip", THINGS, options=strict, keep_unnamed=True)
    kept = model.segment(batch)
    plain = model._sam.segment(batch)
    for one, other in zip(kept, plain, strict=True):
        assert [each.category_id for each in one.segments] == [5] * len(other.segments)
        assert [replace(each, category_id=1) for each in one.segments] == list(other.segments)


def test_a_name_goes_before_none_where_masks_must_not_overlap() -> None:
    sample = picture((60, 80))
    half = ModelConfig(name="x", threshold=0.9)
    model = loaded(
        "clip", THINGS, tasks=("panoptic",), options=half, keep_unnamed=True, rivals=["a", "b"]
    )
    (found,) = model.segment([sample])
    covered = np.zeros((60, 80), int)
    for one in found.segments:
        covered += coco_mask.decode({"size": [60, 80], "counts": one.counts})
    assert covered.max() == 1
    stuff = Counter(one.category_id for one in found.segments if one.category_id in (3, 4))
    assert all(count == 1 for count in stuff.values())


def test_an_object_is_nearest_to_itself_among_all_of_the_photos(
    shared_data: Path, tmp_path: Path
) -> None:
    """A random network tells what is the same; what is alike needs a trained one."""
    folder = shared_data / "coco-photos"
    truth = json.loads((folder / "instances.json").read_text())
    files = {each["id"]: each["file_name"] for each in truth["images"][:8]}
    chosen = [
        each
        for each in truth["annotations"]
        if each["image_id"] in files and not each["iscrowd"] and each["area"] > 2000
    ]
    photos = {id_: read(folder / "images" / name) for id_, name in files.items()}
    masks: list[tuple[Sample, Segment]] = []
    shown: list[tuple[Sample, Segment]] = []
    for each in chosen:
        sample = photos[each["image_id"]]
        counts = from_coco(each["segmentation"], *sample.original_hw)
        masks.append((sample, segment_of(decode(counts, *sample.original_hw))))
        box = masks[-1][1].bbox_xywh
        where = ",".join(str(value) for value in box)
        name = folder / "images" / files[each["image_id"]]
        (one,) = read_exemplars(job(f"{name}:{where}=x"), Storage())
        window = Sample(sample.record, one.pixels, one.pixels.shape[:2])  # pyright: ignore
        left, top, right, bottom = window_of(box, sample.original_hw, margin=0.1)
        part = decode(counts, *sample.original_hw)[top:bottom, left:right]
        assert part.shape == window.original_hw
        shown.append((window, segment_of(part)))
    model = loaded("clip", THINGS)
    likeness = (model._embedded(shown) @ model._embedded(masks).T).numpy()
    assert len(masks) > 15
    assert likeness.argmax(1).tolist() == list(range(len(masks)))
    np.testing.assert_allclose(np.diag(likeness), 1, atol=1e-4)


def test_nothing_is_found_in_nothing() -> None:
    none = EverythingConfig(points_per_side=4, pred_iou_thresh=1.0, stability_score_thresh=1.0)
    model = loaded("clip", THINGS, everything=none)
    assert [one.segments for one in model.segment([picture((40, 40))])] == [()]
    assert model.segment([]) == []


def test_a_picture_is_encoded_once_and_crops_go_one_by_one_on_a_cpu() -> None:
    model = loaded("clip", THINGS, [exemplar_of(picture((40, 40)), (3, 3, 20, 20), "e")])
    encoded: list[int] = []
    seen: list[int] = []
    sam: Any = model._sam
    sam._net.encode = _counted(sam._net.encode, encoded)
    model._embedder.pictures = _counted(model._embedder.pictures, seen)
    found = model.segment([picture((40, 50)), picture((50, 40), 1)])
    assert sum(encoded) == 2
    assert set(seen) == {2}  # the views of one mask
    assert len(seen) >= sum(len(one.segments) for one in found)


def _counted(function: Any, calls: list[int]) -> Any:
    def counting(pixels: Any) -> Any:
        calls.append(len(pixels))
        return function(pixels)

    return counting


def test_it_has_to_be_loaded() -> None:
    model = EmbedderSegmenter(named_info("clip", THINGS), OPTIONS, ("instance",))
    with pytest.raises(RuntimeError, match="load"):
        model.segment([picture((20, 20))])
    alone = replace(named_info("clip", THINGS), partner=None)
    with pytest.raises(ValueError, match="name a SAM before it"):
        EmbedderSegmenter(alone, OPTIONS, ("instance",))


def job(*texts: str) -> JobConfig:
    return JobConfig.parse(
        {
            "input": {"uri": "in"},
            "output": "out",
            "model": {"name": "m"},
            "prompts": {"exemplars": list(texts)},
        }
    )


class Trained:
    """In an embedder's place: the backbone of a real DeepLab, which has seen the world."""

    rule = EmbedderInput(160, "bicubic", (0.5, 0.5, 0.5), (0.5, 0.5, 0.5))
    scale, bias = 1.0, 0.0

    def __init__(self, shared_data: Path) -> None:
        folder = shared_data / "weights" / "deeplabv3-mobilenetv2-1.0-voc"
        model: Any = transformers.AutoModelForSemanticSegmentation.from_pretrained(folder)
        self._network = model.eval().mobilenet_v2

    def load(self, device: str) -> None: ...

    def texts(self) -> torch.Tensor:
        return torch.zeros(0, 0)

    def pictures(self, pixels: torch.Tensor) -> torch.Tensor:
        seen = self._network(pixels, output_hidden_states=True).hidden_states[-1]
        return torch.nn.functional.normalize(seen.mean((2, 3)), dim=-1)


def nuclei(shared_data: Path, place: int) -> tuple[Path, np.ndarray]:
    """A picture of the test split, and the label map of its nuclei."""
    root = shared_data / "nuclei-dsb2018"
    rows = [
        each
        for each in json.loads((root / "index.json").read_text())["images"]
        if (each["split"], each["kind"], each["height"]) == ("test", "fluorescence", 256)
        and 8 <= each["nuclei"] <= 30
    ]
    label = cv2.imread(str(root / rows[place]["label"]), cv2.IMREAD_UNCHANGED)
    assert label is not None
    return root / rows[place]["image"], label


def test_one_nucleus_finds_nuclei_and_no_ground(shared_data: Path) -> None:
    path, label = nuclei(shared_data, 4)
    values, areas = np.unique(label[label > 0], return_counts=True)
    own = label == values[np.argsort(areas)[len(areas) // 2]]
    x, y, w, h = cv2.boundingRect(own.astype(np.uint8))
    shown = read_exemplars(job(f"{path}:{x},{y},{w},{h}=nucleus"), Storage())
    grid = EASY.model_copy(
        update={"points_per_side": 16, "pred_iou_thresh": 0.6, "stability_score_thresh": 0.6}
    )
    sam = shared_data / "weights" / "sam-nuclei-tiny"
    info = named_info("dinov2", None, shown, sam=sam, everything=grid, similarity=0.72)
    model = EmbedderSegmenter(info, OPTIONS, ("instance",))
    trained: Any = Trained(shared_data)
    model._embedder = trained
    model.load("cpu")
    sample = read(path)
    (found,) = model.segment([sample])
    size = list(label.shape)
    painted = [coco_mask.decode({"size": size, "counts": s.counts}) > 0 for s in found.segments]
    hits = sum(bool((label[mask] > 0).mean() > 0.5) for mask in painted)
    assert hits >= 5
    assert hits >= 0.8 * len(painted)
    best = painted[int(np.argmax([s.score or 0 for s in found.segments]))]
    assert (best & own).sum() / (best | own).sum() > 0.5
    ground = []
    for top, left in product(range(0, 232, 48), repeat=2):
        patch = np.zeros(label.shape, np.uint8)
        patch[top : top + 24, left : left + 24] = 1
        if not label[patch > 0].any():
            ground.append((sample, segment_of(patch)))
    assert len(ground) > 5
    assert float((model._embedded(ground) @ model._shown.T).max()) < 0.72


def read(path: Path) -> Sample:
    picture = cv2.imread(str(path))
    assert picture is not None
    pixels = np.ascontiguousarray(picture[..., ::-1], np.uint8)
    return Sample(ImageRecord(path.name, ""), pixels, (pixels.shape[0], pixels.shape[1]))


def segment_of(mask: np.ndarray) -> Segment:
    counts = encode(mask)
    return Segment(1, counts, int(mask.sum()), bbox_xywh(counts, *mask.shape))


@pytest.mark.gpu
def test_a_gpu_names_as_a_cpu_does() -> None:
    exact = ModelConfig(name="x", threshold=0.0, dtype="float32")
    shown = [exemplar_of(picture((40, 40)), (3, 3, 20, 20), "e")]
    batch = [picture((60, 80)), picture((33, 50), 1), picture((33, 50), 2)]
    found = []
    for device in ("cpu", "cuda"):
        model = EmbedderSegmenter(
            named_info("clip", THINGS, shown, conflicts=OFF), exact, ("instance",)
        )
        model.load(device)
        found.append([one for each in model.segment(batch) for one in each.segments])
        model.close()
    cpu, cuda = (
        {(one.category_id, one.bbox_xywh): one.score or 0.0 for one in each} for each in found
    )
    assert len(cpu.keys() & cuda.keys()) >= 0.95 * len(cpu)
    for key in cpu.keys() & cuda.keys():
        assert cuda[key] == pytest.approx(cpu[key], abs=0.01)
