"""Kernels by themselves for bench.forwards: right, and how fast beside the plain formula."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from typing import Any

import torch

Clock = Callable[[Callable[[], Any]], float]
"""A call → milliseconds."""


def kernel_lines(given: argparse.Namespace, clock: Clock) -> list[str]:
    """Rows of the table: deformable attention, windows of Swin, suppression of boxes.

    Args:
        given: Of bench.forwards: `device`, `batch`, `small`.
        clock: Times a call.
    """
    lines = deformable_lines(given, clock)
    if given.device != "cpu":
        for side, heads, hw in ((12, 6, (204, 276)), (7, 3, (203, 273))):
            for shift in (0, side // 2):
                lines += window_lines(given, clock, side, shift, heads, hw)
    return lines + suppression_lines(given, clock)


def deformable_lines(given: argparse.Namespace, clock: Clock) -> list[str]:
    """A layer of Mask2Former's pixel decoder."""
    from pipeline.models.network.deformable import deformable_attention, sample_levels
    from pipeline.models.network.pixel_decoder import cell_middles

    shapes = [4, 5, 8, 10, 16, 20] if given.small else [25, 34, 50, 68, 100, 136]
    cells = sum(shapes[at] * shapes[at + 1] for at in range(0, len(shapes), 2))
    values = torch.randn(given.batch, cells, 8, 32, device=given.device, dtype=torch.bfloat16)
    points = torch.randn(given.batch, cells, 3 * 8 * 3 * 4, device=given.device)
    points = (2 * points).bfloat16()  # cells: trained offsets are mostly below five
    pairs = [(shapes[at], shapes[at + 1]) for at in range(0, len(shapes), 2)]
    middles = cell_middles(pairs, values.device).expand(given.batch, -1, -1, -1)
    ways = {
        "kernel": lambda: deformable_attention(values, points, middles, shapes),
        "plain formula, float32": lambda: sample_levels(values, points, middles, shapes),
    }
    return _rows("one deformable layer", ways, clock)


def window_lines(
    given: argparse.Namespace,
    clock: Clock,
    side: int,
    shift: int,
    heads: int,
    hw: tuple[int, int],
) -> list[str]:
    """Attention in the windows of a Swin-L's or a Swin-T's first stage."""
    from pipeline.models.kernels.windows import attend_windows
    from pipeline.models.network.windows import attention_in_windows

    count = given.batch * (hw[0] // side) * (hw[1] // side)
    shape = count, side * side, heads * 32
    q, k, v = (torch.randn(shape, device="cuda", dtype=torch.bfloat16) for _ in range(3))
    biases = torch.randn(heads, side**2, side**2, device="cuda", dtype=torch.bfloat16)
    ways = {
        "kernel": lambda: attend_windows(q, k, v, biases, side=side, shift=shift, hw=hw),
        "PyTorch": lambda: attention_in_windows(q, k, v, biases, side, shift, hw[0], hw[1]),
    }
    return _rows(f"windows of {side}², shift {shift}", ways, clock)


def suppression_lines(given: argparse.Namespace, clock: Clock) -> list[str]:
    """Proposals of a batch: five levels of a thousand boxes a picture, IoU 0.7."""
    from torchvision.ops import nms

    from pipeline.models.network.regions import survivors

    groups, count = (3, 20) if given.small else (5 * given.batch, 1000)
    corners = torch.rand(groups, count, 2, device=given.device) * 800
    sides = torch.rand(groups, count, 2, device=given.device) * 200
    boxes = torch.cat((corners, corners + sides), 2)
    present = torch.ones(groups, count, dtype=torch.bool, device=given.device)
    falling = torch.arange(count, 0, -1, device=given.device).float()

    def one_by_one() -> torch.Tensor:
        kept = torch.zeros_like(present)
        for own, answer in zip(boxes, kept, strict=True):
            answer[nms(own, falling, 0.7)] = True
        return kept

    ways = {"kernel": lambda: survivors(boxes, present, 0.7), "torchvision": one_by_one}
    return _rows("suppression of a batch", ways, clock)


def _rows(name: str, ways: dict[str, Callable[[], torch.Tensor]], clock: Clock) -> list[str]:
    """The first way is ours; its error is relative to the last."""
    first, *_, last = (call().double() for call in ways.values())
    error = float((first - last).norm() / last.norm())
    return [
        f"| {name}, error {error:.5f} | {way} | {clock(call):.3f} a layer |"
        for way, call in ways.items()
    ]
