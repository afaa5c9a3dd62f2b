"""The kernel of RoIAlign: interpreted anywhere, and on a GPU where there is one."""

from __future__ import annotations

import pytest
from kernel_builds import built_for_a_gpu


def test_interpreted_it_gives_what_torchvision_gives(interpreted):
    assert interpreted("regions_checks") == ""


@pytest.mark.usefixtures("own_kernel_cache")
def test_it_compiles_for_a_gpu_that_is_not_here():
    from pipeline.models.kernels.regions import cut_row

    constants = {"level": 1, "last": 3, "channels": 256, "side": 7}
    types = {"cells": "*bf16", "boxes": "*fp32", "pictures": "*i32", "answer": "*bf16"}
    types |= {"height": "i32", "width": "i32", "scale": "fp32"}
    assert built_for_a_gpu(cut_row, types, constants)


@pytest.mark.gpu
def test_on_a_gpu_it_gives_what_torchvision_gives():
    from regions_checks import check

    check("cuda")
