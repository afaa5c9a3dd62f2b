# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false
# Triton has its own types inside kernels, and its own parser: no ternaries, no keyword magic.
"""Triton kernels that read a model's grid and write pixels: no map of values is ever as large as
the picture.

Everything a kernel must know of a picture is a row of int64 (`launch` writes them): addresses of
its tensors first, so that one launch does a whole batch whose tensors lie anywhere.

Pixels are blocks of columns × rows, rows fastest, as the maps are column-major. Interpolation is
that of `Reading.along`, along y first; float32 throughout.
"""

from __future__ import annotations

import inspect
from typing import Any

import triton
import triton.language as tl


def jit(kernel: Any) -> Any:
    """Compiles a kernel once for each set of constants.

    Triton would compile again for every pattern of arguments that are 1 or divisible by 16; numbers
    of runs and addresses of views fall into all of them.
    """
    names = list(kernel.__annotations__)
    plain = [name for name in inspect.signature(kernel).parameters if name not in names]
    compile_: Any = triton.jit
    return compile_(kernel, do_not_specialize=plain, do_not_specialize_on_alignment=plain)


@jit
def _span(address, start, size: tl.constexpr, stop):
    """Cells and weight of `size` pixels from `start` on: `address` points at low, high, weight."""
    pixel = start + tl.arange(0, size)
    real = pixel < stop
    low = tl.load(address.to(tl.pointer_type(tl.int32)) + pixel, mask=real, other=0)
    high = tl.load(address.to(tl.pointer_type(tl.int32)) + stop + pixel, mask=real, other=0)
    weight = tl.load(
        address.to(tl.pointer_type(tl.float32)) + 2 * stop + pixel, mask=real, other=0.0
    )
    return pixel, real, low, high, weight


@jit
def _mixed(plane, y_low, y_high, wy, x_low, x_high, wx, inside):
    """Interpolated values of columns×rows pixels; positions are offsets in elements."""
    a = tl.load(plane + x_low[:, None] + y_low[None, :], mask=inside, other=0.0).to(tl.float32)
    b = tl.load(plane + x_low[:, None] + y_high[None, :], mask=inside, other=0.0).to(tl.float32)
    c = tl.load(plane + x_high[:, None] + y_low[None, :], mask=inside, other=0.0).to(tl.float32)
    d = tl.load(plane + x_high[:, None] + y_high[None, :], mask=inside, other=0.0).to(tl.float32)
    left = a + wy[None, :] * (b - a)
    right = c + wy[None, :] * (d - c)
    return left + wx[:, None] * (right - left)


@jit
def _units(value):
    """Numbers in 0…1 as integers whose sums do not depend on their order; see `cell_scores`."""
    return (value * 16777216.0 + 0.5).to(tl.int64)


@jit
def best_cells(
    pictures,
    best,
    sums,
    most,
    known,
    categories,
    fields: tl.constexpr,
    element: tl.constexpr,
    probabilities: tl.constexpr,
    size: tl.constexpr,
):
    """Per cell of the grid: its best category, plus `categories` for every picture before.

    Of the cells that see a picture, per picture and category: how many are its own, and the sums
    of its probability and of the agreement over them in units of 2⁻²⁴ (three rows of `known`
    numbers in `sums`); its largest probability in any of them (`most`, the bits of a float).

    Row: maps, strides of category, row and column, cells and columns of the grid, place in `best`,
    first row, row past the last, first column, column past the last that see the picture,
    agreement or 0.
    """
    picture = tl.program_id(1)
    row = pictures + picture * fields
    maps = tl.load(row).to(tl.pointer_type(element))
    by_category = tl.load(row + 1)
    count = tl.load(row + 4)
    columns = tl.load(row + 5)
    cell = tl.program_id(0) * size + tl.arange(0, size)
    real = cell < count
    y = cell // columns
    x = cell - y * columns
    place = maps + y * tl.load(row + 2) + x * tl.load(row + 3)
    top = tl.full([size], float("-inf"), tl.float32)
    total = tl.zeros([size], tl.float32)
    winner = tl.zeros([size], tl.int32)
    for category in range(categories):
        value = tl.load(place + category * by_category, mask=real, other=0.0).to(tl.float32)
        better = value > top
        winner = tl.where(better, category, winner)
        if not probabilities:
            larger = tl.maximum(top, value)
            total = total * tl.exp(top - larger) + tl.exp(value - larger)
        top = tl.maximum(top, value)
    winner += picture * categories
    tl.store(best + tl.load(row + 6) + cell, winner, mask=real)
    sees = (y >= tl.load(row + 7)) & (y < tl.load(row + 8))
    sees = sees & (x >= tl.load(row + 9)) & (x < tl.load(row + 10)) & real
    if probabilities:  # noqa: SIM108 (a ternary is evaluated on both sides)
        likely = tl.minimum(tl.maximum(top, 0.0), 1.0)
    else:
        likely = 1.0 / total
    tl.atomic_add(sums + winner, sees.to(tl.int64), mask=sees)
    tl.atomic_add(sums + known + winner, _units(likely), mask=sees)
    agreement = tl.load(row + 11)
    if agreement != 0:
        agreed = tl.load(agreement.to(tl.pointer_type(tl.float32)) + cell, mask=sees, other=0.0)
        tl.atomic_add(sums + 2 * known + winner, _units(agreed), mask=sees)
    for category in range(categories):
        value = tl.load(place + category * by_category, mask=real, other=0.0).to(tl.float32)
        if probabilities:
            value = tl.minimum(tl.maximum(value, 0.0), 1.0)
        else:
            value = tl.exp(value - top) / total
        # Bits of floats from 0 on are in the order of the floats.
        largest = tl.max(tl.where(sees, value, 0.0), axis=0).to(tl.int32, bitcast=True)
        tl.atomic_max(most + picture * categories + category, largest)


