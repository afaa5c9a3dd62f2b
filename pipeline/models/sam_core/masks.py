"""SAM's small logits as segments of the picture, numbered by their mask."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from pipeline.models.grids.finite import check_finite
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import Found, MaskStack, place_rectangles
from pipeline.models.grids.transfer import fetch
from pipeline.models.postprocess.backend import Path, path_for
from pipeline.models.postprocess.encode import segments_of
from schemas.records import Segment

from .decoder import DecodedPrompts
from .net import Encoded, SamNet

# From SAM's small mask logits to what is kept of them: stability, boxes, and the final masks.
#
# SAM 1 enlarges its logits in two steps, to the square input and then, without the padding, to the
# picture; SAM 2 in one. Both are followed here, because pixels at a mask's rim depend on it.

CHUNK_PIXELS = 1 << 26
"""Enlarged logits at a time, so many values: 256 MB."""


@dataclass(frozen=True, slots=True)
class Enlarging:
    """How small logits become a picture's.

    Attributes:
        frame: Where the picture lies in the input.
        two_steps: Through the square input (SAM 1), or straight (SAM 2).
        cubic: Straight, by bicubic interpolation (EfficientSAM).
    """

    frame: Frame
    two_steps: bool
    cubic: bool = False

    def __call__(self, small: Tensor) -> Tensor:
        """M×h×w logits → M×H×W float32, in the picture's pixels."""
        x = small.float()[:, None]
        if self.two_steps:
            x = functional.interpolate(x, self.frame.input_hw, mode="bilinear", align_corners=False)
            height, width = self.frame.content_hw
            x = x[..., :height, :width]
        mode = "bicubic" if self.cubic else "bilinear"
        return functional.interpolate(x, self.frame.picture_hw, mode=mode, align_corners=False)[
            :, 0
        ]

    def path(self, device: torch.device, asked: Path | None) -> Path:
        """See `path_for`; the kernels enlarge linearly alone."""
        return "plain" if self.cubic else path_for(device, asked)

    def chunk(self) -> int:
        """Masks that are enlarged at once."""
        height, width = self.frame.picture_hw
        inner = self.frame.input_hw[0] * self.frame.input_hw[1] if self.two_steps else 0
        return max(1, CHUNK_PIXELS // (height * width + inner))


def judge(
    small: Tensor,
    enlarging: Enlarging,
    *,
    threshold: float,
    offset: float,
    path: Path | None = None,
) -> tuple[Tensor, Tensor]:
    """Stability and box of every mask.

    Args:
        small: M×h×w logits.
        enlarging: To the picture's pixels.
        threshold: Logits above are inside.
        offset: Stability is the share of the pixels above `threshold` − `offset` that are above
            `threshold` + `offset` as well.
        path: See `paths`.

    Returns:
        M float32 in 0…1 (NaN for a mask that is empty even at the lower threshold), and M×4 int64
        boxes: left, top, right, bottom, the last two of the last pixel inside; zeros if empty.
    """
    if len(small) and enlarging.path(small.device, path) == "kernels":
        from pipeline.models.kernels.sam_launch import judge_small

        return judge_small(
            small,
            enlarging.frame,
            two_steps=enlarging.two_steps,
            threshold=threshold,
            offset=offset,
        )
    step = enlarging.chunk()
    found = [_judge(part, enlarging, threshold, offset) for part in small.split(step)]
    if not found:
        return small.new_zeros(0, dtype=torch.float32), small.new_zeros((0, 4), dtype=torch.int64)
    stability, boxes = zip(*found, strict=True)
    return torch.cat(stability), torch.cat(boxes)


def paint_logits(small: Tensor, enlarging: Enlarging, *, threshold: float) -> Tensor:
    """The masks themselves: M×W×H uint8, columns first, as run lengths want them."""
    parts = [
        (enlarging(part) > threshold).to(torch.uint8).transpose(1, 2).contiguous()
        for part in small.split(enlarging.chunk())
    ]
    height, width = enlarging.frame.picture_hw
    return torch.cat(parts) if parts else small.new_zeros((0, width, height), dtype=torch.uint8)


def _judge(
    small: Tensor, enlarging: Enlarging, threshold: float, offset: float
) -> tuple[Tensor, Tensor]:
    logits = enlarging(small)
    high = (logits > threshold + offset).flatten(1).sum(1, dtype=torch.int32)
    low = (logits > threshold - offset).flatten(1).sum(1, dtype=torch.int32)
    return high / low, boxes_of(logits > threshold)


def boxes_of(masks: Tensor) -> Tensor:
    """Boxes of M×H×W masks; see `judge`."""
    rows, columns = masks.any(2), masks.any(1)
    box = torch.stack((*_ends(columns), *_ends(rows)), 1)[:, (0, 2, 1, 3)]
    return box * rows.any(1, keepdim=True)


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """First and last index of a True in each row of M×S."""
    size = line.shape[1]
    place = torch.arange(size, device=line.device)
    return torch.where(line, place, size).amin(1), torch.where(line, place, -1).amax(1)


# Which of SAM's masks of a prompt are taken: all alternatives, the best, or the single one.


@dataclass(frozen=True, slots=True)
class SmallMasks:
    """Masks of some prompts as small logits.

    Attributes:
        logits: M×h×w.
        predicted_iou: M float32.
        prompt: M int64, index of the prompt.
    """

    logits: Tensor
    predicted_iou: Tensor
    prompt: Tensor


def alternatives(
    net: SamNet, picture: Encoded, prompts: Tensor, *, least: float, reference: bool
) -> SmallMasks:
    """All alternatives whose estimated quality exceeds `least`; HQ-SAM has one a prompt.

    Args:
        net: A loaded SAM.
        picture: One.
        prompts: N×P×C.
        least: Not looked at unless above 0, as in the segment-anything package.
        reference: With the implementation's own decoder, which enlarges every mask.
    """
    if reference:
        logits, quality = net.reference(picture, prompts)
        check_finite(logits, quality)
        if net.hq_token is not None:  # the best comes first
            logits, quality = logits[:, :1], quality[:, :1]
        keep = _above(quality, least)
        return SmallMasks(logits[keep], quality[keep].float(), keep.nonzero()[:, 0])
    decoded = net.fast.decode(picture.embedding, prompts)
    check_finite(decoded.predicted_iou)
    quality = decoded.predicted_iou[:, 1 : net.mask_tokens]
    keep = _above(quality, least)
    if net.hq_token is not None:
        best = torch.zeros_like(keep).scatter_(1, quality.argmax(1, keepdim=True), value=True)
        keep &= best
    rows = keep.any(1).nonzero()[:, 0]
    logits = _logits(net, picture, decoded.take(rows), range(1, net.mask_tokens))
    return SmallMasks(logits[keep[rows]], quality[keep].float(), keep.nonzero()[:, 0])


def best_masks(
    net: SamNet, picture: Encoded, prompts: Tensor, *, ambiguous: bool, single: bool = False
) -> SmallMasks:
    """One mask a prompt: that of the highest estimated quality.

    Args:
        net: A loaded SAM.
        picture: One.
        prompts: N×P×C.
        ambiguous: One point can mean a part or the whole: only the alternatives are looked at. A
            box or several points mean one thing: the mask that was trained for that as well.
        single: For what is not ambiguous that mask alone, which SAM 2 gives up for the best
            alternative where it is not stable.
    """
    single = single and not ambiguous
    alone = single and net.instability is None
    tokens = range(1) if alone else range(net.mask_tokens)
    wanted = list(tokens) if net.hq_token is None else [*tokens, net.hq_token]
    logits, predicted = net.fast.ask(picture.embedding, prompts, wanted)
    check_finite(predicted, logits)
    logits = _whole(net, logits)
    quality = predicted[:, : net.mask_tokens].float()
    every = torch.arange(len(prompts), device=prompts.device)
    if alone:
        return SmallMasks(logits[:, 0], quality[:, 0], every)
    skip = 1 if single or ambiguous or net.alternatives_only else 0
    choice = quality[:, skip:].argmax(1) + skip
    if single and net.instability is not None:
        choice = torch.where(net.instability.stable(logits[:, 0]), 0, choice)
    return SmallMasks(logits[every, choice], quality[every, choice], every)


def _above(quality: Tensor, least: float) -> Tensor:
    return quality > least if least > 0 else torch.ones_like(quality, dtype=torch.bool)


def _logits(net: SamNet, picture: Encoded, decoded: DecodedPrompts, tokens: range) -> Tensor:
    """N×M×h×w of these mask tokens, HQ-SAM's own mask added to each."""
    wanted = list(tokens) if net.hq_token is None else [*tokens, net.hq_token]
    logits = _whole(net, net.fast.masks(picture.embedding, decoded, torch.tensor(wanted)))
    check_finite(logits)
    return logits


def _whole(net: SamNet, logits: Tensor) -> Tensor:
    """HQ-SAM's own mask, the last, added to each of the others."""
    return logits if net.hq_token is None else logits[:, :-1] + logits[:, -1:]


def numbered_segments(
    small: Tensor,
    enlarging: Enlarging,
    *,
    threshold: float,
    boxes: Tensor | None = None,
    picture_hw: tuple[int, int] | None = None,
    corner_xy: tuple[int, int] = (0, 0),
    path: Path | None = None,
) -> Iterator[tuple[int, Segment]]:
    """Enlarges masks and writes them as segments.

    Args:
        small: M×h×w logits.
        enlarging: To the pixels of the picture, or of a crop of it.
        threshold: Logits above are inside.
        boxes: M×4 of `judge`, where they are known.
        picture_hw: Of the whole picture, where `enlarging` leads to a crop.
        corner_xy: Where the crop lies in it.
        path: See `paths`.

    Yields:
        Place in `small` and its segment, of category 1 and score 1, for each mask that has a pixel.
    """
    crop_hw = enlarging.frame.picture_hw
    whole_hw = picture_hw or crop_hw
    count = len(small)
    if not count:
        return
    if enlarging.path(small.device, path) == "kernels":
        step = count
        if boxes is None:
            _, boxes = judge(small, enlarging, threshold=threshold, offset=0.0, path="kernels")
        stacks = [_in_boxes(small, enlarging, threshold, boxes, whole_hw, corner_xy)]
    else:
        step = enlarging.chunk()
        where = (*corner_xy, crop_hw[1], crop_hw[0])
        stacks = [
            stack_of(paint_logits(part, enlarging, threshold=threshold), whole_hw, where)
            for part in small.split(step)
        ]
    numbers = range(1, step + 1)  # category ids that say which mask of its stack a segment is
    for number, segments in enumerate(segments_of(stacks, category_ids=numbers)):
        for one in segments:
            yield number * step + one.category_id - 1, replace(one, category_id=1)


def stack_of(
    masks: Tensor, picture_hw: tuple[int, int], crop_xywh: tuple[int, int, int, int]
) -> MaskStack:
    """Masks of one crop, labelled 0…M−1 in their order, without scores.

    Args:
        masks: M×w×h uint8, columns first, of the crop.
        picture_hw: Of the whole picture, pixels.
        crop_xywh: Where the crop lies in it.
    """
    count = len(masks)
    _, _, width, height = crop_xywh
    if height == picture_hw[0]:  # a run may go on in the next column: one 0 after the last
        stride, place = height, width * height + 1
        pixels = functional.pad(masks.flatten(1), (0, 1))
    else:  # one 0 after each column
        stride, place = height + 1, width * (height + 1)
        pixels = functional.pad(masks, (0, 1))
    order = np.arange(count)
    return MaskStack(
        picture_hw=picture_hw,
        pixels=pixels.flatten(),
        offsets=order * place,
        boxes_xywh=np.tile(np.array(crop_xywh, np.int64), (count, 1)),
        strides=np.full(count, stride, np.int64),
        planes=order,
        found=Found(labels=order, scores=np.ones(count)),
    )


def _in_boxes(
    small: Tensor,
    enlarging: Enlarging,
    threshold: float,
    boxes: Tensor,
    picture_hw: tuple[int, int],
    corner_xy: tuple[int, int],
) -> MaskStack:
    """The same stack, each mask painted inside its own box only."""
    from pipeline.models.kernels.sam_launch import paint_small

    ends = fetch(boxes)
    own = np.concatenate((ends[:, :2], ends[:, 2:] + 1 - ends[:, :2]), axis=1)
    placed = place_rectangles(own + np.array([*corner_xy, 0, 0]), picture_hw[0])
    pixels = paint_small(
        small,
        enlarging.frame,
        replace(placed, boxes_xywh=own),
        two_steps=enlarging.two_steps,
        threshold=threshold,
    )
    order = np.arange(len(small))
    return MaskStack(
        picture_hw=picture_hw,
        pixels=pixels,
        offsets=placed.offsets,
        boxes_xywh=placed.boxes_xywh,
        strides=placed.strides,
        planes=order,
        found=Found(labels=order, scores=np.ones(len(small))),
    )
