"""Builds Triton kernels for a GPU that is not here, as the interpreter is lenient with types."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pytest


def built_for_a_gpu(
    kernel: Any, types: Mapping[str, str], constants: Mapping[str, Any], **options: Any
) -> bool:
    """Whether machine code came of it.

    Args:
        kernel: A function under `triton.jit`.
        types: Of the arguments that it is launched with.
        constants: The others.
        options: Of the compiler.
    """
    import triton
    from triton.backends.compiler import GPUTarget
    from triton.compiler import ASTSource

    names = list(kernel.arg_names)
    assert set(names) == types.keys() | constants.keys()
    signature = {name: types.get(name, "constexpr") for name in names}
    known = {(names.index(name),): value for name, value in constants.items()}
    source = ASTSource(kernel, signature, known)
    built = triton.compile(source, target=GPUTarget("cuda", 90, 32), options=options or None)
    return bool(built.asm["cubin"])


@pytest.fixture
def own_kernel_cache(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing that was built before is taken for what is built now."""
    monkeypatch.setenv("TRITON_CACHE_DIR", str(tmp_path))
