"""A model that sees tiles answers for the picture."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.masks.codec import decode, encode, regions
from pipeline.models.checkpoints.families import Segmenter, segmenter_class
from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.tiling.tiled import Tiled
from schemas.categories import Categories, Category
from schemas.config.model import ModelConfig, TilingConfig
from schemas.records import (
    TASKS,
    ErrorCode,
    Failure,
    ImageRecord,
    Prompt,
    Sample,
    Segment,
    Segmentation,
    Task,
    answer,
)

CATEGORIES = Categories(
    (
        Category(1, "cell", True, "#ff0000"),
        Category(2, "ground", False, "#000000", is_background=True),
    )
)


def sample(pixels: np.ndarray, name: str = "a", **more: Any) -> Sample:
    hw = (pixels.shape[0], pixels.shape[1])
    return Sample(ImageRecord(name, ""), np.ascontiguousarray(pixels), hw, **more)


def plain(name: str, tasks: tuple[Task, ...], **options: Any) -> Segmenter:
    info = describe(name)
    model = segmenter_class(info.family)(info, ModelConfig(name=name, **options), tasks)
    model.load("cpu")
    return model


def tiled(
    name: str, tasks: tuple[Task, ...], size: int = 64, overlap: int = 24, **options: Any
) -> Tiled:
    return Tiled(
        plain(name, tasks, **options),
        describe(name),
        tasks,
        options=ModelConfig(name=name, **options),
        tiling=TilingConfig(size=size, overlap=overlap),
    )


def masks_of(found: Segmentation) -> list[tuple[Any, int, bytes]]:
    return [(one.task, one.category_id, one.counts) for one in found.segments]


class Shown:
    """A model that answers by a function of the tile, and notes what it is shown."""

    def __init__(self, find: Callable[[Sample], Segmentation]) -> None:
        self.find = find
        self.batches: list[list[Sample]] = []

    def load(self, device: str) -> None:
        self.device = device

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        self.batches.append(list(batch))
        return [self.find(one) for one in batch]

    def close(self) -> None:
        self.device = "closed"


def around(
    model: Shown,
    tasks: tuple[Task, ...] = ("instance",),
    *,
    postprocess: dict[str, float] | None = None,
    size: int = 40,
    overlap: int = 16,
    **options: Any,
) -> Tiled:
    config = {"postprocess": postprocess} if postprocess else {}
    info = ModelInfo("shown", "shown", "", "r", "w", "", tasks, CATEGORIES, config=config)
    return Tiled(
        model,
        info,
        tasks,
        options=ModelConfig(name="shown", **options),
        tiling=TilingConfig(size=size, overlap=overlap),
    )


def red(one: Sample) -> Segmentation:
    """What is bright in the red channel, as one cell."""
    mask = one.pixels[..., 0] > 100
    found = [Segment(1, r.counts, r.area, r.bbox_xywh) for r in regions(mask.astype(np.uint8))]
    return Segmentation(*one.original_hw, tuple(found))


def disc(hw: tuple[int, int], centre: tuple[int, int], radius: int) -> np.ndarray:
    picture = np.full((*hw, 3), 20, np.uint8)
    cv2.circle(picture, centre, radius, (220, 230, 240), -1)
    return picture


def field(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Blurred ellipses of nuclear size on a dark, noisy ground."""
    rng = np.random.default_rng(seed)
    light = np.full((height, width), 12.0)
    for _ in range(height * width // 2500):
        axes = rng.integers(8, 15, 2).tolist()
        centre = rng.integers((0, 0), (width, height)).tolist()
        level = float(rng.uniform(90, 160))
        cv2.ellipse(light, centre, axes, float(rng.uniform(0, 180)), 0, 360, level, cv2.FILLED)
    grey = cv2.GaussianBlur(light, (0, 0), 1.5) + rng.normal(0, 3, light.shape)
    return np.repeat(grey.clip(0, 255).astype(np.uint8)[..., None], 3, 2)


@pytest.mark.parametrize("name", ["otsu", "unet-nuclei"])
def test_a_disc_across_four_tiles_is_one(name: str) -> None:
    picture = cv2.GaussianBlur(disc((96, 96), (48, 48), 20), (0, 0), 1)
    (whole,) = plain(name, TASKS).segment([sample(picture)])
    (found,) = tiled(name, TASKS, overlap=32).segment([sample(picture)])
    count = [sum(one.task == task for one in found.segments) for task in TASKS]
    assert count == [2, 1, 2]
    for one, other in zip(found.segments, whole.segments, strict=True):
        assert (one.task, one.category_id) == (other.task, other.category_id)
        a, b = (decode(each.counts, 96, 96) for each in (one, other))
        assert (a & b).sum() / (a | b).sum() >= (1 if name == "otsu" else 0.97)


@pytest.mark.parametrize("overlap", [16, 24, 40])
def test_otsu_says_the_same_as_of_the_whole(overlap: int) -> None:
    """Its threshold is the picture's, its components are joined: nothing tells the tiles."""
    picture = field(211, 173)
    (whole,) = plain("otsu", TASKS).segment([sample(picture)])
    (found,) = tiled("otsu", TASKS, overlap=overlap).segment([sample(picture)])
    assert sorted(masks_of(found)) == sorted(masks_of(whole))
    assert len(found.segments) > 20


def test_unet_says_nearly_the_same_as_of_the_whole() -> None:
    picture = field(220, 300, seed=1)
    (whole,) = plain("unet-nuclei", ("instance",)).segment([sample(picture)])
    (found,) = tiled("unet-nuclei", ("instance",), 128, 48).segment([sample(picture)])
    truth, ours = ([decode(s.counts, 220, 300) for s in a.segments] for a in (whole, found))
    assert len(ours) == len(truth) > 15
    iou = [[(a & b).sum() / (a | b).sum() for b in truth] for a in ours]
    assert np.max(iou, axis=0).min() > 0.9
    assert np.max(iou, axis=0).mean() > 0.98


@pytest.mark.parametrize("name", ["otsu", "unet-nuclei"])
def test_neighbours_and_batches_change_nothing(name: str) -> None:
    pictures = [field(100, 90), field(40, 50, 1), field(70, 130, 2), field(64, 64, 3)]
    samples = [sample(picture, f"{i}") for i, picture in enumerate(pictures)]
    model = tiled(name, ("panoptic",), batch_size=3)
    together = model.segment(samples)
    assert [(f.height, f.width) for f in together] == [s.original_hw for s in samples]
    assert [model.segment([one])[0] for one in samples] == together
    assert tiled(name, ("panoptic",), batch_size=8).segment(samples[::-1]) == together[::-1]


@pytest.mark.parametrize("hw", [(1, 1), (64, 64), (1, 64), (50, 33)])
def test_a_picture_of_one_tile_goes_through_as_it_is(hw: tuple[int, int]) -> None:
    model = Shown(red)
    one = sample(field(*hw))
    assert around(model, size=64).segment([one]) == [red(one)]
    assert model.batches == [[one]]
    assert model.batches[0][0] is one


def test_prompted_pictures_are_not_cut() -> None:
    model = Shown(red)
    one = sample(field(90, 90), prompts=(Prompt(1, bbox_xyxy=(0, 0, 9, 9)),))
    around(model).segment([one])
    assert model.batches == [[one]]


def test_tiles_of_several_pictures_share_a_batch_and_know_their_picture() -> None:
    model = Shown(red)
    pictures = [disc((64, 64), (32, 32), 20), disc((64, 40), (20, 30), 9)]
    samples = [sample(picture, f"{i}") for i, picture in enumerate(pictures)]
    found = around(model, batch_size=4).segment(samples)
    assert [len(batch) for batch in model.batches] == [4, 2]
    for one in (one for batch in model.batches for one in batch):
        picture = samples[int(one.record.file_name)].pixels
        assert one.whole is picture
        (top, left), (height, width) = one.corner_yx, one.original_hw
        np.testing.assert_array_equal(one.pixels, picture[top : top + height, left : left + width])
    for picture, answered in zip(pictures, found, strict=True):
        (segment,) = answered.segments
        assert segment.counts == encode(picture[..., 0] > 100)


def test_pictures_scaled_down_in_decoding_are_cut_at_full_size() -> None:
    model = Shown(red)
    small = sample(disc((50, 60), (30, 25), 20))
    (found,) = around(model).segment([Sample(small.record, small.pixels, (99, 120))])
    whole = cv2.resize(small.pixels, (120, 99), interpolation=cv2.INTER_LINEAR)
    assert found.segments[0].counts == encode(whole[..., 0] > 100)
    assert (found.height, found.width) == (99, 120)


def test_a_failed_tile_fails_its_picture_alone() -> None:
    def find(one: Sample) -> Segmentation:
        if one.record.file_name == "bad" and one.corner_yx == (24, 0):
            return Segmentation(*one.original_hw, failure=Failure(ErrorCode.MODEL_ERROR, "no room"))
        return red(one)

    picture = disc((64, 64), (32, 32), 20)
    found = around(Shown(find)).segment([sample(picture, "bad"), sample(picture, "good")])
    assert found[0].failure == Failure(ErrorCode.MODEL_ERROR, "tile at x = 0, y = 24: no room")
    assert (found[0].height, found[0].width, found[0].segments) == (64, 64, ())
    assert len(found[1].segments) == 1


def test_each_task_has_its_own_segments() -> None:
    def find(one: Sample) -> Segmentation:
        (cell,) = red(one).segments
        mask = decode(cell.counts, *one.original_hw)
        (r,) = regions(1 - mask)
        ground = Segment(2, r.counts, r.area, r.bbox_xywh)
        return answer(
            *one.original_hw,
            {"semantic": [cell, ground], "instance": [cell], "panoptic": [cell, ground]},
        )

    (found,) = around(Shown(find), TASKS).segment([sample(disc((64, 64), (32, 32), 20))])
    kinds = [(one.task, one.category_id) for one in found.segments]
    assert kinds == [
        ("semantic", 1),
        ("semantic", 2),
        ("instance", 1),
        ("panoptic", 1),
        ("panoptic", 2),
    ]


def test_size_is_judged_once_objects_are_whole() -> None:
    """A box of 30×30 across four tiles of which none sees more than 25×25."""
    picture = np.full((64, 64, 3), 10, np.uint8)
    picture[17:47, 17:47] = 200
    picture[2:7, 2:7] = 200
    model = tiled("otsu", ("instance",), size=40, overlap=16, min_area=800)
    (found,) = model.segment([sample(picture)])
    assert [one.bbox_xywh for one in found.segments] == [(17, 17, 30, 30)]
    model = tiled("otsu", ("instance",), size=40, overlap=16, min_area=901)
    assert model.segment([sample(picture)])[0].segments == ()


def test_a_checkpoint_s_own_limits_hold_for_what_was_stitched() -> None:
    picture = disc((64, 64), (32, 32), 4)
    area = int((picture[..., 0] > 100).sum())
    for least, count in ((area, 1), (area + 1, 0)):
        model = around(Shown(red), postprocess={"min_area": least})
        assert len(model.segment([sample(picture)])[0].segments) == count


def test_loading_and_closing_reach_the_model() -> None:
    model = Shown(red)
    wrapped = around(model)
    wrapped.load("cpu")
    assert model.device == "cpu"
    wrapped.close()
    assert model.device == "closed"
