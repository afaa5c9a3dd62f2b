"""From SAM's small mask logits to what is kept of them: stability, boxes, and the final masks.

SAM 1 enlarges its logits in two steps, to the square input and then, without the padding, to the
picture; SAM 2 in one. Both are followed here, because pixels at a mask's rim depend on it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from .frame import Frame
from .paths import Path, path_for

CHUNK_PIXELS = 1 << 26
"""Enlarged logits at a time, so many values: 256 MB."""


@dataclass(frozen=True, slots=True)
class Enlarging:
    """How small logits become a picture's.

    Attributes:
        frame: Where the picture lies in the input.
        two_steps: Through the square input (SAM 1), or straight (SAM 2).
    """

    frame: Frame
    two_steps: bool

    def __call__(self, small: Tensor) -> Tensor:
        """M×h×w logits → M×H×W float32, in the picture's pixels."""
        x = small.float()[:, None]
        if self.two_steps:
            x = functional.interpolate(x, self.frame.input_hw, mode="bilinear", align_corners=False)
            height, width = self.frame.content_hw
            x = x[..., :height, :width]
        return functional.interpolate(
            x, self.frame.picture_hw, mode="bilinear", align_corners=False
        )[:, 0]

    def chunk(self) -> int:
        """Masks that are enlarged at once."""
        height, width = self.frame.picture_hw
        inner = self.frame.input_hw[0] * self.frame.input_hw[1] if self.two_steps else 0
        return max(1, CHUNK_PIXELS // (height * width + inner))


def judge(
    small: Tensor,
    enlarging: Enlarging,
    *,
    threshold: float,
    offset: float,
    path: Path | None = None,
) -> tuple[Tensor, Tensor]:
    """Stability and box of every mask.

    Args:
        small: M×h×w logits.
        enlarging: To the picture's pixels.
        threshold: Logits above are inside.
        offset: Stability is the share of the pixels above `threshold` − `offset` that are above
            `threshold` + `offset` as well.
        path: See `paths`.

    Returns:
        M float32 in 0…1 (NaN for a mask that is empty even at the lower threshold), and M×4 int64
        boxes: left, top, right, bottom, the last two of the last pixel inside; zeros if empty.
    """
    if len(small) and path_for(small.device, path) == "kernels":
        from .launch_sam import judge_small

        return judge_small(
            small,
            enlarging.frame,
            two_steps=enlarging.two_steps,
            threshold=threshold,
            offset=offset,
        )
    step = enlarging.chunk()
    found = [_judge(part, enlarging, threshold, offset) for part in small.split(step)]
    if not found:
        return small.new_zeros(0, dtype=torch.float32), small.new_zeros((0, 4), dtype=torch.int64)
    stability, boxes = zip(*found, strict=True)
    return torch.cat(stability), torch.cat(boxes)


def paint(small: Tensor, enlarging: Enlarging, *, threshold: float) -> Tensor:
    """The masks themselves: M×W×H uint8, columns first, as run lengths want them."""
    parts = [
        (enlarging(part) > threshold).to(torch.uint8).transpose(1, 2).contiguous()
        for part in small.split(enlarging.chunk())
    ]
    height, width = enlarging.frame.picture_hw
    return torch.cat(parts) if parts else small.new_zeros((0, width, height), dtype=torch.uint8)


def _judge(
    small: Tensor, enlarging: Enlarging, threshold: float, offset: float
) -> tuple[Tensor, Tensor]:
    logits = enlarging(small)
    high = (logits > threshold + offset).flatten(1).sum(1, dtype=torch.int32)
    low = (logits > threshold - offset).flatten(1).sum(1, dtype=torch.int32)
    return high / low, boxes_of(logits > threshold)


def boxes_of(masks: Tensor) -> Tensor:
    """Boxes of M×H×W masks; see `judge`."""
    rows, columns = masks.any(2), masks.any(1)
    box = torch.stack((*_ends(columns), *_ends(rows)), 1)[:, (0, 2, 1, 3)]
    return box * rows.any(1, keepdim=True)


def _ends(line: Tensor) -> tuple[Tensor, Tensor]:
    """First and last index of a True in each row of M×S."""
    size = line.shape[1]
    place = torch.arange(size, device=line.device)
    return torch.where(line, place, size).amin(1), torch.where(line, place, -1).amax(1)
