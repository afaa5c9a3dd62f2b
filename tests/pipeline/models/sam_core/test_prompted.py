"""Points and boxes: one segment a prompt, in the order of the prompts."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from numeric_claims import assert_same_prompted, logits_of_prompt
from tiny_sam import KINDS, tiny_sam

from pipeline.masks import codec
from pipeline.models.grids.geometry import FitRule, Padding, Size
from pipeline.models.sam_core.masks import Enlarging, best_masks
from pipeline.models.sam_core.net import (
    Encoded,
    Instability,
    PackageSam,
    SamNet,
    TransformersSam,
    inference,
)
from pipeline.models.sam_core.prompted import masks_of_prompts
from schemas.records import Prompt

HW = (40, 60)
RULE = FitRule(size=Size("within", 64, 64), padding=Padding(to_hw=(64, 64)))
CROWD = codec.encode(np.eye(40, 60, dtype=np.uint8))
BOX = (5.0, 6.5, 30.0, 25.0)
PROMPTS = (
    Prompt(7, bbox_xyxy=BOX, source_id=70),
    Prompt(3, points_xy=((20.0, 11.0),), inside=(True,), source_id=71),
    Prompt(7, iscrowd=True, counts=CROWD, source_id=72),
    Prompt(4, points_xy=((9.0, 30.0), (50.0, 8.0)), inside=(True, False)),
    Prompt(7, bbox_xyxy=BOX, points_xy=((20.0, 11.0),), inside=(True,), source_id=74),
    Prompt(2, bbox_xyxy=(0.0, 0.0, 60.0, 40.0), source_id=75),
)


def loaded(kind: str) -> tuple[SamNet, Encoded]:
    model = inference(tiny_sam(kind), "cpu", torch.float32)
    net = (PackageSam if kind == "package" else TransformersSam)(model)
    torch.manual_seed(1)
    with torch.inference_mode():
        return net, net.encode(torch.randn(1, 3, 64, 64))[0]


def enlarging(kind: str) -> Enlarging:
    return Enlarging(RULE.frame(HW), kind != "sam2")


def asked(kind: str, prompts: tuple[Prompt, ...], **more: Any) -> Any:
    net, picture = loaded(kind)
    with torch.inference_mode():
        return masks_of_prompts(net, picture, enlarging(kind), prompts, **more)


@pytest.mark.parametrize("kind", KINDS)
def test_one_segment_a_prompt_whoever_is_asked_with_it(kind: str) -> None:
    found = asked(kind, PROMPTS)
    assert [one.category_id for one in found] == [7, 3, 7, 4, 7, 2]
    assert [one.evidence.source_id for one in found] == [70, 71, 72, None, 74, 75]
    assert [one.iscrowd for one in found] == [False, False, True, False, False, False]
    assert found[0].evidence.prompt_bbox_xywh == (5.0, 6.5, 25.0, 18.5)
    assert found[1].evidence.prompt_bbox_xywh is None
    assert [one.evidence.point_xy for one in found[:2]] == [None, (20.0, 11.0)]
    assert found[3].evidence.point_xy is None, "two points are not one"
    for one in found:
        mask = codec.decode(one.counts, *HW)
        assert one.area == mask.sum() > 0
        assert one.bbox_xywh == codec.bbox_xywh(one.counts, *HW)
    net, picture = loaded(kind)
    for index, prompt in enumerate(PROMPTS):
        (alone,) = asked(kind, (prompt,))
        if prompt.iscrowd:
            assert (alone.counts, alone.category_id) == (prompt.counts, prompt.category_id)
            assert found[index].counts == prompt.counts
            continue
        logits = logits_of_prompt(net, picture, enlarging(kind), prompt)
        assert_same_prompted(alone, found[index], logits)


def test_a_crowd_is_handed_through() -> None:
    (found,) = asked("sam", PROMPTS[2:3])
    assert (found.counts, found.area, found.bbox_xywh) == (CROWD, 40, (0, 0, 40, 40))
    assert found.score is None


def test_more_prompts_than_go_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    many = tuple(Prompt(n + 1, bbox_xyxy=(n, 2.0, n + 20.0, 30.0), source_id=n) for n in range(7))
    whole = asked("sam", many)
    monkeypatch.setattr("pipeline.models.sam_core.prompted._TOGETHER", 3)
    monkeypatch.setattr("pipeline.models.sam_core.masks.CHUNK_PIXELS", 2 * (40 * 60 + 64 * 64))
    parts = asked("sam", many)
    assert [one.category_id for one in parts] == list(range(1, 8))
    net, picture = loaded("sam")
    for prompt, one, other in zip(many, parts, whole, strict=True):
        logits = logits_of_prompt(net, picture, enlarging("sam"), prompt)
        assert_same_prompted(one, other, logits)


@pytest.mark.parametrize(
    ("prompt", "box"),
    [
        (Prompt(5, bbox_xyxy=BOX, source_id=1), (5, 6, 25, 19)),
        (Prompt(5, bbox_xyxy=(-9.0, -9.0, 500.0, 3.5), source_id=1), (0, 0, 60, 4)),
        (Prompt(5, bbox_xyxy=(59.6, 39.5, 80.0, 60.0), source_id=1), (59, 39, 1, 1)),
        (Prompt(5, points_xy=((20.7, 11.2),), inside=(True,), source_id=1), (20, 11, 1, 1)),
    ],
)
def test_an_empty_mask_is_no_segment_but_on_request_its_prompt(
    prompt: Prompt, box: tuple[int, ...]
) -> None:
    assert asked("sam", (prompt,), threshold=1e9) == []
    (found,) = asked("sam", (prompt,), threshold=1e9, stand_in=True)
    assert (found.score, found.bbox_xywh, found.area) == (0.0, box, box[2] * box[3])
    assert (found.category_id, found.evidence.source_id) == (5, 1)
    assert found.evidence.predicted_iou is None


@pytest.mark.parametrize("stand_in", [False, True])
@pytest.mark.parametrize(
    "prompt",
    [
        Prompt(5, bbox_xyxy=(70.0, 50.0, 80.0, 60.0)),
        Prompt(5, bbox_xyxy=(60.0, 0.0, 90.0, 40.0)),
        Prompt(5, bbox_xyxy=(20.0, 20.0, 20.0, 32.0)),
        Prompt(5, bbox_xyxy=(30.0, 20.0, 20.0, 32.0)),
        Prompt(5, points_xy=((61.0, 5.0),), inside=(True,)),
        Prompt(5, points_xy=((61.0, 5.0), (5.0, 5.0)), inside=(True, False)),
    ],
)
def test_what_touches_no_pixel_is_never_a_label(prompt: Prompt, stand_in: bool) -> None:
    good = Prompt(7, bbox_xyxy=BOX, source_id="a")
    (found,) = asked("sam", (prompt, good), stand_in=stand_in)
    assert (found.category_id, found.evidence.source_id, found.evidence.prompt_index) == (7, "a", 1)


def test_a_mask_that_sam_believes_nothing_of_is_no_segment() -> None:
    net, picture = loaded("sam")
    answer = net.fast.decode

    def doubtful(*given: Any, **more: Any) -> Any:
        found = answer(*given, **more)
        return replace(found, predicted_iou=found.predicted_iou.abs().neg())

    net.fast.decode = doubtful
    with torch.inference_mode():
        frame = Enlarging(RULE.frame(HW), True)
        assert masks_of_prompts(net, picture, frame, PROMPTS[:1]) == []


@pytest.mark.parametrize("kind", ["sam", "sam2"])
def test_the_single_mask_and_when_sam_2_gives_it_up(kind: str) -> None:
    net, picture = loaded(kind)
    with torch.inference_mode():
        boxes = net.boxes(torch.tensor([[5.0, 6, 30, 25], [0, 0, 64, 40]]), None, None)
        decoded = net.fast.decode(picture.embedding, boxes)
        every = net.fast.masks(picture.embedding, decoded, torch.arange(net.mask_tokens))

        def single() -> torch.Tensor:
            return best_masks(net, picture, boxes, ambiguous=False, single=True).logits

        if kind == "sam":
            assert net.instability is None
            torch.testing.assert_close(single(), every[:, 0])
            return
        assert net.instability == Instability(0.05, 0.98)
        net.instability = Instability(0.0, 0.0)  # always stable
        torch.testing.assert_close(single(), every[:, 0])
        net.instability = Instability(0.0, 2.0)  # never
        best = decoded.predicted_iou[:, 1:].argmax(1) + 1
        torch.testing.assert_close(single(), every[torch.arange(2), best])


def test_stable_is_transformers_rule() -> None:
    model = tiny_sam("sam2")
    torch.manual_seed(0)
    logits = torch.randn(6, 8, 8) * torch.tensor([0.1, 0.5, 1, 5, 50, 1e-3])[:, None, None]
    logits[5] = -9.0  # nothing inside, even at the lower cut
    expected = model.mask_decoder._get_stability_scores(logits[:, None])[:, 0]
    rule = Instability(model.mask_decoder.dynamic_multimask_stability_delta, 0.98)
    assert rule.stable(logits).tolist() == (expected >= 0.98).tolist()
    assert len(set(rule.stable(logits).tolist())) == 2
