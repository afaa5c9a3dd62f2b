"""TorchSegmenter: batches, filling, and what a lack of memory does to answers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from tiny_checkpoints import checkpoint
from torch import Tensor

from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.grids.geometry import FitRule, Frame, Size
from pipeline.models.grids.outputs import BoxOutput, DenseOutput, QueryOutput
from pipeline.models.network.forward import Passes
from pipeline.models.network.segmenter import TorchSegmenter
from pipeline.models.postprocess.merge import Merging, Outputs, Thresholds
from schemas.config.model import ModelConfig
from schemas.records import ErrorCode, ImageRecord, Sample


@pytest.fixture(autouse=True)
def _quick(monkeypatch: pytest.MonkeyPatch) -> None:
    """Collecting everything that the test session holds takes half a second each time."""
    monkeypatch.setattr("gc.collect", lambda: 0)


RULE = FitRule(size=Size("shortest", 32, 64), mean=None)


@cache
def info() -> ModelInfo:
    """A checkpoint of six outputs; its network is not used."""
    return describe(str(checkpoint("mask2former")))


class FakeNet:
    """The category of a picture is how bright it is; more pixels than `room` do not fit."""

    def __init__(self, room: int = 10**9) -> None:
        self.room = room
        self.rows: list[int] = []

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        assert len(pixels) == len(frames)
        self.rows.append(len(pixels))
        if pixels[:, 0].numel() > self.room:
            raise torch.OutOfMemoryError("CUDA out of memory")
        number = (pixels.mean((1, 2, 3)) * 6).long()
        maps = torch.nn.functional.one_hot(number, 6).float()[:, :, None, None].expand(-1, -1, 4, 4)
        return {"semantic": [DenseOutput(*pair) for pair in zip(maps, frames, strict=True)]}


def sample(number: int, hw: tuple[int, int]) -> Sample:
    pixels = np.full((*hw, 3), 255 * (number + 0.5) / 6, np.uint8)
    return Sample(ImageRecord(f"{number}.png", ""), pixels, hw)


def segmenter(net: FakeNet, *, batch: int, **options: Any) -> TorchSegmenter:
    given = ModelConfig.model_validate({"name": "x", "batch_size": batch, **options})
    model = TorchSegmenter(info(), given, ("semantic",), rule=RULE)
    model.start("cpu", lambda device: net)
    model._passes = Passes(batch)  # as on a GPU
    return model


SAMPLES = [sample(number, hw) for number in range(6) for hw in ((40, 40), (30, 60))]


def numbers(model: TorchSegmenter) -> list[int]:
    found = model.segment(SAMPLES)
    for source, one in zip(SAMPLES, found, strict=True):
        assert (one.height, one.width) == source.original_hw
        assert one.failure is None
        assert one.segments[0].area == one.height * one.width
    return [info().category_ids.index(one.segments[0].category_id) for one in found]


EXPECTED = [number for number in range(6) for _ in range(2)]


def test_pictures_of_one_shape_go_together_and_answers_keep_their_order():
    net = FakeNet()
    assert numbers(segmenter(net, batch=4)) == EXPECTED
    assert net.rows == [4, 2, 4, 2]


def test_on_a_cpu_each_goes_alone():
    net = FakeNet()
    model = TorchSegmenter(info(), ModelConfig(name="x", batch_size=8), ("semantic",), rule=RULE)
    model.start("cpu", lambda device: net)
    assert numbers(model) == EXPECTED
    assert net.rows == [1] * 12


def test_compiled_batches_are_filled_up_so_that_shapes_repeat():
    net = FakeNet()
    assert numbers(segmenter(net, batch=4, compile=True)) == EXPECTED
    assert net.rows == [4, 4, 4, 4]
    small = FakeNet(room=2 * 32 * 64)
    assert numbers(segmenter(small, batch=4, compile=True)) == EXPECTED
    assert small.rows == [4] * 2 + [4] + [2] * 3, "filled up to what fits"


def test_a_picture_that_does_not_fit_alone_fails_and_the_others_do_not():
    model = segmenter(FakeNet(room=32 * 32), batch=4)
    for source, one in zip(SAMPLES, model.segment(SAMPLES), strict=True):
        assert (one.height, one.width) == source.original_hw
        if source.original_hw == (40, 40):
            assert one.failure is None
            assert one.segments
        else:
            assert one.failure is not None
            assert one.failure.code == ErrorCode.MODEL_ERROR
            assert one.failure.message.startswith("out of GPU memory with one picture alone")


def test_a_closed_model_says_so():
    model = segmenter(FakeNet(), batch=2)
    model.close()
    with pytest.raises(RuntimeError, match="load"):
        model.segment(SAMPLES)


def test_the_job_goes_before_the_family():
    own = Thresholds(score=0.8)
    job = ModelConfig(name="x", threshold=0.3, overlap_threshold=0)
    assert own.under(ModelConfig(name="x")) == Thresholds(0.8, 0.5, 0.8)
    assert own.under(job) == Thresholds(0.3, 0.5, 0.0)


@pytest.mark.parametrize("kind", ["oneformer", "mask2former"])
def test_transformers_order_is_taken_where_it_is_another_and_asked_for(kind: str):
    described = replace(info(), config={"model_type": kind})
    frame = Frame((8, 8), (8, 8), (8, 8))
    queries = QueryOutput(torch.zeros(2, 7), torch.zeros(2, 2, 2), frame)
    for compat, own in (("", False), ("transformers", kind == "oneformer")):
        (maps,) = Merging(described, Thresholds(), compat=compat).dense([queries])
        assert maps.logits.shape == ((6, 2, 2) if own else (6, 8, 8))


def test_outputs_that_cannot_answer_a_task_are_named():
    merging = Merging(info(), Thresholds())
    frame = Frame((4, 4), (4, 4), (4, 4))
    dense = DenseOutput(torch.zeros(6, 4, 4), frame)
    boxes = BoxOutput(
        torch.zeros(0, 4), torch.zeros(0, dtype=torch.int64), torch.zeros(0),
        torch.zeros(0, 28, 28), frame,
    )  # fmt: skip
    queries = QueryOutput(torch.zeros(2, 7), torch.zeros(2, 4, 4), frame)
    assert merging("instance", [boxes])
    for task in ("semantic", "instance", "panoptic"):
        assert merging(task, [queries])
    with pytest.raises(ValueError, match="DenseOutput cannot answer the task 'panoptic'"):
        merging("panoptic", [dense])
    with pytest.raises(ValueError, match="BoxOutput cannot answer the task 'semantic'"):
        merging("semantic", [boxes])
