"""SAM asked by points and boxes: one mask a prompt, in the prompts' order."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch
from torch import Tensor

from pipeline.masks import codec
from pipeline.prompts.outcomes import fault_of
from schemas.records import Evidence, Prompt, Segment

from .masks import Enlarging, SmallMasks, best_masks, numbered_segments
from .net import Encoded, SamNet

_TOGETHER = 64
"""Prompts at once; SAM's cells of so many prompts take 256 MB in float32."""


def masks_of_prompts(
    net: SamNet,
    picture: Encoded,
    enlarging: Enlarging,
    prompts: Sequence[Prompt],
    *,
    threshold: float = 0.0,
    single: bool = False,
    stand_in: bool = False,
) -> list[Segment]:
    """One segment a prompt, with the prompt's category and id; a crowd is handed through.

    A prompt that SAM answers with no pixel, or with a mask that it believes nothing of, has no
    segment: a box is no mask, and a label that nobody saw is worse than none. With `stand_in` its
    box, or its point's pixel, stands for it with score 0. Nothing is asked, and nothing stands,
    for a box without an area or a prompt that lies outside the picture.

    Args:
        net: A loaded SAM.
        picture: Its embedding.
        enlarging: To the picture's pixels.
        prompts: In the picture's pixels.
        threshold: Logits above are inside.
        single: See `masks.best_masks`.
        stand_in: Whether a prompt stands for itself where SAM has no mask.
    """
    height, width = enlarging.frame.picture_hw
    asked = [
        index
        for index, prompt in enumerate(prompts)
        if not prompt.iscrowd and not fault_of(prompt, height, width)
    ]
    found: dict[int, Segment] = {}
    groups: dict[tuple[bool, int], list[int]] = {}
    for index in asked:
        prompt = prompts[index]
        groups.setdefault((prompt.bbox_xyxy is not None, len(prompt.points_xy)), []).append(index)
    for members in groups.values():
        for start in range(0, len(members), _TOGETHER):
            some = members[start : start + _TOGETHER]
            small = _asked(net, picture, enlarging, [prompts[index] for index in some], single)
            for place, segment in _painted(small, enlarging, threshold).items():
                found[some[place]] = segment
    answers: list[Segment] = []
    for index, prompt in enumerate(prompts):
        if prompt.iscrowd:
            answers.append(_handed_through(prompt, index, enlarging))
        elif (one := found.get(index)) is not None and (one.score or 0.0) > 0:
            answers.append(_answered(prompt, index, one))
        elif stand_in and index in asked:
            answers.append(_answered(prompt, index, _stand_in(prompt, height, width)))
    return answers


def _asked(
    net: SamNet, picture: Encoded, enlarging: Enlarging, prompts: Sequence[Prompt], single: bool
) -> SmallMasks:
    """All with a box or none, all with equally many points."""
    frame, device = enlarging.frame, picture.raw.device
    scale = np.array(frame.content_hw[::-1]) / np.array(frame.picture_hw[::-1])

    def tensor(values: object) -> Tensor:
        array = np.asarray(values, np.float64).reshape(len(prompts), -1, 2) * scale
        return torch.as_tensor(array, dtype=torch.float32, device=device)

    points = inside = None
    if prompts[0].points_xy:
        points = tensor([prompt.points_xy for prompt in prompts])
        flags = [prompt.inside for prompt in prompts]
        inside = torch.tensor(flags, dtype=torch.float32, device=device)
    if prompts[0].bbox_xyxy is None:
        if points is None or inside is None:
            raise ValueError("a prompt has neither a box nor points")
        embedded = net.points(points, inside)
        return best_masks(net, picture, embedded, ambiguous=points.shape[1] == 1, single=single)
    boxes = tensor([prompt.bbox_xyxy for prompt in prompts]).flatten(1)
    embedded = net.boxes(boxes, points, inside)
    return best_masks(net, picture, embedded, ambiguous=False, single=single)


def _painted(small: SmallMasks, enlarging: Enlarging, threshold: float) -> dict[int, Segment]:
    """Place among the prompts → its mask as a segment; none for an empty mask."""
    quality = small.predicted_iou.tolist()
    return {
        place: replace(one, score=quality[place])
        for place, one in numbered_segments(small.logits, enlarging, threshold=threshold)
    }


def _answered(prompt: Prompt, index: int, found: Segment) -> Segment:
    """A mask of the model, whose score is SAM's estimate, or a stand-in, which has none."""
    box = prompt.bbox_xyxy
    evidence = Evidence(
        predicted_iou=found.score,
        point_xy=prompt.points_xy[0] if len(prompt.points_xy) == 1 else None,
        prompt_bbox_xywh=None
        if box is None
        else (box[0], box[1], box[2] - box[0], box[3] - box[1]),
        source_id=prompt.source_id,
        prompt_index=index,
    )
    score = min(max(found.score or 0.0, 0.0), 1.0)
    return replace(found, category_id=prompt.category_id, score=score, evidence=evidence)


def _stand_in(prompt: Prompt, height: int, width: int) -> Segment:
    """The box's part in the picture, or the pixel of the first point inside; without a score."""
    pixels = [(x, y) for x, y in prompt.points_xy if 0 <= x < width and 0 <= y < height]
    left, top, right, bottom = prompt.bbox_xyxy or (*pixels[0], *pixels[0])
    x0, y0 = max(int(left), 0), max(int(top), 0)
    x1 = min(max(int(np.ceil(right)), x0 + 1), width)
    y1 = min(max(int(np.ceil(bottom)), y0 + 1), height)
    mask = np.zeros((height, width), np.uint8)
    mask[y0:y1, x0:x1] = 1
    return Segment(
        prompt.category_id, codec.encode(mask), int(mask.sum()), (x0, y0, x1 - x0, y1 - y0)
    )


def _handed_through(prompt: Prompt, index: int, enlarging: Enlarging) -> Segment:
    height, width = enlarging.frame.picture_hw
    if prompt.counts is None:
        raise ValueError("a crowd has no mask to hand through")
    return Segment(
        prompt.category_id,
        prompt.counts,
        codec.area(prompt.counts, height, width),
        codec.bbox_xywh(prompt.counts, height, width),
        iscrowd=True,
        evidence=Evidence(source_id=prompt.source_id, prompt_index=index),
    )
