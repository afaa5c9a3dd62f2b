"""Multi-scale deformable attention of transformers' decoders, by one kernel on a GPU.

Mask2Former, OneFormer, Grounding DINO, MM-Grounding-DINO, OmDet-Turbo, RT-DETR and RF-DETR each
have a class of their own for it, all of one shape: `sampling_offsets`, `attention_weights`,
`value_proj`, `output_proj`. `use_kernel` exchanges them in a loaded network; the library is not
touched, and on a CPU nothing is exchanged.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.postprocess.backend import path_for

_LEVELS = 5
"""What the kernel can do at most."""


def sample_levels(
    values: Tensor, points: Tensor, references: Tensor, shapes: Sequence[int]
) -> Tensor:
    """The plain formula: softmax-weighted bilinear samples of several levels.

    As in transformers' `MultiScaleDeformableAttention` (Zhu et al. 2021, Deformable DETR,
    equation 3). Cells outside a level are zeros; a cell's middle lies at half a cell.

    Args:
        values: B×S×heads×channels, the levels' cells one after the other, row by row.
        points: B×Q×(3·heads·levels·points): heads×levels×points×(x, y) offsets, then
            heads×levels×points logits of the weights.
        references: B×Q×levels×2, (x, y) as shares of the level's sides, whose offsets are cells;
            or ×4, (x, y, width, height), whose offsets are shares of half the box.
        shapes: height, width of each level; S cells in all.

    Returns:
        B×Q×(heads·channels), of the type of the values; computed in float32.
    """
    batch, _, heads, channels = values.shape
    queries, levels = points.shape[1], len(shapes) // 2
    given = points.float()
    each = given.shape[2] // (3 * heads * levels)
    offsets, logits = given.split([2 * heads * levels * each, heads * levels * each], dim=2)
    offsets = offsets.view(batch, queries, heads, levels, each, 2)
    weights = logits.view(batch, queries, heads, -1).softmax(-1)
    middles = references.float()[:, :, None, :, None]
    if references.shape[-1] == 2:
        sides = torch.tensor(shapes, device=values.device).view(levels, 2).flip(1)
        places = middles + offsets / sides[:, None]
    else:
        places = middles[..., :2] + offsets / each * middles[..., 2:] * 0.5
    grids = (2 * places - 1).permute(3, 0, 2, 1, 4, 5).flatten(1, 2)  # levels×(B·heads)×Q×points×2
    sizes = [shapes[2 * level] * shapes[2 * level + 1] for level in range(levels)]
    sampled = [
        functional.grid_sample(
            part.permute(0, 2, 3, 1).reshape(
                batch * heads, channels, shapes[2 * level], shapes[2 * level + 1]
            ),
            grids[level],
            align_corners=False,
        )
        for level, part in enumerate(values.float().split(sizes, dim=1))
    ]
    shares = weights.transpose(1, 2).reshape(batch * heads, 1, queries, levels * each)
    found = (torch.cat(sampled, dim=3) * shares).sum(3)
    return found.view(batch, heads * channels, queries).transpose(1, 2).to(values.dtype)


@torch.library.custom_op("maskmill::deformable_attention", mutates_args=())
def deformable_attention(
    values: Tensor, points: Tensor, references: Tensor, shapes: Sequence[int]
) -> Tensor:
    """`sample_levels` as one operator: the kernel on a GPU, the plain formula elsewhere."""
    if path_for(values.device) != "kernels":
        return sample_levels(values, points, references, shapes).contiguous()
    from pipeline.models.kernels.deformable import attend_levels

    return attend_levels(values.contiguous(), points.contiguous(), references, shapes)


@deformable_attention.register_fake
def _(values: Tensor, points: Tensor, references: Tensor, shapes: Sequence[int]) -> Tensor:
    batch, _, heads, channels = values.shape
    return values.new_empty((batch, points.shape[1], heads * channels))


class KernelAttention(nn.Module):
    """Stands where a deformable attention of transformers was.

    Offsets and weights are one product instead of two; the weights of attention, for whoever
    wants to look at them, are not given.

    Args:
        inner: The module that it replaces, in its final precision and on its device.
        padded: Whether cells may be closed by `attention_mask`; False where no input is padded.
        inverted: Whether the mask is True for cells that are padding.
    """

    def __init__(self, inner: Any, *, padded: bool, inverted: bool) -> None:
        super().__init__()
        self.value_proj = inner.value_proj
        self.output_proj = inner.output_proj
        self.heads: int = inner.n_heads
        self.padded = padded
        self.inverted = inverted
        both = inner.sampling_offsets, inner.attention_weights
        for name in ("weight", "bias"):
            whole = torch.cat([getattr(each, name) for each in both])
            self.register_buffer(f"points_{name}", whole, persistent=False)

    points_weight: Tensor
    points_bias: Tensor

    def forward(
        self,
        hidden_states: Tensor,
        attention_mask: Tensor | None = None,
        encoder_hidden_states: Tensor | None = None,
        encoder_attention_mask: Tensor | None = None,
        position_embeddings: Tensor | None = None,
        reference_points: Tensor | None = None,
        spatial_shapes: Tensor | None = None,
        spatial_shapes_list: Sequence[Sequence[int]] | None = None,
        level_start_index: Tensor | None = None,
        **_unused: Any,
    ) -> tuple[Tensor, None]:
        """B×Q×C; names as in transformers."""
        if encoder_hidden_states is None or reference_points is None:
            raise ValueError("a deformable attention needs what it looks at, and where")
        if spatial_shapes_list is None and spatial_shapes is not None:
            spatial_shapes_list = [(int(height), int(width)) for height, width in spatial_shapes]
        if position_embeddings is not None:
            hidden_states = hidden_states + position_embeddings
        values = self.value_proj(encoder_hidden_states)
        if self.padded and attention_mask is not None:
            closed = attention_mask if self.inverted else ~attention_mask
            values = values.masked_fill(closed[..., None], 0.0)
        points = functional.linear(hidden_states, self.points_weight, self.points_bias)
        found = deformable_attention(
            values.unflatten(2, (self.heads, -1)),
            points,
            reference_points.float(),
            [side for shape in spatial_shapes_list or () for side in shape],
        )
        return self.output_proj(found), None


def use_kernel(model: nn.Module, *, padded: bool = True, inverted: bool = False) -> int:
    """Exchanges the deformable attentions of a network that is on its GPU.

    Args:
        model: Of transformers, in its final precision; it is changed.
        padded: See `KernelAttention`.
        inverted: See `KernelAttention`; True for Mask2Former and OneFormer.

    Returns:
        How many were exchanged: 0 on a CPU, and where Triton does not run.
    """
    device = next(model.parameters()).device
    if device.type != "cuda" or path_for(device) != "kernels":
        return 0
    return exchange(model, padded=padded, inverted=inverted)


def exchange(model: nn.Module, *, padded: bool, inverted: bool) -> int:
    """As `use_kernel`, on any device."""
    places = [
        (parent, name, child)
        for parent in model.modules()
        for name, child in parent.named_children()
        if _fits(child)
    ]
    for parent, name, child in places:
        setattr(parent, name, KernelAttention(child, padded=padded, inverted=inverted))
    return len(places)


def _fits(module: Any) -> bool:
    """Whether the module is such an attention, of a shape that the kernel knows."""
    parts = ("sampling_offsets", "attention_weights", "value_proj", "output_proj")
    if not all(isinstance(getattr(module, part, None), nn.Linear) for part in parts):
        return False
    heads, levels, each = (getattr(module, n, 0) for n in ("n_heads", "n_levels", "n_points"))
    if not all(isinstance(number, int) and number > 0 for number in (heads, levels, each)):
        return False
    channels = module.value_proj.out_features // heads
    regular = module.sampling_offsets.out_features == 2 * heads * levels * each
    return regular and levels <= _LEVELS and channels >= 8 and channels & (channels - 1) == 0
