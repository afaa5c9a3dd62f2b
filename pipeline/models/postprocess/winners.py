"""Who wins each pixel: maps compete after interpolation. The plain way, on any device.

This is the reference for `cells` (CPU) and `kernels` (GPU), which give the same map with less work.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import Rules, Winners, label_dtype
from pipeline.models.grids.resample import Reading, readings, window

Ints = npt.NDArray[np.int64]

_STRIP = {"cpu": 1 << 18}
"""Pixels at once; few on a CPU, whose cache should hold them."""


def plain_winners(maps: Tensor, frame: Frame, rules: Rules | None = None) -> Winners:
    """Interpolates every map to every pixel, some columns at a time.

    Args:
        maps: K×h×w float32, K ≥ 1.
        frame: Where the picture lies.
        rules: Of queries.
    """
    y, x = readings(frame, (maps.shape[1], maps.shape[2]), maps.device)
    height, width = frame.picture_hw
    labels = torch.empty((width, height), dtype=label_dtype(len(maps)), device=maps.device)
    visible = torch.zeros(len(maps), dtype=torch.int64, device=maps.device)
    own = visible.clone()
    step = max(1, _STRIP.get(maps.device.type, 1 << 24) // height)
    for start in range(0, width, step):
        stop = min(start + step, width)
        strip, owned = strip_winners(maps, y, x.part(start, stop), rules)
        labels[start:stop] = strip
        if rules is not None:
            visible += torch.bincount(strip.flatten().long(), minlength=len(maps) + 1)[1:]
            own += owned
    return Winners(labels, visible.cpu().numpy(), own.cpu().numpy())


def strip_winners(
    maps: Tensor, y: Reading, x: Reading, rules: Rules | None
) -> tuple[Tensor, Tensor]:
    """Winners of some columns, one map after the other, so that few values exist at a time.

    Returns:
        columns×rows labels, and K int64 pixels owned.
    """
    own = torch.zeros(len(maps), dtype=torch.int64, device=maps.device)
    best: Tensor | None = None
    labels = torch.empty(0)
    for index, each in enumerate(maps):
        values = window(each, y, x)
        if rules is not None:
            values = values.sigmoid_().mul_(rules.scores[index])
            own[index] = (values >= rules.mask_threshold).sum()
        if best is None:
            best = values
            labels = torch.ones_like(values, dtype=label_dtype(len(maps)))
            continue
        labels.masked_fill_(values > best, index + 1)
        torch.maximum(best, values, out=best)
    return labels, own
