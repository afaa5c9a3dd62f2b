"""What a SAM with an embedder promises, of whatever make the two are."""

from __future__ import annotations

import pickle
from dataclasses import replace
from functools import cache

import cv2
import numpy as np
import pytest
from pycocotools import mask as coco_mask
from tiny_embedders import BUILDERS, named_info
from tiny_sam import sam_checkpoint

from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.embedder import EmbedderSegmenter
from pipeline.prompts.request import Exemplar
from schemas.config.model import ModelConfig
from schemas.prompts import Ontology
from schemas.records import ImageRecord, Sample, Segmentation, Task

TASKS: tuple[Task, ...] = ("instance", "panoptic")
ROWS = [*((name, "sam") for name in BUILDERS), ("clip", "sam2"), ("dinov2", "sam_hq")]
EVERY = pytest.mark.parametrize(("name", "sam"), ROWS)
WORDS = Ontology.parse(
    {"category": [{"name": "cat"}, {"name": "car"}, {"name": "sky", "isthing": False}]}
)


def scene(height: int, width: int, seed: int = 0) -> np.ndarray:
    """Soft coloured blots."""
    rng = np.random.default_rng(seed)
    small = rng.integers(0, 256, (max(height // 16, 2), max(width // 16, 2), 3), np.uint8)
    return cv2.resize(small, (width, height), interpolation=cv2.INTER_CUBIC)


def sample(picture: np.ndarray) -> Sample:
    height, width = picture.shape[:2]
    return Sample(ImageRecord("a", ""), np.ascontiguousarray(picture), (height, width))


@cache
def odd_samples() -> tuple[Sample, ...]:
    """Sizes that no stride divides."""
    hws = [(96, 131), (77, 48), (1, 1), (1, 37), (53, 1), (2, 3)]
    return tuple(sample(scene(*hw, seed)) for seed, hw in enumerate(hws))


def described(name: str, sam: str) -> ModelInfo:
    shown = Exemplar("e", "thing", scene(40, 50, 9), (5, 5, 30, 30), "0", (5, 5, 25, 25))
    words = None if name == "dinov2" else WORDS
    return named_info(name, words, [shown], sam=sam_checkpoint(sam), keep_unnamed=True)


def loaded(name: str, sam: str, **options: object) -> EmbedderSegmenter:
    given = ModelConfig.model_validate({"name": "x", "threshold": 0.2, **options})
    model = EmbedderSegmenter(described(name, sam), given, TASKS)
    model.load("cpu")
    return model


@cache
def segmenter(name: str, sam: str) -> EmbedderSegmenter:
    return loaded(name, sam)


@cache
def odd_answers(name: str, sam: str) -> tuple[Segmentation, ...]:
    return tuple(segmenter(name, sam).segment(odd_samples()))


@EVERY
def test_one_answer_a_picture_in_the_same_order(name: str, sam: str) -> None:
    found = odd_answers(name, sam)
    assert [(f.height, f.width) for f in found] == [s.original_hw for s in odd_samples()]
    assert all(f.failure is None for f in found)
    assert any(f.segments for f in found)


@EVERY
def test_masks_areas_and_boxes_are_those_of_pycocotools(name: str, sam: str) -> None:
    known = described(name, sam).categories.by_id()
    for source, found in zip(odd_samples(), odd_answers(name, sam), strict=True):
        for segment in found.segments:
            mask = coco_mask.decode({"size": list(source.original_hw), "counts": segment.counts})
            rle = coco_mask.encode(np.asfortranarray(mask))
            assert segment.counts == rle["counts"]
            assert segment.area == int(coco_mask.area(rle)) >= 1
            assert list(segment.bbox_xywh) == coco_mask.toBbox(rle).tolist()
            assert segment.category_id in known
            assert type(segment.score) is float
            assert 0 <= segment.score <= 1
            assert (segment.prompt is None) == (known[segment.category_id].name == "object")


@EVERY
def test_panoptic_answers_do_not_overlap_and_have_one_segment_a_stuff(name: str, sam: str) -> None:
    table = described(name, sam).categories.by_id()
    for source, found in zip(odd_samples(), odd_answers(name, sam), strict=True):
        covered = np.zeros(source.original_hw, int)
        own = [segment for segment in found.segments if segment.task == "panoptic"]
        for segment in own:
            covered += coco_mask.decode({"size": list(covered.shape), "counts": segment.counts})
        assert covered.max(initial=0) <= 1
        stuff = [each.category_id for each in own if not table[each.category_id].isthing]
        assert len(set(stuff)) == len(stuff)


@EVERY
def test_a_picture_does_not_see_its_neighbours(name: str, sam: str) -> None:
    alone = [segmenter(name, sam).segment([one])[0] for one in odd_samples()]
    assert alone == list(odd_answers(name, sam))


@EVERY
def test_another_process_says_the_same(name: str, sam: str) -> None:
    info = pickle.loads(pickle.dumps(described(name, sam)))
    given = ModelConfig(name="x", threshold=0.2, batch_size=2)
    fresh = EmbedderSegmenter(info, given, TASKS)
    fresh.load("cpu")
    assert fresh.segment(odd_samples()[:2]) == list(odd_answers(name, sam)[:2])
    fresh.close()
    with pytest.raises(RuntimeError, match="load"):
        fresh.segment(odd_samples()[:1])


@EVERY
def test_pictures_scaled_in_decoding_have_masks_of_the_original_size(name: str, sam: str) -> None:
    hw = (193, 261)
    small = sample(scene(97, 131))
    (found,) = segmenter(name, sam).segment([replace(small, original_hw=hw)])
    assert (found.height, found.width) == hw
    assert found.failure is None


@pytest.mark.parametrize("dtype", ["bfloat16", "float16"])
def test_every_operation_exists_in_reduced_precision(dtype: str) -> None:
    found = loaded("clip", "sam", dtype=dtype).segment(odd_samples()[:1])
    assert found[0].failure is None
