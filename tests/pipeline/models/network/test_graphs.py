"""Recorded launches answer what plain calls answer."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.network.graphs import SEEN, SHAPES, Graphs


@pytest.mark.gpu
def test_a_replay_is_the_plain_call_bit_for_bit():
    net = torch.nn.Sequential(torch.nn.Conv2d(3, 8, 3), torch.nn.GELU()).cuda()
    graphs = Graphs(lambda pixels: (net(pixels),))
    with torch.inference_mode():
        for _ in range(SEEN + 3):
            for side in (8, 12):
                pixels = torch.randn(2, 3, side, side, device="cuda")
                (found,) = graphs(pixels)
                assert torch.equal(found, net(pixels))
    assert len(graphs._recordings) == 2


@pytest.mark.gpu
def test_a_network_that_waits_for_the_device_runs_plainly():
    def waits(pixels: torch.Tensor) -> tuple[torch.Tensor, ...]:
        return (pixels * float(pixels.sum()),)

    graphs = Graphs(waits)
    for _ in range(SEEN + 2):
        pixels = torch.randn(1, 3, 4, 4, device="cuda")
        assert torch.equal(graphs(pixels)[0], waits(pixels)[0])
    assert not graphs._recordings


@pytest.mark.gpu
def test_only_so_many_shapes_are_recorded():
    graphs = Graphs(lambda pixels: (pixels + 1,))
    for side in range(1, SHAPES + 4):
        for _ in range(SEEN + 2):
            pixels = torch.randn(1, 1, side, side, device="cuda")
            assert torch.equal(graphs(pixels)[0], pixels + 1)
    assert len(graphs._recordings) == SHAPES


@pytest.mark.gpu
def test_several_tensors_are_given_and_each_is_read_anew():
    graphs = Graphs(lambda one, other: (one + other, one * other))
    for _ in range(SEEN + 3):
        one, other = torch.randn(3, 4, device="cuda"), torch.randn(4, device="cuda")
        total, product = graphs(one, other)
        assert torch.equal(total, one + other)
        assert torch.equal(product, one * other)
    assert len(graphs._recordings) == 1
