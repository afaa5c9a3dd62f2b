"""The kernel of deformable attention: interpreted anywhere, and on a GPU where there is one."""

from __future__ import annotations

import pytest


def test_interpreted_the_kernel_gives_what_the_plain_formula_gives(interpreted):
    assert interpreted("deformable_checks") == ""


def test_it_compiles_for_a_gpu_that_is_not_here(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.models.kernels.deformable import attend

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
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
    signature = {
        name: "constexpr" if name in constants else types.get(name, "i32")
        for name in attend.arg_names
    }
    known = {(attend.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(attend, signature, known)
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options={"num_warps": 2})
    assert built.asm["cubin"]


@pytest.mark.gpu
def test_on_a_gpu_the_kernel_gives_what_the_plain_formula_gives():
    from deformable_checks import check

    check("cuda")
