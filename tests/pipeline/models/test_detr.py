"""DETR: one forward pass, the same answer as the whole network's; detectors are refused."""

from __future__ import annotations

from typing import Any

import pytest
import torch
import transformers
from tiny_checkpoints import checkpoint

from pipeline.models.checkpoints.info import describe
from pipeline.models.detr import detr_queries
from pipeline.models.grids.geometry import Frame
from pipeline.models.network.query_net import QueryNet
from schemas.config.model import ModelConfig
from schemas.records import TASKS


def own() -> Any:
    return transformers.DetrForSegmentation.from_pretrained(checkpoint("detr")).eval()


@pytest.mark.parametrize("hw", [(64, 64), (64, 96), (66, 131)])
def test_the_answer_is_that_of_the_whole_network(hw: tuple[int, int]) -> None:
    model = own()
    net = QueryNet(model, device="cpu", options=ModelConfig(name="x"), queries=detr_queries)
    pixels = torch.randn(2, 3, *hw, generator=torch.Generator().manual_seed(1))
    answers = net.look(pixels, [Frame(hw, hw, hw)] * 2)
    assert list(answers) == list(TASKS)
    with torch.no_grad():
        expected = model(pixels)
    for index, output in enumerate(answers["panoptic"]):
        for ours, theirs in (
            (output.class_logits, expected.logits[index]),
            (output.mask_logits, expected.pred_masks[index]),
        ):
            largest = float(theirs.abs().max())
            torch.testing.assert_close(ours, theirs, rtol=0, atol=1e-5 * max(largest, 1))


def test_a_detector_without_masks_is_refused(tmp_path: Any) -> None:
    config = transformers.DetrConfig.from_pretrained(checkpoint("detr"))
    config.architectures = ["DetrForObjectDetection"]
    config.save_pretrained(tmp_path)
    transformers.DetrImageProcessor().save_pretrained(tmp_path)
    with pytest.raises(ValueError, match="DetrForObjectDetection does not segment"):
        describe(str(tmp_path))
