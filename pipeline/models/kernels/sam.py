"""Triton kernels that judge and paint SAM's masks from their small logits; see `launch_sam`, and
`kernels` for what all kernels share.

A pixel is read from the small logits in one step, or in two as SAM 1 does it: it mixes four pixels
of the input, each of which mixes four cells. Tables say which: per row (and per column) four int32
lines (cells of the first and of the second input pixel, each low and high) and three float32 lines
(weights of the high cells, weight of the second pixel). Sums are in the order of PyTorch's
`interpolate`.
"""

# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false

from __future__ import annotations

import triton.language as tl

from .dense import jit


@jit
def _line(cells, weights, start, stop, size: tl.constexpr, two_steps: tl.constexpr):
    """The table's lines for `size` pixels from `start` on."""
    pixel = start + tl.arange(0, size)
    real = pixel < stop
    a_low = tl.load(cells + pixel, mask=real, other=0)
    a_high = tl.load(cells + stop + pixel, mask=real, other=0)
    a_weight = tl.load(weights + pixel, mask=real, other=0.0)
    if two_steps:
        b_low = tl.load(cells + 2 * stop + pixel, mask=real, other=0)
        b_high = tl.load(cells + 3 * stop + pixel, mask=real, other=0)
        b_weight = tl.load(weights + stop + pixel, mask=real, other=0.0)
        weight = tl.load(weights + 2 * stop + pixel, mask=real, other=0.0)
    else:
        b_low = a_low
        b_high = a_high
        b_weight = a_weight
        weight = a_weight
    return pixel, real, a_low, a_high, a_weight, b_low, b_high, b_weight, weight


@jit
def _mixed(plane, y_low, y_high, wy, x_low, x_high, wx, inside):
    """Along x first, as PyTorch does it."""
    a = tl.load(plane + x_low[:, None] + y_low[None, :], mask=inside, other=0.0).to(tl.float32)
    b = tl.load(plane + x_high[:, None] + y_low[None, :], mask=inside, other=0.0).to(tl.float32)
    c = tl.load(plane + x_low[:, None] + y_high[None, :], mask=inside, other=0.0).to(tl.float32)
    d = tl.load(plane + x_high[:, None] + y_high[None, :], mask=inside, other=0.0).to(tl.float32)
    right = wx[:, None]
    left = 1.0 - right
    return (1.0 - wy[None, :]) * (left * a + right * b) + wy[None, :] * (left * c + right * d)


@jit
def _values(
    plane, y_cells, y_weights, x_cells, x_weights, top, left, height, width, columns,
    size_x: tl.constexpr, size_y: tl.constexpr, two_steps: tl.constexpr,
):  # fmt: skip
    """Logits of a block of pixels, columns × rows; which of them exist; and where they are."""
    y, real_y, ya, yb, wya, yc, yd, wyb, wy = _line(
        y_cells, y_weights, top, height, size_y, two_steps
    )
    x, real_x, xa, xb, wxa, xc, xd, wxb, wx = _line(
        x_cells, x_weights, left, width, size_x, two_steps
    )
    inside = real_x[:, None] & real_y[None, :]
    ya, yb, yc, yd = ya * columns, yb * columns, yc * columns, yd * columns
    value = _mixed(plane, ya, yb, wya, xa, xb, wxa, inside)
    if two_steps:
        right = _mixed(plane, ya, yb, wya, xc, xd, wxb, inside)
        below = _mixed(plane, yc, yd, wyb, xa, xb, wxa, inside)
        both = _mixed(plane, yc, yd, wyb, xc, xd, wxb, inside)
        share = wx[:, None]
        value = (1.0 - wy[None, :]) * ((1.0 - share) * value + share * right) + wy[None, :] * (
            (1.0 - share) * below + share * both
        )
    return value, inside, x, y


