"""What the kernel of deformable attention gives is what the plain formula gives.

`test_deformable` calls `check`: with a CPU under Triton's interpreter, with a GPU where there is
one.
"""

from __future__ import annotations

import torch

from pipeline.models.kernels.deformable import attend_levels
from pipeline.models.network.deformable import sample_levels

CASES = (
    ([5, 7, 3, 4, 2, 2], 2, torch.float32, 2e-6),
    ([9, 3], 4, torch.float32, 2e-6),
    ([4, 4, 3, 3, 2, 2, 1, 1], 4, torch.bfloat16, 1e-2),
    ([3, 5, 2, 2], 2, torch.float16, 2e-3),
)
"""Sides of the levels, numbers of a reference, precision and its rounding."""


def check(device: str) -> None:
    """Several levels, points beyond the levels, both kinds of references, three number formats."""
    torch.manual_seed(0)
    for shapes, coordinates, dtype, tolerance in CASES:
        levels = len(shapes) // 2
        cells = sum(shapes[2 * level] * shapes[2 * level + 1] for level in range(levels))
        queries, heads, channels, each = 37, 2, 16, 2
        values = torch.randn(2, cells, heads, channels, device=device).to(dtype)
        points = 3 * torch.randn(2, queries, 3 * heads * levels * each, device=device)
        # A level's references differ from another's only where pictures are padded: a stride of 0.
        one = torch.rand(2, queries, 1, coordinates, device=device) * 1.4 - 0.2
        references = one.expand(-1, -1, levels, -1)
        wanted = sample_levels(values.float(), points.to(dtype), references, shapes)
        found = attend_levels(values, points.to(dtype), references, shapes)
        error = float((found.float() - wanted).norm() / wanted.norm())
        if not error < tolerance:
            raise AssertionError(f"{device} {shapes} {coordinates} {dtype}: {error}")
        far = torch.full_like(points, 1e30)
        far[..., 2 * heads * levels * each :] = 0
        nothing = attend_levels(values, far.to(dtype), references, shapes)
        if not bool((nothing == 0).all()):
            raise AssertionError(f"{device} {shapes} {coordinates} {dtype}: beyond the levels")
