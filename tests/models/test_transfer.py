"""Tables to a device and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.transfer import fetch, upload


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param(
            "cuda",
            marks=[
                pytest.mark.gpu,
                pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator"),
            ],
        ),
    ],
)
def test_tables_arrive_flat_and_come_back(device):
    tables = [np.arange(6, dtype=np.int32).reshape(2, 3), np.zeros((0, 4), np.int64), np.array([7])]
    there = upload(*tables, device=torch.device(device))
    assert [each.dtype for each in there] == [torch.int64] * 3
    assert [each.device.type for each in there] == [device] * 3
    back = [fetch(each) for each in there]
    assert [each.tolist() for each in back] == [[0, 1, 2, 3, 4, 5], [], [7]]
