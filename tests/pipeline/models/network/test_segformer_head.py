"""SegFormer's head with its product before the enlarging."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import torch

from pipeline.models.network.segformer_head import LeanSegformerDecodeHead, lean_segformer


def test_it_gives_the_logits_of_the_librarys_head():
    import transformers

    torch.manual_seed(0)
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 16, 16, 32],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
        id2label=dict(enumerate("abcde")),
    )
    model: Any = transformers.SegformerForSemanticSegmentation(config).eval()
    with torch.inference_mode():
        model.decode_head.batch_norm.running_mean.normal_()
        model.decode_head.batch_norm.running_var.uniform_(0.5, 2)
        pixels = torch.randn(2, 3, 100, 68)
        wanted = model(pixels).logits
        ours = deepcopy(model)
        lean_segformer(ours)
        assert type(ours.decode_head) is type(model.decode_head)  # a CPU's stays
        ours.decode_head = LeanSegformerDecodeHead(ours.decode_head)
        torch.testing.assert_close(ours(pixels).logits, wanted, rtol=1e-4, atol=1e-5)
