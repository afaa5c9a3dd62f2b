"""One process with Triton's interpreter for all checks of kernels of a test session."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest
from source_tree import ROOT

# Each line that comes in names a module; what goes out is the trace of its failure, or nothing.
_PROGRAM = """
import importlib, json, sys, traceback
for line in sys.stdin:
    try:
        importlib.import_module(line.strip()).check("cpu")
        told = ""
    except Exception:
        told = traceback.format_exc()
    print(json.dumps(told), flush=True)
"""


@pytest.fixture(scope="session")
def interpreted() -> Iterator[Callable[[str], str]]:
    """Runs `check("cpu")` of a module of tests/support; the trace of its failure, "" = none.

    In a process of its own: Triton decides when it is imported whether it interprets.
    """
    paths = (str(ROOT / "tests" / "support"), str(ROOT))
    environment = os.environ | {
        "TRITON_INTERPRET": "1",
        "PYTHONPATH": os.pathsep.join(paths),
        "OMP_NUM_THREADS": "1",
    }
    process = subprocess.Popen(
        [sys.executable, "-c", _PROGRAM],
        env=environment,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdin is not None
    assert process.stdout is not None
    into, out = process.stdin, process.stdout

    def check(module: str) -> str:
        print(module, file=into, flush=True)
        return json.loads(out.readline() or '"the interpreter died"')

    try:
        yield check
    finally:
        into.close()
        process.wait(20)
