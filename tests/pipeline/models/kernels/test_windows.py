"""The kernel of attention in windows: interpreted anywhere, and on a GPU where there is one."""

from __future__ import annotations

import pytest
from kernel_builds import built_for_a_gpu


def test_interpreted_it_gives_what_the_plain_formula_gives(interpreted):
    assert interpreted("windows_checks") == ""


@pytest.mark.usefixtures("own_kernel_cache")
def test_it_compiles_for_a_gpu_that_is_not_here():
    from pipeline.models.kernels.windows import attend_some

    constants = {"heads": 6, "channels": 32, "tokens": 49, "side": 7, "shift": 3, "size": 64}
    types = dict.fromkeys(("queries", "keys", "values", "biases", "answer"), "*bf16")
    types |= {"scale": "fp32", "height": "i32", "width": "i32"}
    assert built_for_a_gpu(attend_some, types, constants)


@pytest.mark.gpu
def test_on_a_gpu_it_gives_what_the_plain_formula_gives():
    from windows_checks import check

    check("cuda")