@jit
def best_values(
    pictures,
    best,
    labels,
    categories,
    fields: tl.constexpr,
    element: tl.constexpr,
    size_x: tl.constexpr,
    size_y: tl.constexpr,
):
    """Per pixel: 1 + the best category. Blocks whose cells all agree are filled.

    Row: maps, strides of category, row and column, columns of the grid, place in `best`, readings
    of y and of x, height, width, place in `labels`.
    """
    row = pictures + tl.program_id(1) * fields
    height = tl.load(row + 8)
    width = tl.load(row + 9)
    down = tl.cdiv(height, size_y)
    left = tl.program_id(0) // down * size_x
    if left < width:
        top = tl.program_id(0) % down * size_y
        py, real_y, y_low, y_high, wy = _span(tl.load(row + 6), top, size_y, height)
        px, real_x, x_low, x_high, wx = _span(tl.load(row + 7), left, size_x, width)
        inside = real_x[:, None] & real_y[None, :]
        columns = tl.load(row + 4).to(tl.int32)
        cells = best + tl.load(row + 5)
        a = tl.load(cells + x_low[:, None] + y_low[None, :] * columns, mask=inside, other=0)
        b = tl.load(cells + x_low[:, None] + y_high[None, :] * columns, mask=inside, other=0)
        c = tl.load(cells + x_high[:, None] + y_low[None, :] * columns, mask=inside, other=0)
        d = tl.load(cells + x_high[:, None] + y_high[None, :] * columns, mask=inside, other=0)
        differ = (a != b) | (a != c) | (a != d)
        winner = a - tl.program_id(1) * categories
        if tl.max(differ.to(tl.int32)) > 0:
            maps = tl.load(row).to(tl.pointer_type(element))
            by_row = tl.load(row + 2).to(tl.int32)
            by_column = tl.load(row + 3).to(tl.int32)
            most = tl.full([size_x, size_y], float("-inf"), tl.float32)
            winner = tl.zeros([size_x, size_y], tl.int32)
            for category in range(categories):
                value = _mixed(
                    maps + category * tl.load(row + 1),
                    y_low * by_row, y_high * by_row, wy,
                    x_low * by_column, x_high * by_column, wx, inside,
                )  # fmt: skip
                winner = tl.where(value > most, category, winner)
                most = tl.maximum(most, value)
        at = tl.load(row + 10) + px[:, None] * height + py[None, :]
        tl.store(labels + at, (winner + 1).to(labels.dtype.element_ty), mask=inside)


