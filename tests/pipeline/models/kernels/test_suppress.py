"""The kernel of suppression: interpreted anywhere, and on a GPU where there is one."""

from __future__ import annotations

import pytest
from kernel_builds import built_for_a_gpu


def test_interpreted_it_keeps_what_torchvision_keeps(interpreted):
    assert interpreted("suppress_checks") == ""


@pytest.mark.usefixtures("own_kernel_cache")
def test_it_compiles_for_a_gpu_that_is_not_here():
    from pipeline.models.kernels.suppress import suppress_group

    types = {"boxes": "*fp32", "alive": "*i8", "threshold": "fp32", "count": "i32"}
    assert built_for_a_gpu(suppress_group, types, {"size": 1024})


@pytest.mark.gpu
def test_on_a_gpu_it_keeps_what_torchvision_keeps():
    from suppress_checks import check

    check("cuda")
