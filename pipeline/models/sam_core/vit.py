"""SAM's image encoder as one attention kernel wants it: no matrix of cells × cells in memory.

The encoder adds to the logit of query cell (y, x) and key cell (y', x') a term for the rows and one
for the columns, q·Rh[y − y'] + q·Rw[x − x'] (Li et al., "MViTv2", CVPR 2022, section 4.1). Both are
products with one-hot vectors, so they become further channels of queries and keys,

    [q·scale, q·Rh[y − 0…h−1], q·Rw[x − 0…w−1]] · [k, onehot(y'), onehot(x')],

and what is left is plain attention, which PyTorch computes in tiles. The numbers are the same but
for rounding. Architecture: Kirillov et al., "Segment Anything" (ICCV 2023); Li et al., "Exploring
Plain Vision Transformer Backbones" (ECCV 2022).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class VitBlock:
    """One layer of the encoder.

    Attributes:
        norm1: Before the attention.
        qkv: C → 3C.
        proj: C → C.
        heads: That share the channels.
        by_rows: h×h×d, the term of query row and key row.
        by_columns: w×w×d.
        window: Cells a side of the windows that look at themselves only; 0 = the whole picture.
        norm2: Before the MLP.
        mlp: C → C.
    """

    norm1: nn.Module
    qkv: nn.Module
    proj: nn.Module
    heads: int
    by_rows: Tensor
    by_columns: Tensor
    window: int
    norm2: nn.Module
    mlp: nn.Module


@dataclass(frozen=True, slots=True)
class VitParts:
    """An encoder's modules under names that both implementations share.

    Attributes:
        embed: B×3×H×W pixels → B×h×w×C, positions not added.
        position: 1×h×w×C, or None.
        blocks: The layers.
        neck: Takes the cells of the last layer as the implementation's own forward hands them
            over; gives B×C'×h×w.
    """

    embed: nn.Module
    position: Tensor | None
    blocks: Sequence[VitBlock]
    neck: Callable[[Tensor], Tensor]


def package_vit(encoder: Any) -> VitParts:
    """Of the segment-anything package."""
    grid = encoder.img_size // encoder.patch_embed.proj.kernel_size[0]
    return VitParts(
        embed=encoder.patch_embed,
        position=encoder.pos_embed,
        blocks=[
            _block(layer, (layer.norm1, layer.norm2), layer.attn.num_heads, grid)
            for layer in encoder.blocks
        ],
        neck=lambda cells: encoder.neck(cells.permute(0, 3, 1, 2)),
    )


def transformers_vit(encoder: Any) -> VitParts:
    """Of transformers' Sam and SamHQ."""
    grid = encoder.config.image_size // encoder.config.patch_size
    return VitParts(
        embed=encoder.patch_embed,
        position=encoder.pos_embed,
        blocks=[
            _block(
                layer,
                (layer.layer_norm1, layer.layer_norm2),
                layer.attn.num_attention_heads,
                grid,
            )
            for layer in encoder.layers
        ],
        neck=encoder.neck,
    )


class VitEncoder:
    """Encodes pictures.

    Args:
        parts: Of a loaded SAM, on their device.
        compiled: Let PyTorch compile the layers; the first pictures wait for it.
    """

    def __init__(self, parts: VitParts, *, compiled: bool = False) -> None:
        self._parts = parts
        # One layer is compiled, not the whole stack: all are alike but for the window.
        self._layer = torch.compile(_layer, dynamic=False) if compiled else _layer

    def __call__(self, pixels: Tensor) -> tuple[Tensor, list[Tensor]]:
        """Encodes B×3×H×W normalised input.

        Returns:
            B×C×h×w, and the cells after each layer that sees the whole picture, B×h×w×C'.
        """
        parts = self._parts
        cells = parts.embed(pixels)
        if parts.position is not None:
            cells = cells + parts.position
        between = []
        for block in parts.blocks:
            cells = self._layer(cells, block)
            if not block.window:
                between.append(cells)
        return parts.neck(cells), between


def _block(layer: Any, norms: tuple[nn.Module, nn.Module], heads: int, grid: int) -> VitBlock:
    window = int(layer.window_size)
    attention = layer.attn
    by_rows, by_columns = (
        _table(getattr(attention, name, None), window or grid, attention, heads)
        for name in ("rel_pos_h", "rel_pos_w")
    )
    first, second = norms
    return VitBlock(
        first, attention.qkv, attention.proj, heads, by_rows, by_columns, window, second, layer.mlp
    )


def _table(relative: Tensor | None, size: int, attention: Any, heads: int) -> Tensor:
    """size×size×d: what stands between each query place and each key place."""
    if relative is None:
        weight = attention.proj.weight
        return weight.new_zeros(size, size, len(weight) // heads)
    if len(relative) != 2 * size - 1:
        # In float32, as bfloat16 has no such interpolation on every device.
        line = relative.detach().float().T[None]
        stretched = functional.interpolate(line, size=2 * size - 1, mode="linear")
        relative = stretched[0].T.to(relative.dtype)
    place = torch.arange(size, device=relative.device)
    return relative.detach()[place[:, None] - place[None, :] + size - 1]


def _layer(cells: Tensor, block: VitBlock) -> Tensor:
    """B×h×w×C → the same."""
    x = block.norm1(cells)
    attended = _in_windows(x, block) if block.window else _attended(x, block)
    cells = cells + attended
    return cells + block.mlp(block.norm2(cells))


def _in_windows(x: Tensor, block: VitBlock) -> Tensor:
    """Attention in squares; those at the rim are filled up with zeros, which are looked at too."""
    side = block.window
    batch, height, width, channels = x.shape
    x = functional.pad(x, (0, 0, 0, -width % side, 0, -height % side))
    down, across = x.shape[1] // side, x.shape[2] // side
    x = x.view(batch, down, side, across, side, channels).transpose(2, 3)
    x = _attended(x.reshape(-1, side, side, channels), block)
    x = x.view(batch, down, across, side, side, channels).transpose(2, 3)
    return x.reshape(batch, down * side, across * side, channels)[:, :height, :width]


def _attended(x: Tensor, block: VitBlock) -> Tensor:
    """N×h×w×C: every cell looks at all."""
    count, height, width, channels = x.shape
    depth, heads = channels // block.heads, block.heads
    three = block.qkv(x).view(count, height, width, 3, heads, depth).permute(3, 0, 4, 1, 2, 5)
    query, key, value = three.unbind(0)  # N×heads×h×w×d
    by_rows = torch.einsum("nayxd,yzd->nayxz", query, block.by_rows)
    by_columns = torch.einsum("nayxd,xzd->nayxz", query, block.by_columns)
    spare = -(depth + height + width) % 8  # attention kernels take channels by eights
    query = torch.cat((query * depth**-0.5, by_rows, by_columns), -1)
    rows, columns = (torch.eye(side, dtype=x.dtype, device=x.device) for side in (height, width))
    places = torch.cat(
        (
            rows[:, None].expand(height, width, height),
            columns[None].expand(height, width, width),
        ),
        -1,
    ).expand(count, heads, height, width, height + width)
    key = torch.cat((key, places), -1)
    query, key = (functional.pad(each, (0, spare)).flatten(2, 3) for each in (query, key))
    value = functional.pad(value, (0, height + width + spare)).flatten(2, 3)
    found = functional.scaled_dot_product_attention(query, key, value, scale=1.0)[..., :depth]
    found = found.transpose(1, 2).reshape(count, height, width, channels)
    return block.proj(found)
