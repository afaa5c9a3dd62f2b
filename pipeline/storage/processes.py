"""Processes of this machine: which are alive, and which one a temporary file belongs to."""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import socket
import time
from functools import cache
from pathlib import Path

_TEMPORARY = re.compile(r"\.(?:.+)\.(\d+)-([0-9a-f]{8})([0-9a-f]{8})?\.tmp")
_SILENT_S = 3600.0
"""A temporary file of another machine that has not grown for so long is nobody's any more."""


def process_lives(pid: int) -> bool:
    """Whether a process of this machine runs; one that ended and that nobody waited for does not.

    In containers whose first process waits for nobody, a killed run's child stays a zombie.
    """
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    status = _status(pid)
    return not status or status[0] not in "ZX"


def process_born(pid: int) -> str:
    """When a process started, in clock ticks since the machine did: pids are given out again.

    "" where it is gone, or the system does not say.
    """
    status = _status(pid)
    return status[19] if status else ""


def _status(pid: int) -> list[str]:
    """The fields of /proc/PID/stat from the state on; none where there is no such file."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text(encoding="utf-8", errors="replace")
    except OSError:
        return []
    return text.rpartition(")")[2].split()


def temporary_name(name: str) -> str:
    """A hidden name beside `name` that says which process writes it, on which machine."""
    # Short whatever the file is called: a name may be 255 bytes long, and so may this one.
    start = os.fsencode(name)[:100].decode(errors="ignore")
    return f".{start}.{os.getpid()}-{_host()}{secrets.token_hex(4)}.tmp"


def is_temporary(name: str) -> bool:
    """Whether a name is one that `temporary_name` gives."""
    return _TEMPORARY.fullmatch(name) is not None


def is_abandoned(name: str, modified: float) -> bool:
    """Whether a file is one of our temporary ones whose process is gone.

    Args:
        name: Of the file, without its folder.
        modified: When it was last written, seconds of the epoch.
    """
    found = _TEMPORARY.fullmatch(name)
    if found is None:
        return False
    if found[3] and found[2] == _host():
        return not process_lives(int(found[1]))
    return time.time() - modified > _SILENT_S


@cache
def _host() -> str:
    return hashlib.sha256(socket.gethostname().encode()).hexdigest()[:8]
