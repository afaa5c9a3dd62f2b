"""The U-Net: an encoder, a decoder, and a skip connection at every resolution.

After Ronneberger, Fischer, Brox, "U-Net: Convolutional Networks for Biomedical Image Segmentation"
(MICCAI 2015), with batch normalisation, padded convolutions (output as large as the input) and six
resolutions instead of five.
"""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from schemas.categories import Categories, Category

_CONTRAST = 8.0
"""Slope of the compressive copy of the picture; dim nuclei beside bright ones become visible."""


def normalise(pixels: Tensor, low: Tensor, high: Tensor) -> Tensor:
    """Stretches pictures to their own percentiles and adds a compressed copy.

    Args:
        pixels: Bx3xHxW, 0…255, any dtype.
        low: B, the percentile that becomes 0.
        high: B, the percentile that becomes 1; must exceed `low`.

    Returns:
        Bx6xHxW float32: x and asinh(8 x) / asinh(8), where x = (pixels − low) / (high − low).
    """
    low, high = low.view(-1, 1, 1, 1), high.view(-1, 1, 1, 1)
    x = (pixels.float() - low) / (high - low)
    compressed = torch.asinh(x * _CONTRAST) / torch.asinh(torch.tensor(_CONTRAST)).item()
    return torch.cat([x, compressed], 1)


class _ConvBlock(nn.Sequential):
    """`depth` times 3x3 convolution, batch normalisation, ReLU."""

    def __init__(self, inside: int, outside: int, *, depth: int = 2) -> None:
        layers: list[nn.Module] = []
        for index in range(depth):
            source = inside if index == 0 else outside
            layers.append(nn.Conv2d(source, outside, 3, padding=1, bias=False))
            layers.append(nn.BatchNorm2d(outside))
            layers.append(nn.ReLU(inplace=True))
        super().__init__(*layers)


class UNet(nn.Module):
    """Six-channel pictures (see `normalise`) → maps of the same height and width.

    Args:
        widths: Channels at full, half, quarter… resolution.
        outputs: Maps to predict.
    """

    def __init__(self, *, widths: tuple[int, ...], outputs: int) -> None:
        super().__init__()
        self.stride = 2 ** (len(widths) - 1)
        pairs = list(pairwise(widths))
        self.stem = _ConvBlock(6, widths[0])
        self.down = nn.ModuleList(_ConvBlock(fine, coarse) for fine, coarse in pairs)
        self.up = nn.ModuleList(
            nn.ConvTranspose2d(coarse, fine, 2, stride=2) for fine, coarse in reversed(pairs)
        )
        # One convolution less at full resolution, where it costs most and adds least.
        self.merge = nn.ModuleList(
            _ConvBlock(2 * fine, fine, depth=1 if fine == widths[0] else 2)
            for fine, _ in reversed(pairs)
        )
        self.head = nn.Conv2d(widths[0], outputs, 1)

    def forward(self, x: Tensor) -> Tensor:
        """Bx6xHxW → BxCxHxW logits; H and W are multiples of `stride`."""
        x = self.stem(x)
        skips = []
        for block in self.down:
            skips.append(x)
            x = block(functional.max_pool2d(x, 2))
        for up, merge in zip(self.up, self.merge, strict=True):
            x = merge(torch.cat([skips.pop(), up(x)], 1))
        return self.head(x)

    def fused(self, device: str = "cpu") -> UNet:
        """A copy for inference, channels last, batch normalisation folded into convolutions."""
        net = copy.deepcopy(self).eval()
        for block in [m for m in net.modules() if isinstance(m, _ConvBlock)]:
            layers = list(block)
            for index in range(0, len(layers), 3):
                conv, norm = cast("tuple[nn.Conv2d, nn.BatchNorm2d]", layers[index : index + 2])
                block[index] = fuse_conv_bn_eval(conv, norm)
                block[index + 1] = nn.Identity()
        return net.to(device=device, memory_format=torch.channels_last)  # pyright: ignore[reportCallIssue]


# The checkpoint folder of the family `unet`: config.json and model.safetensors.

CATEGORIES = Categories(
    (
        Category(1, "nucleus", isthing=True, color="#ffb000", supercategory="cell"),
        Category(2, "background", isthing=False, color="#20232a", is_background=True),
    )
)
MAPS = ("interior", "touch", "distance")


def save_unet(
    folder: Path,
    net: UNet,
    *,
    widths: tuple[int, ...],
    postprocess: Mapping[str, float],
    training: Mapping[str, Any],
) -> None:
    """Writes a folder that `--model FOLDER` loads; weights before config, each atomically.

    Convolutions are stored as float16, which halves the file; batch normalisation, a thousandth of
    it, stays float32.
    """
    folder.mkdir(parents=True, exist_ok=True)
    state = {
        name: value.detach().cpu().to(torch.float16 if value.ndim > 1 else value.dtype).contiguous()
        for name, value in net.state_dict().items()
        if not name.endswith("num_batches_tracked")
    }
    config = {
        "format": "maskmill",
        "family": "unet",
        "tasks": ["panoptic", "instance", "semantic"],
        "categories": CATEGORIES.to_json(),
        "licence": "Apache-2.0",
        "architecture": {"widths": list(widths), "maps": list(MAPS)},
        "postprocess": dict(postprocess),
        "training": dict(training),
    }
    partial = folder / "model.safetensors.partial"
    save_file(state, partial, metadata={"format": "pt"})
    partial.chmod(0o644)  # safetensors makes its files private
    os.replace(partial, folder / "model.safetensors")
    partial = folder / "config.json.partial"
    partial.write_text(json.dumps(config, indent=2) + "\n", encoding="utf-8")
    os.replace(partial, folder / "config.json")


def load_unet(folder: Path, config: Mapping[str, Any]) -> UNet:
    """Builds the net that a config describes and fills it, float32, on the CPU, in eval mode.

    Raises:
        ValueError: The config lacks the architecture, or the weights do not fit it.
    """
    try:
        widths = tuple(int(width) for width in config["architecture"]["widths"])
        maps = tuple(config["architecture"]["maps"])
    except (KeyError, TypeError) as error:
        raise ValueError(f"{folder / 'config.json'}: no usable architecture: {error}") from error
    if maps != MAPS:
        raise ValueError(f"{folder / 'config.json'}: maps must be {list(MAPS)}, got {list(maps)}")
    net = UNet(widths=widths, outputs=len(maps))
    state = {k: v.float() for k, v in load_file(folder / "model.safetensors").items()}
    tracked = {name for name in net.state_dict() if name.endswith("num_batches_tracked")}
    try:
        missing, unexpected = net.load_state_dict(state, strict=False)
    except RuntimeError as error:
        raise ValueError(f"{folder}: weights do not fit: {str(error).splitlines()[-1]}") from error
    wrong = sorted(set(missing) - tracked) + sorted(unexpected)
    if wrong:
        raise ValueError(f"{folder}: weights do not fit the architecture: {', '.join(wrong[:3])}")
    return net.eval()
