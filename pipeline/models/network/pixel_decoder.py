"""The pixel decoder of Mask2Former and OneFormer, without what no picture of ours needs.

Transformers' own makes masks of padding that there is none of, copies the levels' shapes to the
GPU and waits for them, and computes where cells lie in the precision of the network. Here a shape's
geometry is computed once, in float32, and nothing waits.
"""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import interpolate

from pipeline.models.grids.geometry import Hw

from .deformable import use_kernel

_LEVELS = 3
"""Levels that attend to one another, of both architectures."""

_KEPT = 48
"""Sizes of maps whose positions are kept. Those that are kept stay: a recorded graph reads them."""


def lean_pixels(pixel_level: Any, transformer: Any) -> bool:
    """Exchanges the pixel decoder and the positions of a Mask2Former or a OneFormer on a GPU.

    Args:
        pixel_level: Its module of backbone and pixel decoder; changed.
        transformer: Its module of the transformer decoder; changed.

    Returns:
        Whether it was done; False on a CPU, and where the kernel does not run.
    """
    if not use_kernel(pixel_level.decoder, padded=False, inverted=True):
        return False
    exchange_pixels(pixel_level, transformer)
    return True


def exchange_pixels(pixel_level: Any, transformer: Any) -> None:
    """As `lean_pixels`, after the deformable attentions, on any device."""
    pixel_level.decoder = LeanPixelDecoder(pixel_level.decoder)
    transformer.position_embedder = Positions(transformer.position_embedder)


class Positions(nn.Module):
    """Sine positions of maps, computed in float32 once a size.

    Args:
        inner: Transformers' module; called for one picture.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self._kept: dict[tuple[Any, ...], Tensor] = {}

    def forward(
        self,
        shape: Sequence[int],
        device: torch.device,
        dtype: torch.dtype,
        mask: Tensor | None = None,
    ) -> Tensor:
        """B×C×h×w; names as in transformers."""
        if mask is not None:
            raise ValueError("positions of padded maps are not kept")
        batch, channels, height, width = shape
        key = (height, width, dtype, device)
        found = self._kept.get(key)
        if found is None:
            one = torch.Size((1, channels, height, width))
            found = self.inner(one, device, torch.float32).to(dtype)
            if len(self._kept) < _KEPT:
                self._kept[key] = found
        return found.expand(batch, -1, -1, -1)


def cell_middles(shapes: Sequence[Hw], device: torch.device) -> Tensor:
    """1×S×levels×2 float32: (x, y) of each cell as shares of the sides, the same at all levels."""
    grids = []
    for height, width in shapes:
        y = (torch.arange(height, device=device, dtype=torch.float32) + 0.5) / height
        x = (torch.arange(width, device=device, dtype=torch.float32) + 0.5) / width
        y, x = torch.meshgrid(y, x, indexing="ij")
        grids.append(torch.stack((x, y), -1).flatten(0, 1))
    return torch.cat(grids)[None, :, None].expand(1, -1, len(shapes), 2)


class LeanPixelDecoder(nn.Module):
    """Stands where the pixel decoder was, with the same weights.

    Args:
        inner: `Mask2FormerPixelDecoder` or `OneFormerPixelDecoder`, its deformable attentions
            exchanged (see `network.deformable`), in its final precision.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.input_projections = inner.input_projections
        self.layers = inner.encoder.layers
        self.level_embed = inner.level_embed
        self.positions = Positions(inner.position_embedding)
        lateral = getattr(inner, "lateral_convolutions", None) or inner.lateral_convs
        output = getattr(inner, "output_convolutions", None) or inner.output_convs
        self.end = LeanPixelDecoderEnd(lateral, output, inner.mask_projection)
        known = inspect.signature(type(self.layers[0]).forward).parameters
        self._shapes_key = "spatial_shapes" if "spatial_shapes" in known else "spatial_shapes_list"
        self._middles: dict[tuple[Any, ...], Tensor] = {}

    def forward(self, features: Sequence[Tensor], **_unused: Any) -> SimpleNamespace:
        """`mask_features`, `multi_scale_features`; names as in transformers.

        Args:
            features: B×C×h×w, the finest first.
        """
        sources = [
            project(each)
            for project, each in zip(self.input_projections, features[::-1], strict=False)
        ]
        shapes = [(each.shape[2], each.shape[3]) for each in sources]
        device, dtype = sources[0].device, sources[0].dtype
        places = [
            self.positions(each.shape, device, dtype).flatten(2).transpose(1, 2)
            + self.level_embed[level]
            for level, each in enumerate(sources)
        ]
        hidden = torch.cat([each.flatten(2).transpose(1, 2) for each in sources], 1)
        positions = torch.cat(places, 1)
        middles = self._cell_middles(shapes, device).expand(len(hidden), -1, -1, -1)
        for layer in self.layers:
            hidden = layer(
                hidden,
                None,
                position_embeddings=positions,
                reference_points=middles,
                **{self._shapes_key: shapes},
            )[0]
        sizes = [height * width for height, width in shapes]
        maps = [
            part.transpose(1, 2).unflatten(2, shape)
            for part, shape in zip(hidden.split(sizes, dim=1), shapes, strict=True)
        ]
        masks, last = self.end(maps[-1], list(features))
        scales = [*maps, *last][:_LEVELS]
        return SimpleNamespace(
            mask_features=masks, multi_scale_features=tuple(scales), attentions=None
        )

    def _cell_middles(self, shapes: Sequence[Hw], device: torch.device) -> Tensor:
        key = (*shapes, device)
        found = self._middles.get(key)
        if found is None:
            found = cell_middles(shapes, device)
            if len(self._middles) < _KEPT:
                self._middles[key] = found
        return found


class LeanPixelDecoderEnd(nn.Module):
    """From the finest level that attends to the features of masks.

    Args:
        lateral: Of the finer levels, coarse to fine.
        output: Likewise.
        mask_projection: Makes the features of masks.
    """

    def __init__(
        self, lateral: Sequence[nn.Module], output: Sequence[nn.Module], mask_projection: nn.Module
    ) -> None:
        super().__init__()
        self.lateral = nn.ModuleList(lateral)
        self.output = nn.ModuleList(output)
        self.mask_projection = mask_projection

    def forward(self, finest: Tensor, features: list[Tensor]) -> tuple[Tensor, list[Tensor]]:
        """Features of masks, and the maps of the finer levels."""
        maps: list[Tensor] = []
        for lateral, output, each in zip(
            self.lateral, self.output, features[: len(self.lateral)][::-1], strict=True
        ):
            own = lateral(each)
            finest = interpolate(finest, size=own.shape[-2:], mode="bilinear", align_corners=False)
            finest = output(own + finest)
            maps.append(finest)
        return self.mask_projection(finest), maps
