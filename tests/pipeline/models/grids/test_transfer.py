"""Tables to a device and back."""

from __future__ import annotations

import numpy as np
import pytest
import torch

from pipeline.models.grids.transfer import fetch, fetch_all, upload


@pytest.mark.parametrize(
    "device",
    [
        "cpu",
        pytest.param("cuda", marks=pytest.mark.gpu),
    ],
)
def test_tables_arrive_flat_and_come_back(device):
    tables = [np.arange(6, dtype=np.int32).reshape(2, 3), np.zeros((0, 4), np.int64), np.array([7])]
    there = upload(*tables, device=torch.device(device))
    assert [each.dtype for each in there] == [torch.int64] * 3
    assert [each.device.type for each in there] == [device] * 3
    back = [fetch(each) for each in there]
    assert [each.tolist() for each in back] == [[0, 1, 2, 3, 4, 5], [], [7]]


def test_several_tensors_come_in_one_copy_and_keep_their_shapes():
    tensors = [torch.rand(2, 3), torch.rand(0, 6), torch.rand(4, 1, 2)]
    found = fetch_all(tensors)
    assert [each.dtype for each in found] == [np.float64] * 3
    for one, other in zip(found, tensors, strict=True):
        np.testing.assert_array_equal(one, other.double().numpy())
