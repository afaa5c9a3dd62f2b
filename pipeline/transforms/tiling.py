"""Large pictures in overlapping tiles, stitched so that no seam shows."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np
import numpy.typing as npt

Tile = tuple[slice, slice]


def tile_starts(length: int, *, tile: int, overlap: int, align: int = 1) -> list[int]:
    """First pixels of the tiles along one side: even steps, multiples of `align`.

    A net that halves its resolution sees the same grid in a tile as in the whole picture only
    where the tile starts on a multiple of its stride.

    Raises:
        ValueError: The overlap leaves no step, or `tile` is no multiple of `align`.
    """
    if tile % align:
        raise ValueError(f"tile must be a multiple of {align}, got {tile}")
    if not 0 <= overlap <= tile - align:
        raise ValueError(f"overlap must be in 0…{tile - align}, got {overlap}")
    if length <= tile:
        return [0]
    steps = -(-(length - tile) // (tile - overlap))
    return [-(-step * (length - tile) // (steps * align)) * align for step in range(steps + 1)]


def tiles(
    height: int, width: int, *, tile: int, overlap: int, align: int = 1
) -> Iterator[tuple[Tile, Tile]]:
    """Cuts HxW into (outer, inner) pairs, row by row.

    Outer is what a net looks at. Inner is what is kept of it: the halves of each overlap nearer
    to the tile's own centre. The inner parts cover every pixel exactly once.
    """
    rows = _spans(height, tile=tile, overlap=overlap, align=align)
    columns = _spans(width, tile=tile, overlap=overlap, align=align)
    for outer_y, inner_y in rows:
        for outer_x, inner_x in columns:
            yield (outer_y, outer_x), (inner_y, inner_x)


def _spans(length: int, *, tile: int, overlap: int, align: int) -> list[tuple[slice, slice]]:
    starts = tile_starts(length, tile=tile, overlap=overlap, align=align)
    ends = [min(start + tile, length) for start in starts]
    cuts = [0, *((b + a) // 2 for a, b in zip(ends, starts[1:], strict=False)), length]
    return [
        (slice(start, end), slice(low, high))
        for start, end, low, high in zip(starts, ends, cuts, cuts[1:], strict=False)
    ]


def map_tiles(
    pixels: npt.NDArray[np.uint8],
    function: Callable[[npt.NDArray[np.uint8]], npt.NDArray[np.float32]],
    *,
    planes: int,
    tile: int,
    overlap: int,
    align: int = 1,
) -> npt.NDArray[np.float32]:
    """Applies `function` tile by tile; memory beyond the result is one tile's.

    Args:
        pixels: HxWx3.
        function: hxwx3 → planes x h x w, the same h and w.
        planes: How many maps it returns.
        tile: Side of a tile, pixels.
        overlap: How much neighbours share. With half of it above the reach of `function`
            (its receptive field's radius) the result equals that of the whole picture.
        align: Tiles start on multiples of this.

    Returns:
        planes x H x W.
    """
    height, width = pixels.shape[:2]
    out = np.empty((planes, height, width), np.float32)
    cuts = tiles(height, width, tile=tile, overlap=overlap, align=align)
    for (outer_y, outer_x), (inner_y, inner_x) in cuts:
        maps = function(pixels[outer_y, outer_x])
        out[:, inner_y, inner_x] = maps[
            :,
            inner_y.start - outer_y.start : inner_y.stop - outer_y.start,
            inner_x.start - outer_x.start : inner_x.stop - outer_x.start,
        ]
    return out
