"""Boxes with small masks inside them (Mask R-CNN) → masks of the picture."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import Found, Ints, MaskStack, Rectangles, place_rectangles
from pipeline.models.grids.outputs import BoxOutput
from pipeline.models.grids.resample import Reading, window

from .backend import Path, path_for

Floats = npt.NDArray[np.float64]


def paste_instances(
    outputs: Sequence[BoxOutput], *, mask_threshold: float, path: Path | None = None
) -> list[MaskStack]:
    """Pastes each detection's mask through its box, exact to fractions of a pixel.

    A pixel of the picture is inside where the mask's probability at its centre, interpolated
    between the centres of the mask's cells and fading to 0 half a cell beyond its rim, exceeds
    `mask_threshold`. torchvision rounds the box to whole pixels first, so its masks lie up to a
    pixel beside these.

    Args:
        outputs: One a picture, all of one model.
        mask_threshold: Probability that a mask's pixel must exceed.
        path: How pixels are found; None = the fastest on the device. All give the same.

    Returns:
        One stack a picture, detections in their order.
    """
    if not outputs:
        return []
    boxes = [in_picture(one.boxes_xyxy.double().cpu().numpy(), one.frame) for one in outputs]
    rectangles = [
        place_rectangles(_reach(each, one), one.frame.picture_hw[0])
        for each, one in zip(boxes, outputs, strict=True)
    ]
    if path_for(outputs[0].mask_probs.device, path) == "kernels":
        from pipeline.models.kernels.masks_launch import paint_boxes

        pixels = paint_boxes(outputs, boxes, rectangles, mask_threshold)
    else:
        pixels = [
            _painted(*each, mask_threshold) for each in zip(outputs, boxes, rectangles, strict=True)
        ]
    return [_stack(*each) for each in zip(outputs, rectangles, pixels, strict=True)]


def in_picture(boxes_xyxy: Floats, frame: Frame) -> Floats:
    """N×4 boxes in pixels of the input → in pixels of the picture; they may reach beyond it."""
    (top, left), (height, width) = frame.offset_yx, frame.content_hw
    ratio_y, ratio_x = frame.picture_hw[0] / height, frame.picture_hw[1] / width
    return (boxes_xyxy - (left, top, left, top)) * (ratio_x, ratio_y, ratio_x, ratio_y)


def places(first: float, last: float, size: int, start: int, stop: int) -> Floats:
    """Where the centres of pixels start…stop−1 lie among the cells of a mask, framed by one 0.

    Args:
        first: The box's edge on this side, pixels.
        last: The other edge.
        size: Cells of the mask along this side.
        start: First pixel.
        stop: One past the last.
    """
    centres = np.arange(start, stop, dtype=np.float64) + 0.5
    share = (centres - first) / max(last - first, 1e-6)
    return np.clip(share * size + 0.5, 0, size + 1)


def _reach(boxes_xyxy: Floats, output: BoxOutput) -> Ints:
    """N×4 xywh: pixels of the picture that the masks can touch, half a cell beyond their boxes."""
    height, width = output.frame.picture_hw
    cells = max(1, output.mask_probs.shape[-1])
    sides = (boxes_xyxy[:, 2:] - boxes_xyxy[:, :2]) / (2 * cells)
    limit = np.array((width, height))
    start = np.clip(np.floor(boxes_xyxy[:, :2] - sides), 0, limit)
    stop = np.clip(np.ceil(boxes_xyxy[:, 2:] + sides), start, limit)
    return np.concatenate((start, stop - start), axis=1).astype(np.int64)


def _painted(
    output: BoxOutput, boxes: Floats, rectangles: Rectangles, mask_threshold: float
) -> Tensor:
    """The plain way, on any device."""
    framed = torch.nn.functional.pad(output.mask_probs.float(), (1, 1, 1, 1))
    size, device = output.mask_probs.shape[-1], framed.device
    pixels = torch.zeros(rectangles.size, dtype=torch.uint8, device=device)
    for index, (left, top, width, height) in enumerate(rectangles.boxes_xywh.tolist()):
        if width and height:
            x0, y0, x1, y1 = boxes[index].tolist()
            x = _reading(places(x0, x1, size, left, left + width), size, device)
            y = _reading(places(y0, y1, size, top, top + height), size, device)
            rectangles.plane(pixels, index)[:] = window(framed[index], y, x) > mask_threshold
    return pixels


def _reading(at: Floats, size: int, device: torch.device) -> Reading:
    low = np.minimum(np.floor(at), size).astype(np.int64)
    cells = torch.from_numpy(low).to(device)
    return Reading(cells, cells + 1, torch.from_numpy((at - low).astype(np.float32)).to(device))


def _stack(output: BoxOutput, rectangles: Rectangles, pixels: Tensor) -> MaskStack:
    agreement = output.agreement
    return MaskStack(
        picture_hw=output.frame.picture_hw,
        pixels=pixels,
        offsets=rectangles.offsets,
        boxes_xywh=rectangles.boxes_xywh,
        strides=rectangles.strides,
        planes=np.arange(len(output.labels)),
        found=Found(
            labels=output.labels.cpu().numpy().astype(np.int64),
            scores=output.scores.double().cpu().numpy(),
            agreement=None if agreement is None else agreement.double().cpu().numpy(),
        ),
    )
