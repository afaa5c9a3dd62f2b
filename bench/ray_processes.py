"""Finds the processes of a Ray's actors, to kill them."""

from __future__ import annotations

from collections import defaultdict
from contextlib import suppress
from pathlib import Path


def actors_below(root: int) -> list[int]:
    """Processes of Ray's actors that descend from one."""
    return [pid for pid in _below(root) if _runs_actor(pid)]


def _below(root: int) -> set[int]:
    """Processes that descend from one."""
    children: defaultdict[int, list[int]] = defaultdict(list)
    for entry in Path("/proc").iterdir():
        if entry.name.isdigit():
            with suppress(OSError):
                after_name = (entry / "stat").read_text().rpartition(")")[2]
                children[int(after_name.split()[1])].append(int(entry.name))
    found, open_ = set[int](), [root]
    while open_:
        new = children[open_.pop()]
        found.update(new)
        open_ += new
    return found


def _runs_actor(pid: int) -> bool:
    """Ray names a process after what it runs."""
    with suppress(OSError):
        return Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"ray::_Actor")
    return False
