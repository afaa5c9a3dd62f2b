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
2024), HQ-SAM one token and features of its own (Ke et al., NeurIPS 2023).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Attention:
    """The four projections of one attention and how many heads share them."""

    q: nn.Linear
    k: nn.Linear
    v: nn.Linear
    out: nn.Linear
    heads: int


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
        up_norm: Over the channels.
        up2: C/4 → C/8 channels, twice the size.
        hyper: One MLP a mask token: its weights over the C/8 channels.
        iou: MLP, one estimate a mask token.
        hq: What HQ-SAM adds, or None.
    """

    tokens: Tensor
    iou_at: int
    masks_at: int
    blocks: Sequence[Block]
    final: Attention
    final_norm: nn.Module
    up1: nn.ConvTranspose2d
    up_norm: nn.Module
    up2: nn.ConvTranspose2d
    hyper: Sequence[nn.Module]
    iou: nn.Module
    hq: HqParts | None = None


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
class Decoded:
    """Prompts after the transformer, before any mask.

    Attributes:
        tokens: N×T×C.
        cells: N×L×C.
        predicted_iou: N×M, one estimate a mask token, the single-mask token first.
    """

    tokens: Tensor
    cells: Tensor
    predicted_iou: Tensor


class FastDecoder:
    """Decodes many prompts of one picture at a time.

    Args:
        parts: Of a loaded SAM, on their device, in the dtype that inputs have.
    """

    def __init__(self, parts: DecoderParts) -> None:
        self._parts = parts

    def decode(self, picture: Embedding, prompts: Tensor) -> Decoded:
        """Runs the two-way transformer.

        Args:
            picture: Its embedding.
            prompts: N×P×C, embedded points or boxes.
        """
        parts = self._parts
        learned = parts.tokens.to(prompts.dtype).expand(len(prompts), -1, -1)
        start = torch.cat((learned, prompts), 1)
        tokens, cells = start, None
        for block in parts.blocks:
            first = cells is None
            tokens = self._among_tokens(block, tokens, start, first=first)
            query = tokens + start
            if cells is None:
                attended = _to_shared(block.to_image, query, picture)
            else:
                attended = _to_cells(block.to_image, query, cells + picture.position, cells)
            tokens = block.norm2(tokens + attended)
            tokens = block.norm3(tokens + block.mlp(tokens))
            update = (
                _from_shared(block.to_tokens, picture, tokens + start, tokens)
                if cells is None
                else _from_cells(block.to_tokens, cells + picture.position, tokens + start, tokens)
            )
            cells = block.norm4((picture.cells if cells is None else cells) + update)
        if cells is None:
            raise ValueError("a decoder has at least one layer")
        final = _to_cells(parts.final, tokens + start, cells + picture.position, cells)
        tokens = parts.final_norm(tokens + final)
        return Decoded(tokens, cells, parts.iou(tokens[:, parts.iou_at]))

    def masks(self, picture: Embedding, decoded: Decoded, wanted: Tensor) -> Tensor:
        """Mask logits of some mask tokens of every prompt.

        Args:
            picture: Its embedding.
            decoded: N prompts; select those that are worth it before.
            wanted: Indices of mask tokens, M; the last one may be HQ-SAM's own.

        Returns:
            N×M×4h×4w.
        """
        parts = self._parts
        count, _, channels = decoded.cells.shape
        height, width = picture.grid_hw
        x = decoded.cells.transpose(1, 2).reshape(count, channels, height, width)
        x = parts.up1(x)
        if picture.fine is not None:
            x = x + picture.fine[0]
        x = functional.gelu(parts.up_norm(x))
        x = parts.up2(x)
        if picture.fine is not None:
            x = x + picture.fine[1]
        x = functional.gelu(x)
        chosen = wanted.tolist()
        plain = [index for index in chosen if index < len(parts.hyper)]
        token = decoded.tokens[:, parts.masks_at :]
        found = []
        if plain:
            weights = torch.stack([parts.hyper[index](token[:, index]) for index in plain], 1)
            found.append(torch.einsum("nmc,nchw->nmhw", weights, x))
        if parts.hq is not None and picture.hq is not None and len(parts.hyper) in chosen:
            fine = parts.hq.refine(x) + picture.hq
            weights = parts.hq.mlp(token[:, len(parts.hyper)])[:, None]
            found.append(torch.einsum("nmc,nchw->nmhw", weights, fine))
        return torch.cat(found, 1)

    @staticmethod
    def _among_tokens(block: Block, tokens: Tensor, start: Tensor, *, first: bool) -> Tensor:
        attention = block.self_attention
        if first:  # layer 0 has neither positions nor a residual
            return block.norm1(_plain(attention, tokens, tokens, tokens))
        query = tokens + start
        return block.norm1(tokens + _plain(attention, query, query, tokens))


def _split(x: Tensor, heads: int) -> Tensor:
    """N×S×D → N×heads×S×D/heads."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    """The inverse of `_split`."""
    return x.transpose(1, 2).flatten(-2)


def _plain(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    q, k, v = (
        _split(projection(x), attention.heads)
        for projection, x in (
            (attention.q, query),
            (attention.k, key),
            (attention.v, value),
        )
    )
    return attention.out(_joined(functional.scaled_dot_product_attention(q, k, v)))


def _to_shared(attention: Attention, query: Tensor, picture: Embedding) -> Tensor:
    """Tokens of all prompts look at one and the same picture: N·T queries, one set of keys."""
    count, tokens, _ = query.shape
    flat = attention.q(query).reshape(1, count * tokens, -1)
    k = attention.k(picture.cells + picture.position)[None]
    v = attention.v(picture.cells)[None]
    q, k, v = (_split(x, attention.heads) for x in (flat, k, v))
    attended = _joined(functional.scaled_dot_product_attention(q, k, v))
    return attention.out(attended.reshape(count, tokens, -1))


def _from_shared(attention: Attention, picture: Embedding, key: Tensor, value: Tensor) -> Tensor:
    """The picture's cells look at each prompt's tokens; their queries are the same for all."""
    heads = attention.heads
    q = attention.q(picture.cells + picture.position).unflatten(-1, (heads, -1))  # L×h×d
    k = _split(attention.k(key), heads)  # N×h×T×d
    logits = torch.einsum("lhd,nhtd->nlht", q, k) * q.shape[-1] ** -0.5
    return _weighted(attention, logits, value)


def _from_cells(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As `_from_shared`, for cells that every prompt has its own of."""
    heads = attention.heads
    k = _split(attention.k(key), heads)  # N×h×T×d
    depth = k.shape[-1]
    weight = attention.q.weight.unflatten(0, (heads, depth))  # h×d×C
    moved = torch.einsum("nhtd,hdc->nhtc", k, weight).flatten(1, 2)  # N×hT×C
    shift = torch.einsum("nhtd,hd->nht", k, attention.q.bias.unflatten(0, (heads, depth)))
    logits = torch.baddbmm(shift.flatten(1)[:, None], query, moved.transpose(1, 2))
    return _weighted(attention, logits.unflatten(-1, (heads, -1)) * depth**-0.5, value)


