"""The attentions of SAM's decoder, arranged for many prompts of a picture; see `sam_decoder`."""

from __future__ import annotations

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


def _split(x: Tensor, heads: int) -> Tensor:
    """N×S×D → N×heads×S×D/heads."""
    return x.unflatten(-1, (heads, -1)).transpose(1, 2)


def _joined(x: Tensor) -> Tensor:
    """The inverse of `_split`."""
    return x.transpose(1, 2).flatten(-2)


def plain(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    q, k, v = (
        _split(projection(x), attention.heads)
        for projection, x in (
            (attention.q, query),
            (attention.k, key),
            (attention.v, value),
        )
    )
    return attention.out(_joined(functional.scaled_dot_product_attention(q, k, v)))


def to_shared(attention: Attention, query: Tensor, shared: Tensor, position: Tensor) -> Tensor:
    """Tokens of all prompts look at one and the same picture: N·T queries, one set of keys."""
    count, tokens, _ = query.shape
    flat = attention.q(query).reshape(1, count * tokens, -1)
    k = attention.k(shared + position)[None]
    v = attention.v(shared)[None]
    q, k, v = (_split(x, attention.heads) for x in (flat, k, v))
    attended = _joined(functional.scaled_dot_product_attention(q, k, v))
    return attention.out(attended.reshape(count, tokens, -1))


def from_shared(
    attention: Attention, shared: Tensor, position: Tensor, key: Tensor, value: Tensor
) -> Tensor:
    """The picture's cells look at each prompt's tokens; their queries are the same for all."""
    heads = attention.heads
    q = attention.q(shared + position).unflatten(-1, (heads, -1))  # L×h×d
    k = _split(attention.k(key), heads)  # N×h×T×d
    logits = torch.einsum("lhd,nhtd->nlht", q, k) * q.shape[-1] ** -0.5
    return _weighted(attention, logits, value)


def from_cells(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
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


def to_cells(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """Tokens look at cells that every prompt has its own of.

    The bias of the keys adds the same to all logits of a query, which softmax ignores; that of the
    values is added once, as the weights add up to 1.
    """
    heads = attention.heads
    q = _split(attention.q(query), heads)  # N×h×T×d
    depth, tokens = q.shape[-1], q.shape[-2]
    weight = attention.k.weight.unflatten(0, (heads, depth))  # h×d×C
    moved = torch.einsum("nhtd,hdc->nhtc", q, weight).flatten(1, 2)  # N×hT×C
    # With a dimension for heads, though there is one only: else PyTorch takes its slowest way.
    seen = functional.scaled_dot_product_attention(
        moved[:, None], key[:, None], value[:, None], scale=depth**-0.5
    )[:, 0]  # N×hT×C
    return _of_seen(attention, seen.unflatten(1, (heads, tokens)))


def _of_seen(attention: Attention, seen: Tensor) -> Tensor:
    """N×heads×T×C averaged cells → what the tokens take from them, N×T×C."""
    weight = attention.v.weight.unflatten(0, (attention.heads, -1))
    v = torch.einsum("nhtc,hdc->nhtd", seen, weight)
    v = v + attention.v.bias.unflatten(0, (attention.heads, -1))[:, None]
    return attention.out(_joined(v))
