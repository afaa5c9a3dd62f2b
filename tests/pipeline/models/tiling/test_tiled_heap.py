from __future__ import annotations

import ctypes
import subprocess
import sys
from pathlib import Path

import pytest

from pipeline.models.tiling.tiled import give_back

ROOT = Path(__file__).resolve().parents[4]
GROW = """
from pipeline.models.tiling.tiled import give_back
def resident():
    return int(open("/proc/self/statm").read().split()[1]) * 4096
kept = []
for _ in range(3000):
    passing = [bytes(1000) for _ in range(50)]
    kept.append(bytes(100))
    del passing[::2]
    kept.append(passing)

for index in range(1, len(kept), 2):
    kept[index] = None

before = resident()
give_back()
print(before - resident())
"""


@pytest.mark.skipif(not hasattr(ctypes.CDLL(None), "malloc_trim"), reason="needs glibc")
def test_memory_between_lasting_blocks_is_given_back():
    done = subprocess.run(
        [sys.executable, "-c", GROW], cwd=ROOT, capture_output=True, text=True, check=True
    )
    (given,) = map(int, done.stdout.split())
    assert given > 30_000_000


def test_other_c_libraries_have_nothing_to_give(monkeypatch):
    monkeypatch.setattr(ctypes, "CDLL", lambda name: object())
    give_back()