@jit
def judge_masks(
    small,
    extent,
    y_cells,
    y_weights,
    x_cells,
    x_weights,
    found,
    masks,
    height,
    width,
    rows,
    columns,
    down,
    cut,
    offset,
    size_x: tl.constexpr,
    size_y: tl.constexpr,
    two_steps: tl.constexpr,
):
    """Per mask, in rows of `masks` numbers: pixels above the higher cut, pixels above the lower
    one; first column, first row, last column, last row of those above the cut itself.

    `extent`: per mask, first column, first row, last column, last row of its cells above the lower
    cut. A pixel that sees none of them is below it.
    """
    tile = tl.program_id(0)
    mask = tl.program_id(1)
    left = tile // down * size_x
    top = tile % down * size_y
    # The last line of cells: of the second pixel, where there are two.
    far = tl.full([], 3 if two_steps else 1, tl.int32)
    x_last = tl.minimum(left + size_x, width) - 1
    y_last = tl.minimum(top + size_y, height) - 1
    box = extent + mask * 4
    seen = (tl.load(x_cells + left) <= tl.load(box + 2)) & (
        tl.load(x_cells + far * width + x_last) >= tl.load(box)
    )
    seen = seen & (tl.load(y_cells + top) <= tl.load(box + 3))
    seen = seen & (tl.load(y_cells + far * height + y_last) >= tl.load(box + 1))
    if seen:
        plane = small + mask.to(tl.int64) * rows * columns
        value, inside, x, y = _values(
            plane, y_cells, y_weights, x_cells, x_weights, top, left, height, width, columns,
            size_x, size_y, two_steps,
        )  # fmt: skip
        low = tl.sum(((value > cut - offset) & inside).to(tl.int32))
        if low > 0:
            high = tl.sum(((value > cut + offset) & inside).to(tl.int32))
            tl.atomic_add(found + mask, high)
            tl.atomic_add(found + masks + mask, low)
            above = (value > cut) & inside
            x_all = x[:, None] + tl.zeros([size_x, size_y], tl.int32)
            y_all = y[None, :] + tl.zeros([size_x, size_y], tl.int32)
            into = found + 2 * masks + mask
            tl.atomic_min(into, tl.min(tl.where(above, x_all, 1 << 30)))
            tl.atomic_min(into + masks, tl.min(tl.where(above, y_all, 1 << 30)))
            tl.atomic_max(into + 2 * masks, tl.max(tl.where(above, x_all, -1)))
            tl.atomic_max(into + 3 * masks, tl.max(tl.where(above, y_all, -1)))


@jit
def paint_small_kernel(
    small,
    masks,
    tiles,
    y_cells,
    y_weights,
    x_cells,
    x_weights,
    pixels,
    height,
    width,
    rows,
    columns,
    cut,
    size_x: tl.constexpr,
    size_y: tl.constexpr,
    two_steps: tl.constexpr,
):
    """Per pixel of a mask's rectangle: 1 where above the cut.

    Row of `masks`: left, top, width and height of the rectangle, its place in `pixels` and its
    stride. A tile is three numbers: mask, first column and first row in the rectangle.
    """
    tile = tiles + tl.program_id(0) * 3
    mask = tl.load(tile)
    row = masks + mask * 6
    x0 = tl.load(row).to(tl.int32)
    y0 = tl.load(row + 1).to(tl.int32)
    left = x0 + tl.load(tile + 1).to(tl.int32)
    top = y0 + tl.load(tile + 2).to(tl.int32)
    plane = small + mask * rows * columns
    value, inside, x, y = _values(
        plane, y_cells, y_weights, x_cells, x_weights, top, left, height, width, columns,
        size_x, size_y, two_steps,
    )  # fmt: skip
    inside = inside & (x < x0 + tl.load(row + 2))[:, None] & (y < y0 + tl.load(row + 3))[None, :]
    at = tl.load(row + 4) + (x - x0)[:, None] * tl.load(row + 5) + (y - y0)[None, :]
    tl.store(pixels + at, (value > cut).to(tl.uint8), mask=inside)
