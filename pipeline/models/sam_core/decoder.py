"""SAM's mask decoder for very many prompts of one picture: the same numbers for half the work.

Three rearrangements, each exact but for rounding:

- What layer 0 projects from the picture (keys, values, and the queries of the way back) is the same
  for every prompt: once a picture.
- Elsewhere a projection of the picture's L = 4096 cells is moved to the prompt's T = 7 tokens:
  q·(W k) = (Wᵀ q)·k, and (A v) W = A (v W). With h heads that is h·T instead of 128 columns a cell.
- The estimate of a mask's quality needs only the tokens, so masks that are not wanted are never
  enlarged.

For SAM ViT at 1024² that makes 1.7 instead of 3.6 GFLOP a prompt. Architecture: Kirillov et al.,
"Segment Anything" (ICCV 2023), appendix A; SAM 2 adds features of higher resolution (Ravi et al.
2024), HQ-SAM one token and features of its own (Ke et al., NeurIPS 2023). EfficientSAM's (Xiong et
al., CVPR 2024) differs in its tokens' self-attention and in one norm.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from pipeline.models.network.graphs import Graphs

from .attention import Attention, from_cells, from_shared, plain, to_cells, to_shared

_FEW = 64
"""Prompts whose launches take longer than their work."""

_STEP = 8
"""Prompts are filled up to a multiple of it."""


@dataclass(frozen=True, slots=True)
class Block:
    """One two-way layer: tokens to tokens, tokens to picture, MLP, picture to tokens."""

    self_attention: Attention
    norm1: nn.Module
    to_image: Attention
    norm2: nn.Module
    mlp: nn.Module
    norm3: nn.Module
    to_tokens: Attention
    norm4: nn.Module


@dataclass(frozen=True, slots=True)
class HqParts:
    """What HQ-SAM adds: one more token, whose mask reads refined features.

    Attributes:
        refine: Enlarged features of a prompt → the same with finer detail.
        mlp: Of the additional token.
    """

    refine: nn.Module
    mlp: nn.Module


@dataclass(frozen=True, slots=True)
class DecoderParts:
    """A decoder's modules under names that all implementations share.

    Attributes:
        tokens: T0×C, learned tokens in the decoder's order.
        iou_at: Place of the token that estimates quality.
        masks_at: Place of the first mask token.
        blocks: The two-way layers.
        final: Attention of the tokens to the picture after them.
        final_norm: Its norm.
        up1: C → C/4 channels, twice the size.
        up_norm: Over the channels, or, a `GroupNorm`, over all of a prompt's features as well; has
            weight, bias and eps.
        up2: C/4 → C/8 channels, twice the size.
        hyper: One MLP a mask token: its weights over the C/8 channels.
        iou: MLP, one estimate a mask token.
        hq: What HQ-SAM adds, or None.
        places_stay: What is added to the tokens before their self-attention is also its value and
            remains in them, and layer 0 has a residual (EfficientSAM).
    """

    tokens: Tensor
    iou_at: int
    masks_at: int
    blocks: Sequence[Block]
    final: Attention
    final_norm: nn.Module
    up1: nn.ConvTranspose2d
    up_norm: Any
    up2: nn.ConvTranspose2d
    hyper: Sequence[nn.Module]
    iou: nn.Module
    hq: HqParts | None = None
    places_stay: bool = False


@dataclass(frozen=True, slots=True)
class Embedding:
    """A picture as the decoder sees it.

    Attributes:
        cells: L×C, the encoder's output plus the "no mask given" embedding; L = h·w.
        position: L×C.
        grid_hw: (h, w).
        fine: Features added while enlarging: 1×C/4×2h×2w and 1×C/8×4h×4w (SAM 2), or None.
        hq: 1×C/8×4h×4w features of HQ-SAM, or None.
    """

    cells: Tensor
    position: Tensor
    grid_hw: tuple[int, int]
    fine: tuple[Tensor, Tensor] | None = None
    hq: Tensor | None = None


@dataclass(frozen=True, slots=True)
class DecodedPrompts:
    """Prompts after the transformer, before any mask.

    Attributes:
        tokens: N×T×C.
        cells: N×L×C.
        predicted_iou: N×M, one estimate a mask token, the single-mask token first.
    """

    tokens: Tensor
    cells: Tensor
    predicted_iou: Tensor

    def take(self, rows: Tensor) -> DecodedPrompts:
        """Some of the prompts."""
        return DecodedPrompts(self.tokens[rows], self.cells[rows], self.predicted_iou[rows])


class FastDecoder:
    """Decodes many prompts of one picture at a time.

    Args:
        parts: Of a loaded SAM, on their device, in the dtype that inputs have.
        compiled: Let PyTorch compile it; the first prompts wait for it.
    """

    def __init__(self, parts: DecoderParts, *, compiled: bool = False) -> None:
        self._parts = parts
        self._transform = torch.compile(self._two_way) if compiled else self._two_way
        self._enlarge = torch.compile(self._enlarged) if compiled else self._enlarged
        self._recorded: dict[tuple[int, ...], Graphs] = {}

    def decode(self, picture: Embedding, prompts: Tensor) -> DecodedPrompts:
        """Runs the two-way transformer.

        Args:
            picture: Its embedding.
            prompts: N×P×C, embedded points or boxes.
        """
        return DecodedPrompts(*self._transform(picture.cells, picture.position, prompts))

    def ask(
        self, picture: Embedding, prompts: Tensor, wanted: Sequence[int]
    ) -> tuple[Tensor, Tensor]:
        """Decodes prompts and draws their masks, all in one: for prompts that a person chose.

        On a GPU few prompts are launches alone, which are recorded and replayed.

        Args:
            picture: Its embedding.
            prompts: N×P×C, embedded points or boxes.
            wanted: Indices of mask tokens, M; the last one may be HQ-SAM's own.

        Returns:
            N×M×4h×4w logits and N×(mask tokens) estimates of quality.
        """
        count = len(prompts)
        if not prompts.is_cuda or count > _FEW:
            decoded = self.decode(picture, prompts)
            return self.masks(picture, decoded, torch.tensor(wanted)), decoded.predicted_iou
        grid_hw = picture.grid_hw
        key = (*grid_hw, *wanted)
        if key not in self._recorded:
            self._recorded[key] = Graphs(partial(self._drawn, grid_hw, list(wanted)))
        more = -count % _STEP  # few numbers of prompts, each recorded once
        filled = torch.cat((prompts, prompts[-1:].expand(more, -1, -1))) if more else prompts
        extra = [each for each in (*(picture.fine or ()), picture.hq) if each is not None]
        masks, quality = self._recorded[key](picture.cells, picture.position, filled, *extra)
        return masks[:count].clone(), quality[:count].clone()

    def _drawn(
        self,
        grid_hw: tuple[int, int],
        wanted: list[int],
        cells: Tensor,
        position: Tensor,
        prompts: Tensor,
        *more: Tensor,
    ) -> tuple[Tensor, Tensor]:
        """`ask` of tensors alone."""
        extra = list(more)
        fine = (extra[0], extra[1]) if len(extra) > 1 else None
        hq = extra[-1] if len(extra) % 2 else None
        picture = Embedding(cells, position, grid_hw, fine, hq)
        decoded = self.decode(picture, prompts)
        return self.masks(picture, decoded, torch.tensor(wanted)), decoded.predicted_iou

    def _two_way(
        self, shared: Tensor, position: Tensor, prompts: Tensor
    ) -> tuple[Tensor, Tensor, Tensor]:
        """Tokens, cells and estimates; see `DecodedPrompts`."""
        parts = self._parts
        learned = parts.tokens.to(prompts.dtype).expand(len(prompts), -1, -1)
        start = torch.cat((learned, prompts), 1)
        tokens, cells = start, None
        for block in parts.blocks:
            first = cells is None
            tokens = self._among_tokens(block, tokens, start, first=first)
            query = tokens + start
            if cells is None:
                attended = to_shared(block.to_image, query, shared, position)
            else:
                attended = to_cells(block.to_image, query, cells + position, cells)
            tokens = self._after(block, tokens, attended)
            update = (
                from_shared(block.to_tokens, shared, position, tokens + start, tokens)
                if cells is None
                else from_cells(block.to_tokens, cells + position, tokens + start, tokens)
            )
            cells = block.norm4((shared if cells is None else cells) + update)
        if cells is None:
            raise ValueError("a decoder has at least one layer")
        final = to_cells(parts.final, tokens + start, cells + position, cells)
        tokens = parts.final_norm(tokens + final)
        return tokens, cells, parts.iou(tokens[:, parts.iou_at])

    def masks(self, picture: Embedding, decoded: DecodedPrompts, wanted: Tensor) -> Tensor:
        """Mask logits of some mask tokens of every prompt.

        Args:
            picture: Its embedding.
            decoded: N prompts; select those that are worth it before.
            wanted: Indices of mask tokens, M; the last one may be HQ-SAM's own.

        Returns:
            N×M×4h×4w.
        """
        parts = self._parts
        chosen = wanted.tolist()
        plain = [index for index in chosen if index < len(parts.hyper)]
        token = decoded.tokens[:, parts.masks_at :]
        height, width = picture.grid_hw
        # Every cell becomes 4×4 pixels by itself: N×L×16×C/8, put in order only when weighed.
        x = self._enlarge(decoded.cells, *self._fine(picture))
        found = []
        if plain:
            weights = torch.stack([parts.hyper[index](token[:, index]) for index in plain], 2)
            # Matrix products want eight columns.
            weights = functional.pad(weights, (0, -len(plain) % 8))
            weighed = (x.flatten(1, 2) @ weights)[..., : len(plain)]
            found.append(_in_order(weighed, height, width))
        if parts.hq is not None and picture.hq is not None and len(parts.hyper) in chosen:
            fine = parts.hq.refine(_in_order(x.flatten(1, 2), height, width)) + picture.hq
            own = parts.hq.mlp(token[:, len(parts.hyper)])[:, None]
            found.append(torch.einsum("nmc,nchw->nmhw", own, fine))
        return torch.cat(found, 1)

    @staticmethod
    def _fine(picture: Embedding) -> tuple[Tensor | None, Tensor | None]:
        """Features of higher resolution, cell by cell: L×4×C/4 and L×16×C/8."""
        if picture.fine is None:
            return None, None
        first, second = (each[0] for each in picture.fine)
        # Rows and columns of cells, then the places inside: once, or twice a 2×2 block.
        height, width = picture.grid_hw
        first = first.unflatten(2, (width, 2)).unflatten(1, (height, 2))
        second = second.unflatten(2, (width, 2, 2)).unflatten(1, (height, 2, 2))
        return (
            first.permute(1, 3, 2, 4, 0).flatten(0, 1).flatten(1, 2),
            second.permute(1, 4, 2, 5, 3, 6, 0).flatten(0, 1).flatten(1, 4),
        )

    def _enlarged(self, cells: Tensor, fine1: Tensor | None, fine2: Tensor | None) -> Tensor:
        """N×L×C → N×L×16×C/8: what each cell gives to the 4×4 pixels that it covers.

        A transposed convolution whose stride is its size is one matrix product a place.
        """
        parts = self._parts
        up1, norm, up2 = parts.up1, parts.up_norm, parts.up2
        x = _places(cells, up1)
        if fine1 is not None:
            x = x + fine1
        if isinstance(norm, nn.GroupNorm):  # of one group
            x = functional.layer_norm(x, x.shape[1:], eps=norm.eps) * norm.weight + norm.bias
        else:
            x = functional.layer_norm(x, (x.shape[-1],), norm.weight, norm.bias, norm.eps)
        x = functional.gelu(x)
        x = _places(x, up2).flatten(2, 3)
        if fine2 is not None:
            x = x + fine2
        return functional.gelu(x)

    @staticmethod
    def _after(block: Block, tokens: Tensor, attended: Tensor) -> Tensor:
        tokens = block.norm2(tokens + attended)
        return block.norm3(tokens + block.mlp(tokens))

    def _among_tokens(self, block: Block, tokens: Tensor, start: Tensor, *, first: bool) -> Tensor:
        attention = block.self_attention
        if self._parts.places_stay:
            tokens = tokens if first else tokens + start
            return block.norm1(tokens + plain(attention, tokens, tokens, tokens))
        if first:  # layer 0 has neither positions nor a residual
            return block.norm1(plain(attention, tokens, tokens, tokens))
        query = tokens + start
        return block.norm1(tokens + plain(attention, query, query, tokens))


def _places(x: Tensor, up: nn.ConvTranspose2d) -> Tensor:
    """…×in → …×4×out, the places of a 2×2 block row by row."""
    weight = up.weight.permute(2, 3, 1, 0).flatten(0, 2)  # 4·out × in
    bias = None if up.bias is None else up.bias.repeat(4)
    return functional.linear(x, weight, bias).unflatten(-1, (4, -1))


def _in_order(x: Tensor, height: int, width: int) -> Tensor:
    """N×(cells·16)×M, cell by cell → N×M×4h×4w."""
    x = x.unflatten(1, (height, width, 2, 2, 2, 2))  # cell, place in it, place in that: y, x each
    x = x.permute(0, 7, 1, 3, 5, 2, 4, 6)
    return x.flatten(5, 7).flatten(2, 4)