@jit
def best_queries(
    pictures,
    order,
    scores,
    labels,
    visible,
    own,
    queries,
    mask_threshold,
    fields: tl.constexpr,
    element: tl.constexpr,
    size_x: tl.constexpr,
    size_y: tl.constexpr,
):
    """Per pixel: 1 + the number of the kept query with the largest score × mask probability; per
    kept query: pixels won, and pixels at or above the threshold.

    Row: masks, strides of query, row and column, readings of y and of x, height, width, place in
    `labels`, kept queries. `order`, `scores`, `visible`, `own` have queries places a picture.
    """
    picture = tl.program_id(1)
    row = pictures + picture * fields
    height = tl.load(row + 6)
    width = tl.load(row + 7)
    down = tl.cdiv(height, size_y)
    left = tl.program_id(0) // down * size_x
    if left < width:
        top = tl.program_id(0) % down * size_y
        py, real_y, y_low, y_high, wy = _span(tl.load(row + 4), top, size_y, height)
        px, real_x, x_low, x_high, wx = _span(tl.load(row + 5), left, size_x, width)
        inside = real_x[:, None] & real_y[None, :]
        masks = tl.load(row).to(tl.pointer_type(element))
        by_query = tl.load(row + 1)
        by_row = tl.load(row + 2).to(tl.int32)
        by_column = tl.load(row + 3).to(tl.int32)
        kept = tl.load(row + 9).to(tl.int32)
        most = tl.full([size_x, size_y], -1.0, tl.float32)
        winner = tl.zeros([size_x, size_y], tl.int32)
        for number in range(kept):
            query = tl.load(order + picture * queries + number)
            value = _mixed(
                masks + query * by_query,
                y_low * by_row, y_high * by_row, wy,
                x_low * by_column, x_high * by_column, wx, inside,
            )  # fmt: skip
            value = tl.sigmoid(value) * tl.load(scores + picture * queries + query)
            hits = tl.sum(((value >= mask_threshold) & inside).to(tl.int32))
            if hits > 0:
                tl.atomic_add(own + picture * queries + number, hits)
            winner = tl.where(value > most, number, winner)
            most = tl.maximum(most, value)
        for number in range(kept):
            wins = tl.sum(((winner == number) & inside).to(tl.int32))
            if wins > 0:
                tl.atomic_add(visible + picture * queries + number, wins)
        at = tl.load(row + 8) + px[:, None] * height + py[None, :]
        winner = tl.where(kept > 0, winner + 1, 0)
        tl.store(labels + at, winner.to(labels.dtype.element_ty), mask=inside)


@jit
def renumber(pictures, labels, tables, queries, fields: tl.constexpr, size: tl.constexpr):
    """Replaces labels by their entries in the picture's table. Row: place in `labels`, pixels."""
    row = pictures + tl.program_id(1) * fields
    pixel = tl.program_id(0).to(tl.int64) * size + tl.arange(0, size)
    inside = pixel < tl.load(row + 1)
    at = labels + tl.load(row) + pixel
    label = tl.load(at, mask=inside, other=0).to(tl.int32)
    entry = tl.load(tables + tl.program_id(1) * (queries + 1) + label, mask=inside, other=0)
    tl.store(at, entry.to(labels.dtype.element_ty), mask=inside)


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
    py, real_y, y_low, y_high, wy = _span(tl.load(row + 3), y0 + top, size_y, tl.load(row + 5))
    px, real_x, x_low, x_high, wx = _span(tl.load(row + 4), x0 + left, size_x, tl.load(row + 6))
    real_y = real_y & (py < y0 + tl.load(row + 10))
    real_x = real_x & (px < x0 + tl.load(row + 9))
    inside = real_x[:, None] & real_y[None, :]
    value = _mixed(
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
        tl.atomic_add(sums + known + number, _units(likely))


@jit
def _places(start, scale, shift, size: tl.constexpr, cells):
    """Cells of a mask, framed by one 0, that pixels of its rectangle lie between."""
    pixel = start + tl.arange(0, size)
    at = tl.minimum(tl.maximum(shift + pixel.to(tl.float32) * scale, 0.0), cells + 1.0)
    low = tl.minimum(at.to(tl.int32), cells)
    return pixel, low, at - low.to(tl.float32)


@jit
def paint_boxes(
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
    value = _mixed(plane, y * by_row, (y + 1) * by_row, wy, x, x + 1, wx, inside)
    at = tl.load(row + 4) + px[:, None] * tl.load(row + 5) + py[None, :]
    tl.store(pixels + at, (value > threshold).to(tl.uint8), mask=inside)
