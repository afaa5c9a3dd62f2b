"""The kernel of deformable attention: interpreted anywhere, and on a GPU where there is one."""

from __future__ import annotations

import pytest
from kernel_builds import built_for_a_gpu


def test_interpreted_the_kernel_gives_what_the_plain_formula_gives(interpreted):
    assert interpreted("deformable_checks") == ""


@pytest.mark.usefixtures("own_kernel_cache")
def test_it_compiles_for_a_gpu_that_is_not_here():
    from pipeline.models.kernels.deformable import attend

    constants = {
        "heads": 8,
        "channels": 32,
        "levels": 2,
        "each": 2,
        "padded": 4,
        "coordinates": 4,
        "size": 32,
    }
    types = dict.fromkeys(("values", "points", "answer"), "*bf16") | {"references": "*fp32"}
    whole = dict.fromkeys(set(attend.arg_names) - constants.keys(), "i32") | types
    assert built_for_a_gpu(attend, whole, constants, num_warps=2)


@pytest.mark.gpu
def test_on_a_gpu_the_kernel_gives_what_the_plain_formula_gives():
    from deformable_checks import check

    check("cuda")
