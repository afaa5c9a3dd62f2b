"""Tiny random checkpoints of segmentation-models-pytorch, as its own `save_pretrained` writes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch


def tiny_smp(folder: Path, *, name: str = "Unet", **arguments: Any) -> Path:
    """A checkpoint whose random answers differ from place to place.

    Args:
        folder: Made where it is missing.
        name: Of the network's class.
        arguments: Of it; a small encoder and 4 categories unless given.
    """
    net = network(name, **arguments)
    net.save_pretrained(folder)
    return folder


def network(name: str, **arguments: Any) -> Any:
    """The network itself, in eval mode."""
    import segmentation_models_pytorch as smp

    torch.manual_seed(5)
    small: dict[str, Any] = {"encoder_name": "tu-test_resnet", "classes": 4}
    if name == "DPT":
        small.update(encoder_name="tu-test_vit", dynamic_img_size=True)
    if name in ("Unet", "UnetPlusPlus", "MAnet"):
        small.update(encoder_depth=3, decoder_channels=(16, 8, 8))
    net = getattr(smp, name)(encoder_weights=None, **{**small, **arguments}).eval()
    if name != "DPT":
        _spread(net)
    return net


def _spread(net: Any) -> None:
    """Logits of mean 0 and deviation 3 on noise."""
    layer = net.segmentation_head[0]
    noise = torch.nn.functional.interpolate(torch.randn(2, 3, 8, 12), (128, 192))
    with torch.no_grad():
        for _ in range(2):
            logits = _logits(net, noise)
            layer.weight.mul_(3 / logits.std((0, 2, 3)).clamp(min=1e-6)[:, None, None, None])
            layer.bias.sub_(_logits(net, noise).mean((0, 2, 3)))


def _logits(net: Any, x: torch.Tensor) -> torch.Tensor:
    """Before the activation."""
    convolve, enlarge, _ = net.segmentation_head
    return enlarge(convolve(net.decoder(net.encoder(x))))
