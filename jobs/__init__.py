"""Thin command-line programs: parse, call, exit code. Run as `python -m jobs.<name>`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

if sys.argv[:1] == ["-m"]:  # so it is while Python looks for the job, whose imports take seconds

    def _early(_signal: int, _frame: Any) -> None:
        os.write(2, b"interrupted before it began; the same command goes on\n")
        os._exit(3)

    for _number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(_number, _early)
