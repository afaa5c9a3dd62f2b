"""The cache that prefetch threads share."""

from __future__ import annotations

import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor

import pytest

from pipeline.readers.shared_cache import SharedCache


def test_one_thread_loads_for_all():
    cache, loads = SharedCache[bytes](1000, len), Counter()
    gate = threading.Barrier(8)

    def load():
        loads["a"] += 1
        time.sleep(0.05)
        return b"value"

    def ask(_):
        gate.wait()
        return cache.get("a", load)

    with ThreadPoolExecutor(8) as pool:
        assert set(pool.map(ask, range(8))) == {b"value"}
    assert loads["a"] == 1


def test_it_stays_within_its_bytes_and_forgets_the_oldest():
    cache, loads = SharedCache[bytes](30, len), []

    def get(key):
        return cache.get(key, lambda: loads.append(key) or key.encode() * 10)

    for key in "abcadab":
        assert get(key) == key.encode() * 10
    assert "".join(loads) == "abcdb"  # d pushed out b; a had been used since
    assert cache.get("big", lambda: b"x" * 99) == b"x" * 99
    assert cache.get("big", lambda: b"") == b"x" * 99  # the newest stays, however large
    assert get("a") == b"a" * 10
    assert loads[-1] == "a"


def test_a_failure_is_not_remembered():
    cache = SharedCache[bytes](10, len)

    def fail():
        raise OSError("gone")

    with pytest.raises(OSError, match="gone"):
        cache.get("a", fail)
    assert cache.get("a", lambda: b"back") == b"back"
