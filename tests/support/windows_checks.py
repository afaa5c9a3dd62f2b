"""What the kernel of attention in windows gives is what the plain formula gives.

`test_windows` calls `check`: with a CPU under Triton's interpreter, with a GPU where there is one.
"""

from __future__ import annotations

import torch

from pipeline.models.kernels.windows import attend_windows
from pipeline.models.network.windows import attention_in_windows


def check(device: str) -> None:
    """Windows that fit into a block of tokens and one that takes three, plain and shifted."""
    torch.manual_seed(0)
    tolerances = {torch.float32: 1e-5, torch.float16: 3e-3, torch.bfloat16: 2e-2}
    types = list(tolerances)[: 2 if device == "cpu" else 3]  # the interpreter knows no bfloat16
    for dtype in types:
        for side, shift, across in ((7, 3, 2), (3, 0, 1), (12, 6, 1)):
            hw = (2 * side, across * side)
            shape = 2 * 2 * across, side**2, 2 * 16  # two pictures, two heads
            q, k, v = (torch.randn(shape, device=device).to(dtype) for _ in range(3))
            biases = torch.randn(2, side**2, side**2, device=device).to(dtype)
            exact = [each.float() for each in (q, k, v, biases)]
            wanted = attention_in_windows(
                exact[0], exact[1], exact[2], exact[3], side, shift, hw[0], hw[1]
            )
            found = attend_windows(q, k, v, biases, side=side, shift=shift, hw=hw)
            error = float((found.float() - wanted).norm() / wanted.norm())
            if not error < tolerances[dtype]:
                raise AssertionError(f"{device} {side} {shift} {dtype}: {error}")
