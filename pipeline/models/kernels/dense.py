"""Triton kernels that read a model's grid and write pixels: no map of values is ever as large as
the picture.

Everything a kernel must know of a picture is a row of int64 (`launch` writes them): addresses of
its tensors first, so that one launch does a whole batch whose tensors lie anywhere.

Pixels are blocks of columns × rows, rows fastest, as the maps are column-major. Interpolation is
that of `Reading.along`, along y first; float32 throughout.
"""

# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportAttributeAccessIssue=false
# Triton has its own types inside kernels, and its own parser: no ternaries, no keyword magic.

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
def span(address, start, size: tl.constexpr, stop):
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
def mixed(plane, y_low, y_high, wy, x_low, x_high, wx, inside):
    """Interpolated values of columns×rows pixels; positions are offsets in elements."""
    a = tl.load(plane + x_low[:, None] + y_low[None, :], mask=inside, other=0.0).to(tl.float32)
    b = tl.load(plane + x_low[:, None] + y_high[None, :], mask=inside, other=0.0).to(tl.float32)
    c = tl.load(plane + x_high[:, None] + y_low[None, :], mask=inside, other=0.0).to(tl.float32)
    d = tl.load(plane + x_high[:, None] + y_high[None, :], mask=inside, other=0.0).to(tl.float32)
    left = a + wy[None, :] * (b - a)
    right = c + wy[None, :] * (d - c)
    return left + wx[:, None] * (right - left)


@jit
def units_kernel(value):
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
    tl.atomic_add(sums + known + winner, units_kernel(likely), mask=sees)
    agreement = tl.load(row + 11)
    if agreement != 0:
        agreed = tl.load(agreement.to(tl.pointer_type(tl.float32)) + cell, mask=sees, other=0.0)
        tl.atomic_add(sums + 2 * known + winner, units_kernel(agreed), mask=sees)
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
        py, real_y, y_low, y_high, wy = span(tl.load(row + 6), top, size_y, height)
        px, real_x, x_low, x_high, wx = span(tl.load(row + 7), left, size_x, width)
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
                value = mixed(
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
        py, real_y, y_low, y_high, wy = span(tl.load(row + 4), top, size_y, height)
        px, real_x, x_low, x_high, wx = span(tl.load(row + 5), left, size_x, width)
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
            value = mixed(
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
def renumber_kernel(pictures, labels, tables, queries, fields: tl.constexpr, size: tl.constexpr):
    """Replaces labels by their entries in the picture's table. Row: place in `labels`, pixels."""
    row = pictures + tl.program_id(1) * fields
    pixel = tl.program_id(0).to(tl.int64) * size + tl.arange(0, size)
    inside = pixel < tl.load(row + 1)
    at = labels + tl.load(row) + pixel
    label = tl.load(at, mask=inside, other=0).to(tl.int32)
    entry = tl.load(tables + tl.program_id(1) * (queries + 1) + label, mask=inside, other=0)
    tl.store(at, entry.to(labels.dtype.element_ty), mask=inside)
