"""The kernel of attention in windows: interpreted anywhere, and on a GPU where there is one."""

from __future__ import annotations

import pytest


def test_interpreted_it_gives_what_the_plain_formula_gives(interpreted):
    assert interpreted("windows_checks") == ""


def test_it_compiles_for_a_gpu_that_is_not_here(tmp_path, monkeypatch):
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    from pipeline.models.kernels.windows import attend_some

    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
    constants = {"heads": 6, "channels": 32, "tokens": 49, "side": 7, "shift": 3, "size": 64}
    types = dict.fromkeys(("queries", "keys", "values", "biases", "answer"), "*bf16")
    types |= {"scale": "fp32", "height": "i32", "width": "i32"}
    signature = {name: types.get(name, "constexpr") for name in attend_some.arg_names}
    known = {(attend_some.arg_names.index(name),): value for name, value in constants.items()}
    source = ASTSource(attend_some, signature, known)
    assert triton.compile(source, target=GPUTarget("cuda", 90, 32)).asm["cubin"]


@pytest.mark.gpu
def test_on_a_gpu_it_gives_what_the_plain_formula_gives():
    from windows_checks import check

    check("cuda")
