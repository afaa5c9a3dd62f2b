"""Loads a SAM in the precision that serves it best."""

from __future__ import annotations

import logging
from collections.abc import Sequence

import torch
from torch import Tensor

from pipeline.models.network.forward import precision
from schemas.config.model import ModelConfig

from .checkpoint import SamCheckpoint
from .net import Encoded, SamNet

log = logging.getLogger(__name__)


def load_sam(
    checkpoint: SamCheckpoint, options: ModelConfig, device: str, *, reference: bool = False
) -> SamNet:
    """The network on its device.

    A mask's rim lies where logits change sign, and bfloat16's 8 bits move it: against float32,
    masks of bfloat16 had a mean IoU of 0.983, those of float16 0.997 (bench.sam_agreement). So
    "auto" is float16 where other networks take bfloat16, unless the encoder's numbers leave
    float16's range. Whether they do is asked of pictures that are always the same, so that all
    workers come to one answer.

    Args:
        checkpoint: What to load.
        options: Of the job; `dtype` and `compile`.
        device: "cpu", "cuda".
        reference: Plain float32, with the implementation's own encoder.

    Raises:
        ValueError: The weights do not fit the architecture.
    """
    if reference:
        return checkpoint.load(device, torch.float32, reference=True)
    wanted = precision(options.dtype, device)
    if options.dtype == "auto" and wanted == torch.bfloat16:
        net = checkpoint.load(device, torch.float16, compiled=bool(options.compile))
        if in_range(net, device):
            return net
        del net
        log.warning("this SAM's numbers leave float16's range; it runs in bfloat16")
    return checkpoint.load(device, wanted, compiled=bool(options.compile))


def in_range(net: SamNet, device: str) -> bool:
    """Whether it answers with numbers: to nothing, to noise and to a chequered picture."""
    side = net.side
    noise = torch.randn(3, side, side, generator=torch.Generator().manual_seed(0))
    place = torch.arange(side) // 32
    squares = ((place[:, None] + place) % 2 * 4.0 - 2.0).expand(3, side, side)
    middle = torch.full((1, 1, 2), side / 2, device=device)
    # Three single pictures are not worth a compilation, which would be one for their shape alone.
    with torch.inference_mode(), torch.compiler.set_stance("force_eager"):
        point = net.points(middle, torch.ones((1, 1), device=device))
        for picture in (torch.zeros_like(noise), noise, squares):
            found = net.encode(picture[None].to(device, net.dtype))
            answer = net.fast.decode(found[0].embedding, point).predicted_iou
            if _overflown(found) or not bool(answer.isfinite().all()):
                return False
    return True


def encode_images(net: SamNet, pixels: Tensor) -> list[Encoded]:
    """Pictures after the encoder.

    Args:
        net: A loaded SAM.
        pixels: B×3×side×side, normalised.

    Raises:
        ValueError: A picture's numbers leave float16's range; without this it would look empty.
    """
    pictures = net.encode(pixels.to(net.dtype))
    if net.dtype == torch.float16 and _overflown(pictures):
        raise ValueError(
            "the encoder's numbers leave float16's range; set model.dtype to bfloat16 or float32"
        )
    return pictures


def _overflown(pictures: Sequence[Encoded]) -> bool:
    return not bool(torch.stack([each.raw.isfinite().all() for each in pictures]).all())
