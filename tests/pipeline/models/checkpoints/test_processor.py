"""Threads of torch are lent, and given back."""

from __future__ import annotations

import pytest
import torch

from pipeline.models.checkpoints.processor import count_gpus, torch_threads


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
