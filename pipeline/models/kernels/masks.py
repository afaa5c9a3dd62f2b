"""Triton kernels that paint masks inside rectangles; see `launch_masks`, and `kernels` for what all
kernels share.
"""

# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import triton.language as tl

from .dense import jit, mixed, span, units_kernel


@jit
def cells_above(
    masks,
    extent,
    cut,
    fields: tl.constexpr,
    element: tl.constexpr,
    size: tl.constexpr,
):
    """Per mask: first column, first row, last column, last row of its cells above the cut.

    Row: address, strides of row and column, cells and columns of the grid.
    """
    row = masks + tl.program_id(0) * fields
    plane = tl.load(row).to(tl.pointer_type(element))
    by_row = tl.load(row + 1).to(tl.int32)
    by_column = tl.load(row + 2).to(tl.int32)
    count = tl.load(row + 3)
    columns = tl.load(row + 4)
    left = tl.full([size], 1 << 30, tl.int64)
    top = tl.full([size], 1 << 30, tl.int64)
    right = tl.full([size], -1, tl.int64)
    bottom = tl.full([size], -1, tl.int64)
    for start in range(0, count, size):
        cell = start + tl.arange(0, size)
        y = cell // columns
        x = cell - y * columns
        real = cell < count
        value = tl.load(plane + y * by_row + x * by_column, mask=real, other=0.0).to(tl.float32)
        above = (value > cut) & real
        left = tl.where(above & (x < left), x, left)
        top = tl.where(above & (y < top), y, top)
        right = tl.where(above & (x > right), x, right)
        bottom = tl.where(above & (y > bottom), y, bottom)
    into = extent + tl.program_id(0) * 4
    tl.store(into, tl.min(left, axis=0))
    tl.store(into + 1, tl.min(top, axis=0))
    tl.store(into + 2, tl.max(right, axis=0))
    tl.store(into + 3, tl.max(bottom, axis=0))


@jit
def paint_masks(
    masks,
    tiles,
    pixels,
    sums,
    known,
    cut,
    fields: tl.constexpr,
    element: tl.constexpr,
    size_x: tl.constexpr,
    size_y: tl.constexpr,
):
    """Per pixel of a mask's rectangle: 1 where above the cut. Per mask: pixels inside, and the sum
    of their probabilities in units of 2⁻²⁴ (two rows of `known` numbers in `sums`).

    Row: address, strides of row and column, readings of y and of x, height and width of the
    picture, left, top, width and height of the rectangle, its place in `pixels` and its stride.
    A tile is three numbers: mask, first column and first row in the rectangle.
    """
    tile = tl.program_id(0)
    number = tl.load(tiles + tile * 3)
    row = masks + number * fields
    left = tl.load(tiles + tile * 3 + 1)
    top = tl.load(tiles + tile * 3 + 2)
    plane = tl.load(row).to(tl.pointer_type(element))
    by_row = tl.load(row + 1).to(tl.int32)
    by_column = tl.load(row + 2).to(tl.int32)
    x0 = tl.load(row + 7)
    y0 = tl.load(row + 8)
    py, real_y, y_low, y_high, wy = span(tl.load(row + 3), y0 + top, size_y, tl.load(row + 5))
    px, real_x, x_low, x_high, wx = span(tl.load(row + 4), x0 + left, size_x, tl.load(row + 6))
    real_y = real_y & (py < y0 + tl.load(row + 10))
    real_x = real_x & (px < x0 + tl.load(row + 9))
    inside = real_x[:, None] & real_y[None, :]
    value = mixed(
        plane,
        y_low * by_row, y_high * by_row, wy,
        x_low * by_column, x_high * by_column, wx, inside,
    )  # fmt: skip
    above = (value > cut) & inside
    at = tl.load(row + 11) + (px - x0)[:, None] * tl.load(row + 12) + (py - y0)[None, :]
    tl.store(pixels + at, above.to(tl.uint8), mask=inside)
    area = tl.sum(above.to(tl.int32))
    if area > 0:
        tl.atomic_add(sums + number, area.to(tl.int64))
        likely = tl.sum(tl.where(above, tl.sigmoid(value), 0.0))
        tl.atomic_add(sums + known + number, units_kernel(likely))


@jit
def _places(start, scale, shift, size: tl.constexpr, cells):
    """Cells of a mask, framed by one 0, that pixels of its rectangle lie between."""
    pixel = start + tl.arange(0, size)
    at = tl.minimum(tl.maximum(shift + pixel.to(tl.float32) * scale, 0.0), cells + 1.0)
    low = tl.minimum(at.to(tl.int32), cells)
    return pixel, low, at - low.to(tl.float32)


@jit
def paint_boxes_kernel(
    boxes,
    readings,
    tiles,
    pixels,
    threshold,
    fields: tl.constexpr,
    element: tl.constexpr,
    size_x: tl.constexpr,
    size_y: tl.constexpr,
):
    """Per pixel of a detection's rectangle: 1 where its mask's probability exceeds the threshold.

    Row: address of the mask framed by zeros, its cells a side without the frame, width and height
    of the rectangle, its place in `pixels` and its stride. `readings`: per detection, scale and
    shift of x, then of y: where a pixel lies among the cells. Tiles as in `paint_masks`.
    """
    tile = tl.program_id(0)
    number = tl.load(tiles + tile * 3)
    row = boxes + number * fields
    plane = tl.load(row).to(tl.pointer_type(element))
    cells = tl.load(row + 1).to(tl.int32)
    reading = readings + number * 4
    px, x, wx = _places(
        tl.load(tiles + tile * 3 + 1), tl.load(reading), tl.load(reading + 1), size_x, cells
    )
    py, y, wy = _places(
        tl.load(tiles + tile * 3 + 2), tl.load(reading + 2), tl.load(reading + 3), size_y, cells
    )
    inside = (px < tl.load(row + 2))[:, None] & (py < tl.load(row + 3))[None, :]
    by_row = cells + 2
    value = mixed(plane, y * by_row, (y + 1) * by_row, wy, x, x + 1, wx, inside)
    at = tl.load(row + 4) + px[:, None] * tl.load(row + 5) + py[None, :]
    tl.store(pixels + at, (value > threshold).to(tl.uint8), mask=inside)
