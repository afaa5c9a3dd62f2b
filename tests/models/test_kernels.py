"""The Triton kernels: interpreted on any machine, and on a GPU where there is one."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

HERE = Path(__file__).parent


def test_interpreted_they_give_what_the_plain_way_gives():
    """In a process of its own: Triton decides when it is imported whether it interprets."""
    paths = (str(HERE), str(HERE.parent.parent))
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
    }
    done = subprocess.run(
        [sys.executable, "-m", "kernel_checks"],
        cwd=HERE,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an accelerator")
def test_on_a_gpu_they_give_what_the_plain_way_gives():
    from kernel_checks import check

    check("cuda")
