"""float16 where its range allows it, for SAM's masks depend on the last bits."""

from __future__ import annotations

import logging
from typing import Any

import pytest
import torch
from tiny_sam import tiny_sam

from pipeline.models.sam_core import load as sam_precision
from pipeline.models.sam_core.load import encode_images, in_range, load_sam
from pipeline.models.sam_core.net import PackageSam, SamNet, inference
from schemas.config.model import ModelConfig


class Checkpoint:
    """A tiny SAM; `gain` is how many times too large its encoder's numbers are."""

    rule: Any = None
    two_steps = True

    def __init__(self, gain: float = 1.0) -> None:
        self.gain = gain
        self.asked: list[tuple[torch.dtype, bool]] = []

    def load(
        self, device: str, dtype: torch.dtype, *, reference: bool = False, compiled: bool = False
    ) -> SamNet:
        self.asked.append((dtype, reference))
        model = tiny_sam("package")
        model.image_encoder.neck[-1].weight.data *= self.gain
        return PackageSam(inference(model, device, dtype), reference=reference, compiled=compiled)


@pytest.fixture
def gpu_like(monkeypatch: pytest.MonkeyPatch) -> None:
    """As if the CPU computed in bfloat16, as a GPU does."""

    def precision(dtype: str, _device: str) -> torch.dtype:
        return torch.bfloat16 if dtype == "auto" else getattr(torch, dtype)

    monkeypatch.setattr(sam_precision, "precision", precision)


def options(dtype: Any = "auto") -> ModelConfig:
    return ModelConfig(name="x", dtype=dtype)


@pytest.mark.usefixtures("gpu_like")
def test_auto_is_float16() -> None:
    checkpoint = Checkpoint()
    assert load_sam(checkpoint, options(), "cpu").dtype == torch.float16
    assert checkpoint.asked == [(torch.float16, False)]


@pytest.mark.usefixtures("gpu_like")
def test_but_not_beyond_its_range(caplog: pytest.LogCaptureFixture) -> None:
    checkpoint = Checkpoint(1e6)
    with caplog.at_level(logging.WARNING):
        assert load_sam(checkpoint, options(), "cpu").dtype == torch.bfloat16
    assert [dtype for dtype, _ in checkpoint.asked] == [torch.float16, torch.bfloat16]
    assert "range" in caplog.text


@pytest.mark.usefixtures("gpu_like")
@pytest.mark.parametrize("dtype", ["bfloat16", "float16", "float32"])
def test_what_is_asked_for_is_taken(dtype: str) -> None:
    assert load_sam(Checkpoint(), options(dtype), "cpu").dtype == getattr(torch, dtype)


def test_a_cpu_and_the_reference_compute_in_float32() -> None:
    assert load_sam(Checkpoint(), options(), "cpu").dtype == torch.float32
    checkpoint = Checkpoint()
    assert load_sam(checkpoint, options("bfloat16"), "cpu", reference=True).dtype == torch.float32
    assert checkpoint.asked == [(torch.float32, True)]


def test_a_picture_beyond_the_range_is_an_error_not_an_empty_picture() -> None:
    net = Checkpoint(1e6).load("cpu", torch.float16)
    assert not in_range(net, "cpu")
    with pytest.raises(ValueError, match=r"model\.dtype"):
        encode_images(net, torch.randn(1, 3, net.side, net.side))
    sound = Checkpoint().load("cpu", torch.float16)
    assert in_range(sound, "cpu")
    (found,) = encode_images(sound, torch.randn(1, 3, net.side, net.side))
    assert found.raw.dtype == torch.float16
