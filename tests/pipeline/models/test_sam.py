"""The family `sam` from checkpoints in the hub's format, through `describe`."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numeric_claims import assert_same_prompted, logits_of_prompt
from tiny_sam import sam_checkpoint, video_checkpoint
from tiny_text import picture

from pipeline.masks import codec
from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.sam import SamSegmenter
from pipeline.models.sam_core.checkpoint import open_sam
from pipeline.models.sam_core.masks import Enlarging
from pipeline.prompts.request import Request
from schemas.config.model import ModelConfig
from schemas.config.prompts import EverythingConfig, PromptsConfig
from schemas.records import Prompt, Segmentation, Task

KINDS = ["sam", "sam_hq", "sam2", "edgetam", "sam3_tracker"]
LOOSE: dict[str, Any] = {
    "points_per_side": 3,
    "pred_iou_thresh": -1,
    "stability_score_thresh": -1,
    "box_nms_thresh": 1,
}
PROMPTS = (
    Prompt(3, bbox_xyxy=(5.0, 6.0, 30.0, 25.0), source_id=9),
    Prompt(1, points_xy=((20.0, 11.0),), inside=(True,), source_id=8),
)


def info_of(kind: str, **asking: Any) -> ModelInfo:
    info = describe(str(sam_checkpoint(kind)))
    return replace(info, asking=Request(**asking))


def labelled(info: ModelInfo, samples: list[Any], task: Task = "instance") -> list[Segmentation]:
    segmenter = SamSegmenter(info, ModelConfig(name="x"), (task,))
    segmenter.load("cpu")
    try:
        return segmenter.segment(samples)
    finally:
        segmenter.close()


@pytest.mark.parametrize("kind", KINDS)
def test_everything_batch_of_one_or_more(kind: str) -> None:
    info = info_of(kind, everything=EverythingConfig(**LOOSE))
    assert info.family == "sam"
    assert [(c.id, c.name, c.isthing) for c in info.categories] == [(1, "object", True)]
    samples = [picture((50, 80), 1), picture((33, 41), 2)]
    both = labelled(info, samples)
    assert [(one.height, one.width) for one in both] == [(50, 80), (33, 41)]
    for sample, together in zip(samples, both, strict=True):
        (alone,) = labelled(info, [sample])
        assert len(together.segments) == len(alone.segments) > 0
        for one, other in zip(together.segments, alone.segments, strict=True):
            assert abs(one.area - other.area) <= 2
            evidence, same = one.evidence, other.evidence
            assert evidence
            assert same
            assert (one.category_id, evidence.point_xy) == (1, same.point_xy)
            assert evidence.predicted_iou == pytest.approx(same.predicted_iou, abs=1e-4)
            assert evidence.crop_xywh == (0, 0, together.width, together.height)
            assert evidence.point_xy is not None
            assert evidence.stability_score is not None
            assert 0 <= (one.score or 0.0) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_keep_order_and_ids(kind: str) -> None:
    samples = [
        replace(picture((50, 80), 1), prompts=PROMPTS),
        picture((33, 41), 2),
        replace(picture((33, 41), 3), prompts=PROMPTS[::-1]),
    ]
    # Random weights may see nothing at a prompt; it then stands for itself, in its place.
    asked = PromptsConfig(stand_in="box")
    first, none, last = labelled(info_of(kind, from_file=True, prompts=asked), samples)
    assert [one.category_id for one in first.segments] == [3, 1]
    assert [one.evidence.source_id for one in last.segments if one.evidence] == [8, 9]
    assert not none.segments
    assert none.failure is None


def test_panoptic_masks_do_not_overlap() -> None:
    info = info_of("sam", everything=EverythingConfig(**LOOSE))
    (found,) = labelled(info, [picture((50, 80), 1)], "panoptic")
    planes = np.stack([codec.decode(one.counts, 50, 80) for one in found.segments])
    assert planes.sum(0).max() == 1


@pytest.mark.parametrize("kind", ["sam2", "edgetam"])
def test_a_checkpoint_for_videos_labels_pictures(kind: str) -> None:
    """SAM 2 and EdgeTAM are published so; what they keep of other frames is left alone."""
    info = info_of(kind, from_file=True)
    video = replace(describe(str(video_checkpoint(kind))), asking=info.asking)
    assert str(video.config["model_type"]).endswith("_video")
    assert video.family == "sam"
    sample = replace(picture((50, 80), 1), prompts=PROMPTS)
    ((one,), (other,)) = labelled(video, [sample]), labelled(info, [sample])
    # The two files lay the weights out unlike, and some sums start where memory is aligned.
    segmenter = SamSegmenter(info, ModelConfig(name="x"), ("instance",))
    segmenter.load("cpu")
    pixels, (frame,) = segmenter._fitter.batch([sample])
    assert segmenter._net is not None
    with torch.inference_mode():
        (encoded,) = segmenter._net.encode(pixels)
    enlarging = Enlarging(frame, segmenter._checkpoint.two_steps)
    assert one.segments
    for found, expected in zip(one.segments, other.segments, strict=True):
        assert found.evidence is not None
        assert found.evidence.prompt_index is not None
        prompt = PROMPTS[found.evidence.prompt_index]
        logits = logits_of_prompt(segmenter._net, encoded, enlarging, prompt)
        assert_same_prompted(found, expected, logits)


def test_load_comes_first() -> None:
    segmenter = SamSegmenter(info_of("sam"), ModelConfig(name="x"), ("instance",))
    with pytest.raises(RuntimeError, match=r"load\(\) has to be called"):
        segmenter.segment([picture((9, 9))])


def test_the_package_s_checkpoint_is_described(tmp_path: Path) -> None:
    config = {"format": "maskmill", "family": "sam", "architecture": {"name": "vit_b"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    (tmp_path / "sam_vit_b.pth").write_bytes(b"weights")
    info = describe(str(tmp_path), allow_pickle=True)
    assert (info.family, info.tasks[0]) == ("sam", "instance")
    checkpoint = open_sam(info, allow_pickle=True)
    assert checkpoint.two_steps
    assert checkpoint.rule.frame((480, 640)).content_hw == (768, 1024)


def test_another_architecture_is_refused(tmp_path: Path) -> None:
    info = replace(info_of("sam"), config={"architecture": {"name": "vit_x"}})
    with pytest.raises(ValueError, match=r"architecture\.name none of vit_b, vit_l, vit_h"):
        open_sam(info)
