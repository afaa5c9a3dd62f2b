"""What every family on PyTorch promises: tiny random checkpoints, described and loaded for real."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tiny_checkpoints import checkpoint

from pipeline.images.decode import decode_image
from pipeline.models.checkpoints.families import Segmenter, segmenter_class
from pipeline.models.checkpoints.info import ModelInfo, describe
from schemas.config.images import ImagesConfig
from schemas.config.model import ModelConfig
from schemas.records import TASKS, ImageRecord, Sample, Segment, Segmentation, Task

ALL: tuple[Task, ...] = TASKS
SEMANTIC: tuple[Task, ...] = ("semantic",)
INSTANCE: tuple[Task, ...] = ("instance",)
ROWS: dict[str, tuple[str, tuple[Task, ...]]] = {
    "beit": ("semantic", SEMANTIC),
    "data2vec": ("semantic", SEMANTIC),
    "detr": ("detr", ALL),
    "dpt": ("semantic", SEMANTIC),
    "eomt": ("eomt", ALL),
    "eomt-dinov3": ("eomt", ALL),
    "eomt-windows": ("eomt", SEMANTIC),
    "lraspp": ("torchvision-semantic", SEMANTIC),
    "mask2former": ("mask2former", ALL),
    "maskformer": ("mask2former", ALL),
    "maskrcnn": ("maskrcnn", INSTANCE),
    "mobilenetv2": ("semantic", SEMANTIC),
    "mobilevit": ("semantic", SEMANTIC),
    "oneformer": ("oneformer", ALL),
    "oneformer-dinat": ("oneformer", ALL),
    "rf-detr": ("rf-detr", INSTANCE),
    "sapiens2": ("semantic", SEMANTIC),
    "segformer": ("semantic", SEMANTIC),
    "smp-unet": ("smp", SEMANTIC),
    "tipsv2-dpt": ("semantic", SEMANTIC),
    "upernet": ("semantic", SEMANTIC),
    "videomt": ("videomt", ALL),
}
"""Name in tests/support/tiny_checkpoints.py → family and the tasks that it answers."""

EVERY = pytest.mark.parametrize("name", ROWS)
SEVERAL = pytest.mark.parametrize(
    "name", [name for name, (_, tasks) in ROWS.items() if tasks == ALL]
)
FINDS_ALL = {"threshold": 0.0, "overlap_threshold": 0.0}
"""A random network is sure of nothing: what it finds is taken all the same."""


@cache
def described(name: str) -> ModelInfo:
    return describe(str(checkpoint(name)))


def loaded(name: str, tasks: tuple[Task, ...], **options: object) -> Segmenter:
    info = described(name)
    given = ModelConfig.model_validate({"name": info.folder, **FINDS_ALL, **options})
    model: Segmenter = segmenter_class(info.family)(info, given, tasks)
    model.load("cpu")
    return model


@cache
def segmenter(name: str, tasks: tuple[Task, ...]) -> Segmenter:
    return loaded(name, tasks)


def sample(picture: np.ndarray, name: str = "a") -> Sample:
    height, width = picture.shape[:2]
    return Sample(ImageRecord(name, ""), np.ascontiguousarray(picture), (height, width))


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft coloured blots."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


@cache
def odd_samples() -> tuple[Sample, ...]:
    """Sizes that no stride divides."""
    pictures = [
        scene(96, 131),
        scene(77, 48, seed=1),
        scene(33, 50, seed=2),
        np.zeros((1, 1, 3), np.uint8),
        np.full((1, 1, 3), 255, np.uint8),
        scene(1, 37, seed=3),
        scene(53, 1, seed=4),
        scene(2, 3, seed=5),
        scene(150, 70, seed=6),
        np.full((31, 17, 3), (255, 0, 0), np.uint8),
    ]
    return tuple(sample(picture, f"{i}.png") for i, picture in enumerate(pictures))


@cache
def odd_answers(name: str) -> tuple[Segmentation, ...]:
    """All tasks at once, all pictures at once."""
    return tuple(segmenter(name, ROWS[name][1]).segment(odd_samples()))


def of_task(name: str, found: Segmentation, task: Task) -> list[Segment]:
    if len(ROWS[name][1]) == 1:
        assert all(segment.task is None for segment in found.segments)
        return list(found.segments)
    return [replace(segment, task=None) for segment in found.segments if segment.task == task]


def mask_of(segment: Segment, hw: tuple[int, int]) -> np.ndarray:
    return coco_mask.decode({"size": list(hw), "counts": segment.counts})


def answers(name: str, task: Task) -> Sequence[tuple[tuple[int, int], list[Segment]]]:
    """(size of a picture, its segments) of every odd picture."""
    return [
        (source.original_hw, of_task(name, found, task))
        for source, found in zip(odd_samples(), odd_answers(name), strict=True)
    ]


@EVERY
def test_a_checkpoint_is_described_by_its_files(name: str):
    family, tasks = ROWS[name]
    info = described(name)
    assert info.family == family
    assert set(info.tasks) == set(tasks)
    assert len(info.category_ids) == len(info.config.get("id2label", info.category_ids)) > 1
    assert {id_ for id_ in info.category_ids if id_} <= set(info.categories.by_id())


@EVERY
def test_one_answer_a_picture_in_the_same_order(name: str):
    found = odd_answers(name)
    assert [(f.height, f.width) for f in found] == [s.original_hw for s in odd_samples()]
    assert all(f.failure is None for f in found)
    assert segmenter(name, ROWS[name][1]).segment([]) == []
    order = [TASKS.index(segment.task) for f in found for segment in f.segments if segment.task]
    assert len(ROWS[name][1]) == 1 or set(order) == {0, 1, 2}
    for one in found:
        tasks = [segment.task for segment in one.segments]
        assert tasks == sorted(tasks, key=lambda task: TASKS.index(task) if task else 0)


@EVERY
def test_the_networks_find_something(name: str):
    """Or the rest of this file would prove nothing."""
    for task in ROWS[name][1]:
        per_picture = [segments for _, segments in answers(name, task)]
        assert sum(map(bool, per_picture)) >= len(per_picture) / 2, task
        assert len({segment.counts for segments in per_picture for segment in segments}) > 5


@EVERY
def test_masks_areas_and_boxes_are_those_of_pycocotools(name: str):
    known = described(name).categories.by_id()
    for task in ROWS[name][1]:
        for hw, segments in answers(name, task):
            for segment in segments:
                mask = mask_of(segment, hw)
                rle = coco_mask.encode(np.asfortranarray(mask))
                assert segment.counts == rle["counts"]
                assert isinstance(segment.counts, bytes)
                assert segment.area == int(coco_mask.area(rle)) >= 1
                assert list(segment.bbox_xywh) == coco_mask.toBbox(rle).tolist()
                assert all(type(value) is int for value in (segment.area, *segment.bbox_xywh))
                assert segment.category_id in known
                assert segment.score is None or 0 <= segment.score <= 1
                assert segment.score is None or type(segment.score) is float


@EVERY
def test_what_each_task_promises(name: str):
    table = described(name).categories.by_id()
    for task in ROWS[name][1]:
        for hw, segments in answers(name, task):
            if task == "instance":
                assert all(table[segment.category_id].isthing for segment in segments)
                continue
            covered = sum((mask_of(s, hw).astype(int) for s in segments), np.zeros(hw, int))
            assert covered.max() <= 1, "segments overlap"
            assert task == "panoptic" or covered.min() == 1, "a pixel is nobody's"
            ids = [segment.category_id for segment in segments]
            single = ids if task == "semantic" else [id_ for id_ in ids if not table[id_].isthing]
            assert len(set(single)) == len(single), "one segment a category"


@EVERY
def test_a_picture_does_not_see_its_neighbours(name: str):
    model = segmenter(name, ROWS[name][1])
    alone = [model.segment([one])[0] for one in odd_samples()]
    assert alone == list(odd_answers(name))
    mixed = [odd_samples()[i] for i in (1, 0, 5, 1)]
    assert model.segment(mixed) == [alone[i] for i in (1, 0, 5, 1)]


@cache
def deep_and_grey() -> tuple[Sample, ...]:
    """One grey portrait of odd sides, read from files of three channels, of one, and of 16 bits."""
    grey = np.ascontiguousarray(scene(61, 43)[..., 0])
    files = (np.repeat(grey[..., None], 3, axis=2), grey, grey.astype(np.uint16) * 257)
    config = ImagesConfig(stretch_16bit="full")
    found = [
        decode_image(cv2.imencode(".png", one)[1].tobytes(), ImageRecord("a", ""), config)
        for one in files
    ]
    return tuple(one for one in found if isinstance(one, Sample))


@EVERY
def test_one_channel_and_sixteen_bits_are_seen_as_eight_bits_of_three(name: str):
    model = segmenter(name, ROWS[name][1])
    colour, grey, deep = (model.segment([one])[0] for one in deep_and_grey())
    assert colour.segments
    assert (colour.height, colour.width) == (61, 43)
    assert grey == colour
    assert deep == colour


@SEVERAL
def test_a_task_alone_finds_what_it_finds_among_others(name: str):
    some = odd_samples()[:3]
    for task in TASKS:
        found = segmenter(name, (task,)).segment(some)
        expected = [of_task(name, one, task) for one in odd_answers(name)[:3]]
        assert [list(one.segments) for one in found] == expected


@EVERY
def test_a_second_model_says_the_same_and_leaves_pixels_as_they_were(name: str):
    some = odd_samples()[:2]
    before = [one.pixels.copy() for one in some]
    fresh = loaded(name, ROWS[name][1], batch_size=2)
    assert fresh.segment(some) == list(odd_answers(name)[:2])
    for one, pixels in zip(some, before, strict=True):
        np.testing.assert_array_equal(one.pixels, pixels)
    fresh.close()
    with pytest.raises(RuntimeError, match="load"):
        fresh.segment(some)


@EVERY
def test_pictures_scaled_in_decoding_have_masks_of_the_original_size(name: str):
    hw = (193, 261)
    whole = cv2.resize(scene(24, 33), hw[::-1], interpolation=cv2.INTER_CUBIC)
    small = cv2.resize(whole, (131, 97), interpolation=cv2.INTER_AREA)
    model = segmenter(name, ROWS[name][1])
    (found,) = model.segment([replace(sample(small), original_hw=hw)])
    assert (found.height, found.width) == hw
    assert found.failure is None
    for segment in found.segments:
        assert mask_of(segment, hw).shape == hw


@EVERY
@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_operation_exists_in_reduced_precision(name: str, dtype: str):
    found = loaded(name, ROWS[name][1], dtype=dtype).segment(odd_samples()[:1])
    assert found[0].failure is None
    assert found[0].segments


@EVERY
def test_mirrored_views_are_merged_for_every_task(name: str):
    model = loaded(name, ROWS[name][1], tta={"flips": ["horizontal"]})
    first, second = odd_samples()[:2]
    found = model.segment([first, second])
    assert model.segment([second]) == found[1:]
    agreements = [segment.tta_agreement for one in found for segment in one.segments]
    assert all(value is not None and 0 <= value <= 1 for value in agreements)
    assert any(value is not None and value < 1 for value in agreements)
    plain = odd_answers(name)[:2]
    assert all(segment.tta_agreement is None for one in plain for segment in one.segments)
    assert found != list(plain)
