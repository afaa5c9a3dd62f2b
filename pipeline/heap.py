"""Gives freed memory back to the system."""

from __future__ import annotations

import ctypes


def give_back() -> None:
    """Returns pages of the C library's heap that nothing uses.

    glibc keeps freed blocks that lie below one that lives on. Where large passing arrays take turns
    with small lasting results, a process grows by gigabytes that it does not use. Other C libraries
    have no such call, and nothing happens.
    """
    try:
        trim = ctypes.CDLL(None).malloc_trim
    except (OSError, AttributeError, TypeError):
        return
    trim(0)
