"""Thin command-line programs: parse, call, exit code. Run as `python -m jobs.<name>`."""

import os
import signal
import sys
from typing import Any


def _early(_signal: int, _frame: Any) -> None:
    """A signal while a program's imports take their seconds: there is nothing to finish yet."""
    os.write(2, b"interrupted before it began; the same command goes on\n")
    os._exit(3)  # as jobs.console has it for what is interrupted, which is not imported yet


# So Python names a program while it looks for it, and imports this package on the way.
if sys.argv[:1] == ["-m"]:
    for _number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(_number, _early)
