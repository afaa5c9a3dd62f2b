"""How the suite is dealt out to the processes of pytest-xdist, where it runs in several.

The tests of a file stay together, as they share what is made once for the file; all that use the
Ray cluster stay together, as there is one.
"""

from __future__ import annotations

import os
from functools import cache
from pathlib import Path
from typing import Any

import pytest
from xdist.scheduler.loadscope import LoadScopeScheduling

ROOT = Path(__file__).resolve().parents[2]


def pytest_configure(config: pytest.Config) -> None:
    """The processes share the processors: torch and its like are imported after this."""
    processes = int(os.environ.get("PYTEST_XDIST_WORKER_COUNT", "1"))
    if processes > 1:
        threads = max((os.cpu_count() or 1) // processes, 1)
        os.environ.setdefault("OMP_NUM_THREADS", str(threads))


def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> ByFile:
    """In the order of the folders: the long tests come first, the last file is a short one."""
    config.option.loadscopereorder = False
    return ByFile(config, log)


class ByFile(LoadScopeScheduling):
    """Gives a process a file, or all files of the Ray cluster, at a time."""

    def _split_scope(self, nodeid: str) -> str:
        return _group(nodeid.partition("::")[0])


@cache
def _group(file: str) -> str:
    return "ray" if "ray_cluster" in (ROOT / file).read_text("utf-8") else file
