"""The kernel of suppression: interpreted anywhere, and on a GPU where there is one."""

from __future__ import annotations

import pytest


def test_interpreted_it_keeps_what_torchvision_keeps(interpreted):
    assert interpreted("suppress_checks") == ""


def test_it_compiles_for_a_gpu_that_is_not_here(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.models.kernels.suppress import suppress_group

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    types = {"boxes": "*fp32", "alive": "*i8", "threshold": "fp32", "count": "i32"}
    signature = {name: types.get(name, "constexpr") for name in suppress_group.arg_names}
    source = ASTSource(suppress_group, signature, {(4,): 1024})
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


@pytest.mark.gpu
def test_on_a_gpu_it_keeps_what_torchvision_keeps():
    from suppress_checks import check

    check("cuda")
