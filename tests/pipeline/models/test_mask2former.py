"""Mask2Former and MaskFormer: one forward pass, the same answer as the whole network's."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tiny_checkpoints import checkpoint

from pipeline.models.grids.geometry import Frame
from pipeline.models.mask2former import mask2former_net
from pipeline.models.network.query_net import QueryNet, closed_to, masks_of
from schemas.config.model import ModelConfig
from schemas.records import TASKS

OPTIONS = ModelConfig(name="x")


def model_of(name: str) -> Any:
    kind = {
        "mask2former": transformers.Mask2FormerForUniversalSegmentation,
        "maskformer": transformers.MaskFormerForInstanceSegmentation,
    }[name]
    return kind.from_pretrained(checkpoint(name)).eval()


@pytest.mark.parametrize("name", ["mask2former", "maskformer"])
@pytest.mark.parametrize("hw", [(64, 64), (64, 96), (32, 128)])
def test_the_answer_is_that_of_the_whole_network(name: str, hw: tuple[int, int]):
    whole, own = model_of(name), model_of(name)
    build = mask2former_net if name == "mask2former" else QueryNet
    net = build(own, device="cpu", options=OPTIONS)
    pixels = torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(1))
    calls: list[Any] = []
    own.register_forward_hook(lambda *each: calls.append(each))
    answers = net.look(pixels, [Frame(hw, hw, hw)] * 2)
    assert len(calls) == 1, "one pass for all tasks"
    assert list(answers) == list(TASKS)
    with torch.no_grad():
        expected = whole(pixels)
    for task in TASKS:
        for index, output in enumerate(answers[task]):
            for ours, theirs in (
                (output.class_logits, expected.class_queries_logits[index]),
                (output.mask_logits, expected.masks_queries_logits[index]),
            ):
                largest = float(theirs.abs().max())
                torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(largest, 1))


def test_attention_is_closed_where_the_shrunk_mask_is():
    random = torch.Generator().manual_seed(0)
    embeddings = torch.randn(2, 5, 8, generator=random)
    features = torch.randn(2, 8, 24, 33, generator=random)
    closed = closed_to(embeddings, features, hw=(6, 9), heads=3)
    assert closed.shape == (6, 5, 54)
    shrunk = torch.nn.functional.interpolate(
        masks_of(embeddings, features), size=(6, 9), mode="bilinear"
    )
    expected = (shrunk < 0).flatten(2)
    assert not expected.all(-1).any()
    assert 0.2 < expected.float().mean() < 0.8
    for picture in range(2):
        for head in range(3):
            assert torch.equal(closed[3 * picture + head], expected[picture])


def test_a_query_whose_mask_is_nowhere_may_attend_everywhere():
    embeddings = torch.tensor([[[-1.0], [1.0]]])
    closed = closed_to(embeddings, torch.ones(1, 1, 8, 8), hw=(2, 2), heads=2)
    assert not closed.any()