def _weighted(attention: Attention, logits: Tensor, value: Tensor) -> Tensor:
    """softmax over the tokens, times the values that were sent through `out` beforehand.

    Args:
        attention: Its `v` and `out`.
        logits: N×L×h×T.
        value: N×T×C.
    """
    v = _split(attention.v(value), attention.heads)  # N×h×T×d
    weight = attention.out.weight.unflatten(1, (attention.heads, -1))  # C×h×d
    moved = torch.einsum("nhtd,chd->nhtc", v, weight).flatten(1, 2)  # N×hT×C
    share = logits.softmax(-1).flatten(-2)  # N×L×hT
    return torch.baddbmm(attention.out.bias, share, moved)


def _to_cells(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Tokens look at cells that every prompt has its own of.

    The bias of the keys adds the same to all logits of a query, which softmax ignores; that of the
    values is added once, as the weights add up to 1.
    """
    heads = attention.heads
    q = _split(attention.q(query), heads)  # N×h×T×d
    depth, tokens = q.shape[-1], q.shape[-2]
    weight = attention.k.weight.unflatten(0, (heads, depth))  # h×d×C
    moved = torch.einsum("nhtd,hdc->nhtc", q, weight).flatten(1, 2)  # N×hT×C
    seen = functional.scaled_dot_product_attention(moved, key, value, scale=depth**-0.5)  # N×hT×C
    weight = attention.v.weight.unflatten(0, (heads, depth))
    v = torch.einsum("nhtc,hdc->nhtd", seen.unflatten(1, (heads, tokens)), weight)
    v = v + attention.v.bias.unflatten(0, (heads, depth))[:, None]
    return attention.out(_joined(v))
