"""Pixels → maps: normalise on the device, pad, tile where needed, run the net."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch.nn import functional

from pipeline.images.stretch import histogram
from pipeline.models.grids.finite import check_finite
from pipeline.tiling.grid import map_tiles

from .net import UNet, normalise

# The grey values that a picture is stretched between before the net sees it.

LOW_PERCENTILE = 1.0
HIGH_PERCENTILE = 99.8
LEAST_RANGE = 8.0
"""8-bit steps. A nearly flat picture is not stretched further: its noise would look like cells."""


def picture_range(pixels: npt.NDArray[np.uint8]) -> tuple[float, float]:
    """The 1 % and 99.8 % values over all channels of a whole picture, from its histogram.

    Args:
        pixels: HxW or HxWxC, not empty.

    Returns:
        (low, high) with high ≥ low + 8.
    """
    count = np.cumsum(histogram(pixels))
    low, high = (
        float(np.searchsorted(count, count[-1] * percentile / 100))
        for percentile in (LOW_PERCENTILE, HIGH_PERCENTILE)
    )
    return low, max(high, low + LEAST_RANGE)


def sample_range(sample: npt.NDArray[np.float32]) -> tuple[float, float]:
    """`picture_range` of a sample of float pixels on the scale of 0…255."""
    low, high = np.percentile(sample, (LOW_PERCENTILE, HIGH_PERCENTILE))
    return float(low), float(max(high, low + LEAST_RANGE))


TILE = 1024
"""Sides up to this go through in one piece. A multiple of the net's stride."""

OVERLAP = 256

Bounds = tuple[float, float]
"""The values that become 0 and 1 before the net sees them."""


def predict_maps(
    net: UNet, pixels: npt.NDArray[np.uint8], device: str, *, bounds: Bounds | None = None
) -> npt.NDArray[np.float32]:
    """Interior, touch and distance of one picture of any size.

    Args:
        net: Fused, on `device`.
        pixels: HxWx3, H and W ≥ 1.
        device: "cpu", "cuda", …
        bounds: `picture_range` of the whole picture, where `pixels` is a tile of it.

    Returns:
        3xHxW float32 in 0…1.
    """
    bounds = bounds or picture_range(pixels)

    def run(part: npt.NDArray[np.uint8]) -> npt.NDArray[np.float32]:
        x = _padded(_normalised([part], device, [bounds]), net.stride)
        logits = net(x.contiguous(memory_format=torch.channels_last))
        check_finite(logits)
        maps = logits.sigmoid()
        return maps[0, :, : part.shape[0], : part.shape[1]].cpu().numpy()

    with torch.inference_mode():
        return map_tiles(pixels, run, planes=3, tile=TILE, overlap=OVERLAP, align=net.stride)


def predict_batch(
    net: UNet,
    pictures: Sequence[npt.NDArray[np.uint8]],
    device: str,
    *,
    batch_size: int,
    bounds: Sequence[Bounds] | None = None,
) -> list[npt.NDArray[np.float32]]:
    """`predict_maps` of several pictures; those of one padded shape go through together.

    A pass always has `batch_size` rows, empty ones if need be: the shape of the work decides which
    kernels an accelerator picks, so a picture's maps do not depend on how many came with it.
    """
    bounds = bounds or [picture_range(pixels) for pixels in pictures]
    results: list[npt.NDArray[np.float32] | None] = [None] * len(pictures)
    groups: dict[tuple[int, int], list[int]] = defaultdict(list)
    for index, pixels in enumerate(pictures):
        height, width = pixels.shape[:2]
        if max(height, width) > TILE:
            results[index] = predict_maps(net, pixels, device, bounds=bounds[index])
        else:
            groups[-(-height // net.stride), -(-width // net.stride)].append(index)
    with torch.inference_mode():
        for (rows, columns), members in groups.items():
            for start in range(0, len(members), batch_size):
                chunk = members[start : start + batch_size]
                x = torch.zeros(
                    (batch_size, 6, rows * net.stride, columns * net.stride), device=device
                ).contiguous(memory_format=torch.channels_last)
                for some in _alike(chunk, pictures):
                    parts = [pictures[index] for index in some]
                    part = _normalised(parts, device, [bounds[index] for index in some])
                    at = torch.tensor([chunk.index(index) for index in some], device=device)
                    x[at] = _padded(part, net.stride)
                logits = net(x)
                check_finite(logits)
                maps = logits.sigmoid().cpu().numpy()
                for row, index in enumerate(chunk):
                    height, width = pictures[index].shape[:2]
                    results[index] = np.ascontiguousarray(maps[row, :, :height, :width])
    return [maps for maps in results if maps is not None]


def _alike(chunk: Sequence[int], pictures: Sequence[npt.NDArray[np.uint8]]) -> list[list[int]]:
    """Those of one shape together: they go to the device in one copy."""
    groups: dict[tuple[int, ...], list[int]] = defaultdict(list)
    for index in chunk:
        groups[pictures[index].shape].append(index)
    return list(groups.values())


def _normalised(
    pictures: Sequence[npt.NDArray[np.uint8]], device: str, bounds: Sequence[Bounds]
) -> torch.Tensor:
    """Bx6xHxW of pictures of one shape; the bytes travel as uint8."""
    low, high = torch.tensor(bounds, device=device).T
    x = torch.from_numpy(np.stack(pictures)).to(device).permute(0, 3, 1, 2)
    return normalise(x, low, high)


def _padded(x: torch.Tensor, stride: int) -> torch.Tensor:
    """Mirrors at the right and below up to multiples of `stride`; repeats where too short."""
    height, width = x.shape[-2:]
    right, below = -width % stride, -height % stride
    for pad, size in (((0, right, 0, 0), width), ((0, 0, 0, below), height)):
        if any(pad):
            x = functional.pad(x, pad, mode="reflect" if max(pad) < size else "replicate")
    return x
