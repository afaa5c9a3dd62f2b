"""Triton kernels that write COCO's strings; see `device_runs` for their order, `pipeline.rle` for
the code itself.
"""

# pyright: reportMissingImports=false, reportOperatorIssue=false, reportArgumentType=false
# pyright: reportGeneralTypeIssues=false

from __future__ import annotations

import triton.language as tl

from .dense import jit


@jit
def run_regions(
    flat, places, count, planes, known, steps, none, regions, plane_of, size: tl.constexpr
):
    """Per run: the region it belongs to, `none` for zeros, and the plane it lies in.

    `planes` has six rows of `known` numbers: place in the buffer, places a column, left, top,
    height of the picture, first region less one. `steps`: halvings that single one out.
    """
    run = tl.program_id(0) * size + tl.arange(0, size)
    real = run < count
    place = tl.load(places + run, mask=real, other=0)
    low = tl.zeros([size], tl.int32)
    high = tl.zeros([size], tl.int32) + known
    for _ in range(steps):
        middle = (low + high) // 2
        after = tl.load(planes + middle, mask=real, other=0) <= place
        low = tl.where(after, middle, low)
        high = tl.where(after, high, middle)
    value = tl.load(flat + place, mask=real, other=0).to(tl.int32)
    first = tl.load(planes + 5 * known + low, mask=real, other=0).to(tl.int32)
    tl.store(regions + run, tl.where(value > 0, first + value, none), mask=real)
    tl.store(plane_of + run, low, mask=real)


@jit
def _run(places, plane_of, planes, known, run, count, end, real):
    """Where runs begin in their pictures, column by column; their lengths; the heights."""
    place = tl.load(places + run, mask=real, other=0)
    after = tl.load(places + run + 1, mask=real & (run + 1 < count), other=end)
    plane = tl.load(plane_of + run, mask=real, other=0)
    inside = place - tl.load(planes + plane, mask=real, other=0)
    stride = tl.load(planes + known + plane, mask=real, other=1)
    column = inside // stride
    row = inside - column * stride
    column += tl.load(planes + 2 * known + plane, mask=real, other=0)
    row += tl.load(planes + 3 * known + plane, mask=real, other=0)
    height = tl.load(planes + 4 * known + plane, mask=real, other=1)
    return column * height + row, after - place, height


@jit
def _digits(value):
    """Digits of five bits that a number takes: n hold −2^(5n−1) … 2^(5n−1)−1."""
    folded = value ^ (value >> 63)  # the negatives onto the same bounds
    count = 1 + (folded >= 16).to(tl.int32) + (folded >= 512).to(tl.int32)
    count += (folded >= 1 << 14).to(tl.int32) + (folded >= 1 << 19).to(tl.int32)
    return count + (folded >= 1 << 24).to(tl.int32) + (folded >= 1 << 29).to(tl.int32)


@jit
def run_numbers(
    places,
    plane_of,
    count,
    end,
    planes,
    known,
    regions,
    order,
    first,
    none,
    pixels,
    values,
    sizes,
    table,
    size: tl.constexpr,
):
    """Per run, sorted by region: its two numbers and their digits; per region: the last zeros, and
    six rows of `none` numbers: area, left, right, height − 1 − top, bottom, characters.

    The numbers of run r of region s are entry r + s, so that each region's last zeros follow it.
    From the fourth of a region on, a number is the difference to the one two places before.
    """
    run = tl.program_id(0) * size + tl.arange(0, size)
    real = run < count
    region = tl.load(regions + run, mask=real, other=none)
    real = real & (region < none)
    rank = run - tl.load(first + region, mask=real, other=0)
    second = real & (rank > 0)
    third = real & (rank > 1)
    at = tl.load(order + run, mask=real, other=0)
    begin, length, height = _run(places, plane_of, planes, known, at, count, end, real)
    at = tl.load(order + run - 1, mask=second, other=0)
    begin1, length1, _h1 = _run(places, plane_of, planes, known, at, count, end, second)
    at = tl.load(order + run - 2, mask=third, other=0)
    begin2, length2, _h2 = _run(places, plane_of, planes, known, at, count, end, third)
    zeros = begin - tl.where(second, begin1 + length1, 0)
    zeros1 = begin1 - tl.where(third, begin2 + length2, 0)
    empty = zeros - tl.where(third, zeros1, 0)
    full = length - tl.where(second, length1, 0)
    entry = run + region
    tl.store(values + 2 * entry, empty, mask=real)
    tl.store(values + 2 * entry + 1, full, mask=real)
    digits = _digits(empty) + _digits(full)
    tl.store(sizes + entry, digits, mask=real)

    stop = begin + length
    last = real & (run + 1 == tl.load(first + region + 1, mask=real, other=0))
    rest = tl.load(pixels + region, mask=last, other=0) - stop
    number = rest - tl.where(second, zeros, 0)
    tl.store(values + 2 * (entry + 1), number, mask=last)
    more = tl.where(last & (rest > 0), _digits(number), 0)
    tl.store(sizes + entry + 1, more, mask=last)

    left = begin // height
    right = (stop - 1) // height
    wraps = right > left  # a run over a column's foot touches both edges
    top = tl.where(wraps, 0, begin - left * height)
    bottom = tl.where(wraps, height - 1, stop - 1 - right * height)
    into = table + region
    tl.atomic_add(into, length.to(tl.int32), mask=real)
    tl.store(into + none, left.to(tl.int32), mask=real & (rank == 0))
    tl.store(into + 2 * none, right.to(tl.int32), mask=last)
    tl.atomic_max(into + 3 * none, (height - 1 - top).to(tl.int32), mask=real)
    tl.atomic_max(into + 4 * none, bottom.to(tl.int32), mask=real)
    tl.atomic_add(into + 5 * none, digits + more, mask=real)


@jit
def _written(text, at, value, digits, real):
    for digit in tl.static_range(7):
        more = 48 + 32 * (digit + 1 < digits).to(tl.int32)
        character = ((value >> (5 * digit)) & 31).to(tl.int32) + more
        tl.store(text + at + digit, character.to(tl.uint8), mask=real & (digit < digits))


@jit
def run_text(values, sizes, ends, count, text, size: tl.constexpr):
    """Writes the characters of each entry; its text ends at `ends`."""
    entry = tl.program_id(0) * size + tl.arange(0, size)
    both = tl.load(sizes + entry, mask=entry < count, other=0)
    real = both > 0
    at = tl.load(ends + entry, mask=real, other=0) - both
    value = tl.load(values + 2 * entry, mask=real, other=0)
    digits = _digits(value)
    _written(text, at, value, digits, real)
    value = tl.load(values + 2 * entry + 1, mask=real & (both > digits), other=0)
    _written(text, at + digits, value, both - digits, real)
