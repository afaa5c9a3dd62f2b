"""Attention over queries and keys by PyTorch's fused kernels, its weights never written."""

from __future__ import annotations

from typing import Any

from torch import Tensor, nn
from torch.nn import functional


class LeanAttention(nn.Module):
    """Stands where an `nn.MultiheadAttention` was, with the same weights.

    What is closed is one mask for all heads; PyTorch's module needs a copy of it for each.

    Args:
        inner: The module that it replaces.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.heads: int = inner.num_heads
        self.in_proj_weight = inner.in_proj_weight
        self.in_proj_bias = inner.in_proj_bias
        self.out_proj = inner.out_proj

    def forward(
        self, query: Tensor, key: Tensor, value: Tensor, attn_mask: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        """Q×B×C.

        Args:
            query: Q×B×C.
            key: S×B×C.
            value: S×B×C.
            attn_mask: B×1×Q×S bool, True where a query may not attend.
        """
        weights, biases = self.in_proj_weight.chunk(3), self.in_proj_bias.chunk(3)
        inputs = zip((query, key, value), weights, biases, strict=True)
        parts = [self._heads(functional.linear(*each)) for each in inputs]
        open_to = None if attn_mask is None else ~attn_mask
        found = functional.scaled_dot_product_attention(*parts, attn_mask=open_to)
        return self.out_proj(found.permute(2, 0, 1, 3).flatten(2)), None

    def _heads(self, tensor: Tensor) -> Tensor:
        """T×B×C → B×heads×T×(C/heads)."""
        return tensor.unflatten(2, (self.heads, -1)).permute(1, 2, 0, 3)


class LeanSelfAttention(nn.Module):
    """Stands where Mask2Former's or OneFormer's own self-attention was, with the same weights.

    Args:
        inner: The module that it replaces.
    """

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.heads: int = inner.num_heads
        self.q_proj, self.k_proj = inner.q_proj, inner.k_proj
        self.v_proj, self.out_proj = inner.v_proj, inner.out_proj

    def forward(
        self, hidden_states: Tensor, position_embeddings: Tensor | None = None, **_: Any
    ) -> tuple[Tensor, None]:
        """Q×B×C; names as in transformers."""
        places = hidden_states
        if position_embeddings is not None:
            places = hidden_states + position_embeddings
        pairs = ((self.q_proj, places), (self.k_proj, places), (self.v_proj, hidden_states))
        parts = [
            project(given).unflatten(2, (self.heads, -1)).permute(1, 2, 0, 3)
            for project, given in pairs
        ]
        found = functional.scaled_dot_product_attention(*parts)
        return self.out_proj(found.permute(2, 0, 1, 3).flatten(2)), None


def lean_attentions(decoder: nn.Module) -> None:
    """Exchanges the attentions of a Mask2Former's or OneFormer's transformer decoder."""
    for parent in decoder.modules():
        for name, child in parent.named_children():
            if isinstance(child, nn.MultiheadAttention):
                setattr(parent, name, LeanAttention(child))
            elif type(child).__name__ in ("Mask2FormerAttention", "OneFormerAttention"):
                setattr(parent, name, LeanSelfAttention(child))
