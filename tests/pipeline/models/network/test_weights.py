"""Weights cast once."""

from __future__ import annotations

import torch
from torch import nn

from pipeline.models.network.weights import Cast, cast_weights, castable


def test_everything_is_cast_but_batch_norms_and_what_is_kept():
    model = nn.Sequential(nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4), nn.Linear(4, 4), nn.LayerNorm(4))
    model.register_buffer("places", torch.arange(3))
    cast_weights(model, torch.bfloat16, keep=[model[2]])
    types = [next(part.parameters()).dtype for part in model]
    assert types == [torch.bfloat16, torch.float32, torch.float32, torch.bfloat16]
    assert model.get_buffer("1.running_var").dtype == torch.float32
    assert model.get_buffer("places").dtype == torch.int64
    answer = model[1](model[0](torch.randn(1, 3, 2, 2).bfloat16()))
    assert answer.dtype == torch.bfloat16


def test_a_network_with_frozen_norms_is_not_castable():
    from torchvision.ops import FrozenBatchNorm2d

    assert castable(nn.Sequential(nn.BatchNorm2d(2)))
    assert not castable(nn.Sequential(FrozenBatchNorm2d(2)))


def test_a_part_can_have_a_precision_of_its_own():
    part = Cast(nn.Linear(2, 3), torch.float32)
    assert part(torch.ones(1, 2, dtype=torch.bfloat16)).dtype == torch.float32
