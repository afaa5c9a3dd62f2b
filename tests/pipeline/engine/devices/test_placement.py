"""Where a worker runs, and the processors beside its device."""

from __future__ import annotations

import pytest

from pipeline.engine.devices.placement import cpus_beside, hold_instructions, resolve_device
from pipeline.errors import ExecutionError


@pytest.mark.parametrize(
    ("device", "gpus", "placed"),
    [
        ("auto", 1.0, "cuda"),
        ("auto", 0.25, "cuda"),
        ("auto", 0.0, "cpu"),
        ("auto", None, "cpu"),
        ("cpu", 1.0, "cpu"),
        ("cuda:1", None, "cuda:1"),
    ],
)
def test_auto_is_the_gpu_that_a_worker_holds(device: str, gpus: float | None, placed: str) -> None:
    assert resolve_device(device, gpus) == placed


@pytest.mark.parametrize(
    ("share", "gpus", "cpus", "beside"),
    [
        (1.0, 1, 16, 8.0),  # no more is used
        (0.25, 1, 16, 4.0),
        (1.0, 8, 32, 4.0),
        (1.0, 4, 2, 1.0),  # never none
        (0.0, 0, 2, 1.0),
    ],
)
def test_a_worker_gets_its_share_of_the_processors(
    share: float, gpus: float, cpus: float, beside: float
) -> None:
    assert cpus_beside(share, gpus=gpus, cpus=cpus) == beside


def test_reproducible_labels_are_refused_on_a_gpu() -> None:
    assert resolve_device("auto", 0.0, reproducible=True) == "cpu"
    with pytest.raises(ExecutionError, match=r"'cuda': set model\.device = 'cpu'"):
        resolve_device("auto", 1.0, reproducible=True)
    with pytest.raises(ExecutionError, match="holds CPUs alone"):
        hold_instructions("cuda:0")
