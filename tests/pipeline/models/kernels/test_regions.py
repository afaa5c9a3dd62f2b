"""The kernel of RoIAlign: interpreted anywhere, and on a GPU where there is one."""

from __future__ import annotations

import pytest


def test_interpreted_it_gives_what_torchvision_gives(interpreted):
    assert interpreted("regions_checks") == ""


def test_it_compiles_for_a_gpu_that_is_not_here(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.models.kernels.regions import cut_row

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"level": 1, "last": 3, "channels": 256, "side": 7}
    types = {"cells": "*bf16", "boxes": "*fp32", "pictures": "*i32", "answer": "*bf16"}
    types |= {"height": "i32", "width": "i32", "scale": "fp32"}
    signature = {name: types.get(name, "constexpr") for name in cut_row.arg_names}
    known = {(cut_row.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(cut_row, signature, known)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


@pytest.mark.gpu
def test_on_a_gpu_it_gives_what_torchvision_gives():
    from regions_checks import check

    check("cuda")
