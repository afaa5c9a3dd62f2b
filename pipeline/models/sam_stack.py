"""SAM's painted masks as a `MaskStack`."""

from __future__ import annotations

import numpy as np
from torch import Tensor
from torch.nn import functional

from .maps import Found, MaskStack


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
