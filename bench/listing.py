"""Listing many files: ours against glob and fsspec's find, in time and memory.

Each runs in a fresh process over the same tree and gives path, size and a token of every file.
Memory is Python's own peak (tracemalloc), taken in a second run, because tracing slows.

    python -m bench.listing [--files N] [--flat]
"""

from __future__ import annotations

import argparse
import glob
import io
import multiprocessing
import os
import tarfile
import tempfile
import time
import tracemalloc
from collections.abc import Callable
from pathlib import Path

import fsspec

from pipeline.readers import open_reader
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig


def main() -> None:
    """Prints one line a way of listing, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--flat", action="store_true", help="one folder instead of 1,000 a folder")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for n in range(options.files):
            folder = Path(root, "tree" if options.flat else f"tree/{n // 1000:05d}")
            if n % 1000 == 0:
                folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(folder / f"{n:08d}.jpg", os.O_CREAT | os.O_WRONLY))
        compare(str(Path(root, "tree")), {"ours": _ours, "glob": _glob, "fsspec find": _find})
        tar = str(Path(root, "empty.tar"))
        with tarfile.open(tar, "w") as archive:
            for n in range(options.files):
                archive.addfile(tarfile.TarInfo(f"{n:08d}.jpg"), io.BytesIO())
        compare(tar, {"our tar": _our_tar, "getmembers": _getmembers})


def compare(target: str, ways: dict[str, Callable[[str], int]]) -> None:
    """Times every way of listing `target`; the first one is ours."""
    times, peaks = {}, {}
    for name, list_it in ways.items():
        count, times[name], _ = _fresh(list_it, target, False)
        _, _, peaks[name] = _fresh(list_it, target, True)
        print(
            f"{name:>12}: {count} files, {times[name]:6.2f} s, +{peaks[name]:7.1f} MB", flush=True
        )
    ours, *peers = ways
    for peer in peers:
        faster, smaller = times[peer] / times[ours], peaks[peer] / peaks[ours]
        print(f"{peer} / ours: {faster:.2f}x the time, {smaller:.0f}x the memory")


def _fresh(list_it: Callable[[str], int], target: str, trace: bool) -> tuple[int, float, float]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_measure, (list_it, target, trace))


def _measure(list_it: Callable[[str], int], target: str, trace: bool) -> tuple[int, float, float]:
    list_it(os.path.dirname(__file__) if os.path.isdir(target) else target)  # imports, page cache
    if trace:
        tracemalloc.start()
    start = time.perf_counter()
    count = list_it(target)
    seconds = time.perf_counter() - start
    return count, seconds, tracemalloc.get_traced_memory()[1] / 1e6 if trace else 0.0


def _ours(root: str) -> int:
    return sum(1 for _ in Storage().list(root))


def _glob(root: str) -> int:
    found = []
    for path in sorted(glob.glob(os.path.join(root, "**"), recursive=True)):
        stat = os.stat(path)
        if os.path.isfile(path):
            found.append((path, stat.st_size, stat.st_mtime_ns))
    return len(found)


def _find(root: str) -> int:
    return len(fsspec.filesystem("file").find(root, detail=True))


def _our_tar(path: str) -> int:
    return sum(1 for _ in open_reader(InputConfig(uri=path)).list())


def _getmembers(path: str) -> int:
    with tarfile.open(path, "r:") as tar:
        return len([(member.name, member.offset_data, member.size) for member in tar.getmembers()])


if __name__ == "__main__":
    main()
