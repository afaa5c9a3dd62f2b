"""Forward: precision, compiling once a shape, float32 out."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import Tensor, nn

from pipeline.models.network import forward
from pipeline.models.network.forward import Forward, precision
from schemas.config.model import ModelConfig


def options(**given: object) -> ModelConfig:
    return ModelConfig.model_validate({"name": "x", **given})


def test_precision_is_what_the_config_says_and_float32_on_a_cpu_by_itself():
    assert precision("auto", "cpu") == torch.float32
    assert precision("bfloat16", "cpu") == torch.bfloat16
    assert precision("float16", "cuda:1") == torch.float16


@pytest.mark.parametrize("dtype", ["float32", "bfloat16"])
def test_products_run_in_the_precision_and_answers_are_float32(dtype: str):
    torch.manual_seed(0)
    net = nn.Conv2d(3, 4, 3)
    seen: list[torch.dtype] = []

    def function(pixels: Tensor) -> tuple[Tensor, ...]:
        answer = net(pixels)
        seen.append(answer.dtype)
        return answer, answer.argmax(1)

    pixels = torch.rand(2, 3, 9, 7)
    logits, best = Forward(function, device="cpu", options=options(dtype=dtype))(pixels)
    assert seen == [getattr(torch, dtype)]
    assert logits.dtype == torch.float32
    assert best.dtype == torch.int64
    assert not logits.requires_grad
    with torch.no_grad():
        assert (logits - net(pixels)).abs().max() < (1e-6 if dtype == "float32" else 0.02)


def test_a_bounded_number_of_shapes_is_compiled(monkeypatch: pytest.MonkeyPatch):
    calls: list[tuple[str, int]] = []

    def function(pixels: Tensor) -> tuple[Tensor, ...]:
        calls.append(("plain", pixels.shape[-1]))
        return (pixels,)

    def compiled(function: object, *, dynamic: bool) -> object:
        assert not dynamic

        def run(pixels: Tensor) -> tuple[Tensor, ...]:
            calls.append(("compiled", pixels.shape[-1]))
            return (pixels,)

        return run

    monkeypatch.setattr(torch, "compile", compiled)
    monkeypatch.setattr(forward, "SHAPES", 2)
    run = Forward(function, device="cpu", options=options(compile=True))
    for width in (4, 5, 6, 5, 4):
        run(torch.zeros(1, 3, 8, width))
    kinds = [kind for kind, _ in calls]
    assert kinds == ["plain", "compiled", "compiled", "plain", "compiled", "compiled"]
    assert calls[0] == ("plain", 4), "once, before anything is traced"


def test_compiled_and_plain_say_the_same(monkeypatch: pytest.MonkeyPatch):
    # traced as ever, but no C++ is compiled, which takes half a minute
    monkeypatch.setattr(torch, "compile", partial(torch.compile, backend="aot_eager"))
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(3, 4, 3), nn.GELU())
    pixels = torch.rand(2, 3, 9, 7)
    (plain,) = Forward(lambda x: (net(x),), device="cpu", options=options())(pixels)
    (fast,) = Forward(lambda x: (net(x),), device="cpu", options=options(compile=True))(pixels)
    torch.testing.assert_close(fast, plain)
