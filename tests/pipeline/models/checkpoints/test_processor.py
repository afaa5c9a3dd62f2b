"""Threads of torch are lent, and given back."""

from __future__ import annotations

import itertools
import time

import pytest
import torch

from pipeline.models.checkpoints import processor
from pipeline.models.checkpoints.processor import GpuMeter, GpuUse, count_gpus, torch_threads


def test_threads_are_given_for_a_block(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    before = torch.get_num_threads()
    seen: list[int] = []

    def fail() -> None:
        with torch_threads(before + 2):
            seen.append(torch.get_num_threads())
            raise ValueError("x")

    with pytest.raises(ValueError, match="x"):
        fail()
    assert seen == [before + 2]
    assert torch.get_num_threads() == before


def test_a_number_in_the_environment_stands(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    before = torch.get_num_threads()
    with torch_threads(before + 2):
        assert torch.get_num_threads() == before


def test_gpus_are_those_of_torch() -> None:
    assert count_gpus() == (torch.cuda.device_count() if torch.cuda.is_available() else 0)


def test_a_meter_gives_the_mean_since_it_was_asked_last(monkeypatch: pytest.MonkeyPatch) -> None:
    readings = itertools.cycle([0.2, 0.6])
    monkeypatch.setattr(processor, "_busy_reader", lambda _device: lambda: next(readings))
    monkeypatch.setattr(processor, "_memory", lambda _device: 0.25)
    meter = GpuMeter("cuda", every_s=0.001)
    time.sleep(0.05)
    assert meter.take() is None  # of the first time
    time.sleep(0.2)
    meter.close()
    use = meter.take()
    assert isinstance(use, GpuUse)
    assert use.memory == 0.25
    assert 0.2 < use.busy < 0.6


def test_without_a_driver_nothing_is_measured(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processor, "_busy_reader", lambda _device: None)
    meter = GpuMeter("cuda")
    assert meter.take() is None
    assert meter.take() is None


@pytest.mark.gpu
def test_the_driver_tells_how_busy_a_gpu_is() -> None:
    meter = GpuMeter("cuda", every_s=0.02)
    meter.take()
    matrix, over = torch.rand(4096, 4096, device="cuda"), time.monotonic() + 2
    while time.monotonic() < over:
        matrix = (matrix @ matrix).clamp(-1, 1)
        torch.cuda.synchronize()
    use = meter.take()
    meter.close()
    assert use is not None
    assert use.busy > 0.5
    assert 0 < use.memory < 1
