"""Families on PyTorch in tiles: tiny random checkpoints, and a real one on real pictures."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import cv2
import numpy as np
import pytest
from tiny_checkpoints import checkpoint

from pipeline.masks.codec import decode
from pipeline.models.checkpoints.families import Segmenter, segmenter_class
from pipeline.models.checkpoints.info import describe
from pipeline.models.grids.outputs import DenseSegmenter
from pipeline.models.tiling.tiled import Tiled
from schemas.config.model import ModelConfig, TilingConfig, TtaConfig
from schemas.records import TASKS, ImageRecord, Sample, Segmentation, Task

SEMANTIC: tuple[Task, ...] = ("semantic",)
ROWS = {"segformer": SEMANTIC, "eomt": TASKS, "mask2former": TASKS, "oneformer": TASKS}
EVERY = pytest.mark.parametrize("name", ROWS)


def model(folder: str, tasks: tuple[Task, ...], **options: object) -> Segmenter:
    info = describe(folder)
    given = ModelConfig.model_validate({"name": folder, **options})
    inner: Segmenter = segmenter_class(info.family)(info, given, tasks)
    inner.load("cpu")
    return inner


def tiled(
    folder: str, tasks: tuple[Task, ...], size: int, overlap: int, **options: object
) -> Tiled:
    return Tiled(
        model(folder, tasks, **options),
        describe(folder),
        tasks,
        options=ModelConfig.model_validate({"name": folder, **options}),
        tiling=TilingConfig(size=size, overlap=overlap),
    )


@cache
def tiny(name: str) -> Tiled:
    """Everything is found: a random network is sure of nothing."""
    return tiled(str(checkpoint(name)), ROWS[name], 64, 24, threshold=0.0, overlap_threshold=0.0)


def sample(pixels: np.ndarray, name: str = "a") -> Sample:
    hw = (pixels.shape[0], pixels.shape[1])
    return Sample(ImageRecord(name, ""), np.ascontiguousarray(pixels), hw)


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def label_map(found: Segmentation, task: Task | None = None) -> np.ndarray:
    """Category ids; refuses overlaps."""
    out = np.zeros((found.height, found.width), int)
    for one in found.segments:
        if one.task == task:
            mask = decode(one.counts, *out.shape) > 0
            assert not out[mask].any(), "segments overlap"
            assert one.area == mask.sum()
            out[mask] = one.category_id
    return out


@EVERY
def test_every_task_is_answered_for_the_whole_picture(name: str) -> None:
    tasks = ROWS[name]
    (found,) = tiny(name).segment([sample(scene(97, 150))])
    assert (found.height, found.width, found.failure) == (97, 150, None)
    only = len(tasks) == 1
    assert {one.task for one in found.segments} == ({None} if only else set(tasks))
    assert (label_map(found, None if only else "semantic") > 0).all()
    if not only:
        assert label_map(found, "panoptic").any()
        assert any(one.bbox_xywh[2] > 64 for one in found.segments if one.task == "instance")
    for one in found.segments:
        assert one.score is not None
        assert 0 <= one.score <= 1


@EVERY
def test_neighbours_and_small_pictures_change_nothing(name: str) -> None:
    samples = [sample(scene(*hw, seed), f"{seed}") for seed, hw in enumerate(((90, 70), (40, 64)))]
    together = tiny(name).segment(samples)
    assert [tiny(name).segment([one])[0] for one in samples] == together
    plain = model(str(checkpoint(name)), ROWS[name], threshold=0.0, overlap_threshold=0.0)
    assert plain.segment([samples[1]]) == [together[1]]


def test_semantic_maps_are_blended_not_cut() -> None:
    """Segments that are cut at the seams of the tiles differ from the blended ones near them."""
    assert isinstance(tiny("segformer")._model, DenseSegmenter)
    picture = sample(scene(110, 110, 5))
    (blended,) = tiny("segformer").segment([picture])
    cut = tiled(str(checkpoint("segformer")), SEMANTIC, 64, 24)
    cut._dense = None
    (hard,) = cut.segment([picture])
    differ = label_map(blended) != label_map(hard)
    assert differ.any()
    # Tiles start at 0, 32 and 64, kept parts meet at 48 and 80, where 24 / 2 pixels are mixed.
    near = np.zeros(110, bool)
    near[42:54] = near[74:86] = True
    assert not differ[~near][:, ~near].any()


def test_views_agree_tile_by_tile() -> None:
    options = {"tta": TtaConfig(flips=("horizontal",)).model_dump()}
    wrapped = tiled(str(checkpoint("segformer")), SEMANTIC, 64, 24, **options)
    (found,) = wrapped.segment([sample(scene(80, 100))])
    agreement = [one.tta_agreement for one in found.segments]
    assert all(value is not None and 0 <= value <= 1 for value in agreement)
    assert (label_map(found) > 0).all()


@pytest.mark.parametrize(
    ("file", "least"),
    [
        ("satellite/loveda/images/0.png", 0.97),
        ("em-membrane/val/images/02.png", 0.99),
        ("photos/coral_cat_720p.jpg", 0.9),
    ],
)
def test_real_pictures_in_tiles_look_as_in_one_piece(
    shared_data: Path, file: str, least: float
) -> None:
    """A net that knows everyday things; a tile shows it them larger, so it cannot be equal."""
    bgr = cv2.imread(str(shared_data / file))
    assert bgr is not None
    picture = sample(bgr[..., ::-1])
    folder = str(shared_data / "weights" / "deeplabv3-mobilenetv2-0.5-voc")
    (whole,) = model(folder, SEMANTIC).segment([picture])
    (found,) = tiled(folder, SEMANTIC, 480, 160).segment([picture])
    assert (label_map(found) == label_map(whole)).mean() >= least
