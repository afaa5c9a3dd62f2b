"""Checks of the kernel of RoIAlign, on a GPU or in Triton's interpreter on a CPU."""

from __future__ import annotations

import torch
from torchvision.ops import MultiScaleRoIAlign

from pipeline.models.kernels.regions import cut_regions


def check(device: str) -> None:
    """Boxes of all levels, inside, across and outside the edge, against torchvision's own."""
    torch.manual_seed(0)
    # The interpreter takes a millisecond a step.
    hw, count, bins = ((512, 768), 24, (7, 14)) if device != "cpu" else ((512, 768), 5, (2,))
    levels = [torch.randn(2, 16, hw[0] >> n, hw[1] >> n) for n in range(2, 6)]
    corners = torch.rand(count, 2) * torch.tensor([hw[1], hw[0]])
    sides = 2.0 ** (torch.rand(count, 2) * 7 + 2)
    boxes = torch.cat((corners, corners + sides), 1)
    boxes[0] = torch.tensor([-9.0, -9.0, 20.0, 20.0])
    boxes[1] = torch.tensor([5.0, 5.0, 5.0, 5.0])
    pictures = torch.arange(count) % 2
    order = pictures.argsort(stable=True)
    for side in bins:
        pool = MultiScaleRoIAlign(["0", "1", "2", "3"], side, 2)
        features = {str(n): each for n, each in enumerate(levels)}
        parts = [boxes[pictures == 0], boxes[pictures == 1]]
        wanted = pool(features, parts, [hw, hw])  # pyright: ignore[reportArgumentType]
        found = cut_regions(
            [each.to(device) for each in levels],
            boxes[order].to(device),
            pictures[order].to(device),
            side=side,
            dtype=torch.float32,
        )
        torch.testing.assert_close(found.cpu(), wanted, rtol=1e-4, atol=1e-4)
