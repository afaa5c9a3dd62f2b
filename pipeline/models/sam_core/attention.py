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
    q = attention.q(shared + position)  # L×(h·d)
    k = _in_slots(_split(attention.k(key), attention.heads))  # N×h×S×d
    # Each head's channels meet its own tokens only.
    own = torch.eye(attention.heads, dtype=k.dtype, device=k.device)
    keys = torch.einsum("nhsd,hg->nhdgs", k, own).flatten(3).flatten(1, 2)  # N×(h·d)×(h·S)
    scale = k.shape[-1] ** -0.5
    logits = torch.baddbmm(_empty(attention, key), q.expand(len(key), -1, -1), keys * scale)
    return _weighted(attention, logits, value)


def from_cells(attention: Attention, query: Tensor, key: Tensor, value: Tensor) -> Tensor:
    """As `from_shared`, for cells that every prompt has its own of."""
    heads = attention.heads
    k = _in_slots(_split(attention.k(key), heads))  # N×h×S×d
    k = k * k.shape[-1] ** -0.5
    weight = attention.q.weight.unflatten(0, (heads, -1))  # h×d×C
    moved = torch.einsum("nhsd,hdc->nhsc", k, weight).flatten(1, 2)  # N×hS×C
    shift = torch.einsum("nhsd,hd->nhs", k, attention.q.bias.unflatten(0, (heads, -1)))
    shift = shift.flatten(1)[:, None] + _empty(attention, key)
    return _weighted(attention, torch.baddbmm(shift, query, moved.transpose(1, 2)), value)


def _in_slots(x: Tensor) -> Tensor:
    """N×h×T×d → N×h×S×d, zeros in the slots that no token has; S is a multiple of eight.

    Neighbours in memory are then read together, and matrix products have whole tiles.
    """
    return functional.pad(x, (0, 0, 0, -x.shape[2] % 8))


def _empty(attention: Attention, key: Tensor) -> Tensor:
    """1×1×(h·S), to add to logits: −∞ in the slots that no token has."""
    tokens = key.shape[1]
    slots = torch.zeros(tokens + -tokens % 8, dtype=key.dtype, device=key.device)
    slots[tokens:] = float("-inf")
    return slots.repeat(attention.heads)[None, None]


def _weighted(attention: Attention, logits: Tensor, value: Tensor) -> Tensor:
    """softmax over the tokens, times the values that were sent through `out` beforehand.

    Args:
        attention: Its `v` and `out`.
        logits: N×L×(h·S).
        value: N×T×C.
    """
    heads = attention.heads
    v = _split(attention.v(value), heads)  # N×h×T×d
    weight = attention.out.weight.unflatten(1, (heads, -1))  # C×h×d
    moved = _in_slots(torch.einsum("nhtd,chd->nhtc", v, weight)).flatten(1, 2)  # N×hS×C
    share = logits.unflatten(-1, (heads, -1)).softmax(-1).flatten(-2)
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
