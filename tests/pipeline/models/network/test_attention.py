"""Attention by PyTorch's fused kernels against the modules that it replaces."""

from __future__ import annotations

from copy import deepcopy
from importlib import import_module
from typing import Any

import torch
from torch import nn

from pipeline.models.network.attention import lean_attentions

library: Any = import_module("transformers.models.mask2former.modeling_mask2former")


def test_both_kinds_answer_as_before_and_one_mask_serves_all_heads():
    torch.manual_seed(0)
    holder: Any = nn.ModuleList([nn.MultiheadAttention(16, 4), library.Mask2FormerAttention(16, 4)])
    holder.eval()
    ours: Any = deepcopy(holder)
    lean_attentions(ours)
    query, key, value = (torch.randn(length, 2, 16) for length in (5, 7, 7))
    closed = torch.rand(2, 1, 5, 7) < 0.4
    closed[..., 0] = False
    with torch.inference_mode():
        each = closed.repeat(1, 4, 1, 1).flatten(0, 1)
        wanted, _ = holder[0](query, key, value, attn_mask=each, need_weights=False)
        found, _ = ours[0](query=query, key=key, value=value, attn_mask=closed)
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
        places = torch.randn_like(query)
        wanted = holder[1](hidden_states=query, position_embeddings=places)[0]
        found = ours[1](hidden_states=query, position_embeddings=places, output_attentions=True)[0]
        torch.testing.assert_close(found, wanted, rtol=1e-4, atol=1e-5)
