"""What the kernel of attention in windows gives is what the plain formula gives.

Run as a program under TRITON_INTERPRET=1 it checks it on a CPU; `test_windows` calls `check` with
a GPU where there is one.
"""

from __future__ import annotations

import torch

from pipeline.models.kernels.windows import attend_windows
from pipeline.models.network.windows import attention_in_windows


def check(device: str, types: tuple[torch.dtype, ...]) -> None:
    """Windows that fit into a block of tokens and one that takes three, plain and shifted."""
    torch.manual_seed(0)
    tolerances = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
    for dtype in types:
        for side, shift, across in ((7, 3, 2), (3, 0, 1), (12, 6, 1)):
            hw = (2 * side, across * side)
            shape = 2 * 2 * across, side**2, 2 * 16  # two pictures, two heads
            parts = [torch.randn(shape, device=device).to(dtype) for _ in range(3)]
            biases = torch.randn(2, side**2, side**2, device=device).to(dtype)
            given = [each.float() for each in (*parts, biases)]
            wanted = attention_in_windows(*given, side, shift, *hw)
            found = attend_windows(*parts, biases, side=side, shift=shift, hw=hw)
            error = float((found.float() - wanted).norm() / wanted.norm())
            if not error < tolerances[dtype]:
                raise AssertionError(f"{device} {side} {shift} {dtype}: {error}")


if __name__ == "__main__":
    check("cpu", (torch.float32, torch.float16))  # the interpreter's products know no bfloat16
