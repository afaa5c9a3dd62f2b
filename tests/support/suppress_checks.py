"""Checks of the kernel of suppression, on a GPU or in Triton's interpreter on a CPU."""

from __future__ import annotations

import torch
from torchvision.ops import nms

from pipeline.models.kernels.suppress import suppress_boxes


def check(device: str) -> None:
    """Groups of any sizes against torchvision's own suppression, one by one."""
    for seed, (groups, count) in enumerate(((3, 1), (2, 5), (4, 37), (2, 64))):
        torch.manual_seed(seed)
        corners = torch.rand(groups, count, 2) * 40
        boxes = torch.cat((corners, corners + torch.rand(groups, count, 2) * 30), 2)
        boxes[:, count // 2] = boxes[:, 0]  # one twice
        present = torch.rand(groups, count) > 0.2
        for threshold in (0.3, 0.7):
            found = suppress_boxes(boxes.to(device), present.to(device), threshold=threshold).cpu()
            for own, there, kept in zip(boxes, present, found, strict=True):
                places = there.nonzero()[:, 0]
                falling = torch.arange(len(places), 0, -1).float()
                wanted = torch.zeros(count, dtype=torch.bool)
                wanted[places[nms(own[places], falling, threshold)]] = True
                assert torch.equal(kept, wanted)
