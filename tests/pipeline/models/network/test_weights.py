"""Weights cast once."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn
from torchvision.models import resnet18
from torchvision.ops import FrozenBatchNorm2d

from pipeline.models.network.weights import Cast, cast_weights, castable, fold_batch_norms


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


def test_frequencies_of_rotary_embeddings_stay_float32():
    model = nn.Linear(2, 2)
    model.register_buffer("inv_freq", torch.rand(4))
    cast_weights(model, torch.bfloat16)
    assert (model.weight.dtype, model.get_buffer("inv_freq").dtype) == (
        torch.bfloat16,
        torch.float32,
    )


def trained(kind: type[nn.Module]) -> nn.Module:
    torch.manual_seed(0)
    net = resnet18(norm_layer=kind).eval().requires_grad_(False)
    each: list[Any] = [module for module in net.modules() if isinstance(module, kind)]
    for module in each:
        for name in ("weight", "bias", "running_mean"):
            getattr(module, name).add_(torch.randn_like(getattr(module, name)) * 0.1)
        module.running_var.mul_(torch.rand_like(module.running_var) + 0.5)
    return net


def test_a_resnet_answers_the_same():
    pixels = torch.rand(2, 3, 64, 48)
    for kind in (nn.BatchNorm2d, FrozenBatchNorm2d):
        net = trained(kind)
        wanted = net(pixels)
        assert fold_batch_norms(net) == 20
        assert not any(isinstance(module, kind) for module in net.modules())
        torch.testing.assert_close(net(pixels), wanted, rtol=1e-4, atol=1e-4)


def test_what_follows_no_convolution_of_its_width_stays():
    net = nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU(), nn.BatchNorm2d(4), nn.BatchNorm2d(4)).eval()
    assert fold_batch_norms(net) == 0
