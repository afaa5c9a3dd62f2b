"""Listing many files: ours against glob, fsspec's find and tarfile, in time and memory.

Each runs in a fresh process over the same tree and gives path, size and a token of every file.
Memory is Python's own peak (tracemalloc), taken in a second run, because tracing slows. Then what a
run plans with (`Listing` and its shards: CPU seconds and the process's peak) over loose files, and
over as many images in tars and in Parquet files of a thousand (hard links of one), for the first
time and with what was listed kept; and what listing a remote one costs in requests and bytes.

    python -m bench.listing [--files N] [--flat] [--plans]
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
from typing import Any

import fsspec
import pyarrow as pa
import pyarrow.parquet as pq

from pipeline.engine.shards import Listing
from pipeline.readers import open_reader
from pipeline.storage.storage import Storage
from schemas.config.job import InputConfig


def main() -> None:
    """Prints one line a way of listing, then the ratios."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--files", type=int, default=100_000)
    parser.add_argument("--flat", action="store_true", help="one folder instead of 1,000 a folder")
    parser.add_argument("--plans", action="store_true", help="no peers and no remote tars")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as root:
        for n in range(options.files):
            folder = Path(root, "tree" if options.flat else f"tree/{n // 1000:05d}")
            if n % 1000 == 0:
                folder.mkdir(parents=True, exist_ok=True)
            os.close(os.open(folder / f"{n:08d}.jpg", os.O_CREAT | os.O_WRONLY))
        if not options.plans:
            compare(str(Path(root, "tree")), {"ours": _ours, "glob": _glob, "fsspec find": _find})
            tar = str(Path(root, "empty.tar"))
            write_tar(tar, options.files)
            compare(tar, {"our tar": _our_tar, "getmembers": _getmembers})
        plan("loose files", str(Path(root, "tree")))
        for kind, write in (("tar", write_tar), ("parquet", write_table)):
            folder = Path(root, kind)
            folder.mkdir()
            write(str(folder / f"00000.{kind}"), 1000)
            for n in range(1, options.files // 1000):
                os.link(folder / f"00000.{kind}", folder / f"{n:05d}.{kind}")
            plan(kind, str(folder))
            plan(f"{kind}, kept", str(folder), kept=str(Path(root, "kept", kind)))
        for size in () if options.plans else (20_000, 100_000, 400_000, 2_000_000):
            for kind in ("tar", "parquet"):
                remote(kind, size)


def write_tar(path: str, members: int) -> None:
    """Images without bytes."""
    with tarfile.open(path, "w") as archive:
        for n in range(members):
            archive.addfile(tarfile.TarInfo(f"{n:08d}.jpg"), io.BytesIO())


def write_table(path: str, rows: int) -> None:
    """Images of a byte, with a name each."""
    images = [{"bytes": b"1", "path": f"{n:08d}.jpg"} for n in range(rows)]
    pq.write_table(pa.table({"image": pa.array(images)}), path, row_group_size=100)


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


def plan(name: str, target: str, *, kept: str = "") -> None:
    """Prints what planning a run over `target` costs; with `kept` the second time."""
    if kept:
        _plan_apart(target, kept)
    count, seconds, peak, held, whole = _plan_apart(target, kept)
    print(
        f"plan of {name:>13}: {seconds / count * 1e6:5.2f} µs CPU a picture, peak +"
        f"{peak / count:4.0f} B a picture, {held / count:3.0f} B of them in Arrow;"
        f" {seconds:.2f} s and {whole / 1e6:.0f} MB in all",
        flush=True,
    )


def _plan_apart(target: str, kept: str) -> tuple[int, float, int, int, int]:
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_plan, (target, kept))


def _plan(target: str, kept: str) -> tuple[int, float, int, int, int]:
    before = _peak()
    start = time.process_time()
    listing = Listing.of(open_reader(InputConfig(uri=target), kept=kept).batches())
    listing.shards(run="bench")
    seconds = time.process_time() - start
    return len(listing), seconds, _peak() - before, listing.table.nbytes, _peak()


def _peak() -> int:
    """Bytes of this process at their most. Not `getrusage`, whose figure survives an exec."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0]) * 1024


def remote(kind: str, size: int) -> None:
    """Prints the requests and bytes of listing 200 images of `size` bytes in a tar or table."""
    write = tar_of if kind == "tar" else table_of
    data, store, asked = write(200, size), Storage(), list[int]()
    store.write(f"memory://{kind}{size}/in/one.{kind}", data)
    fetch = Storage._read

    def counting(self: Storage, uri: str, offset: int, length: int | None) -> bytes:
        data = fetch(self, uri, offset, length)
        asked.append(len(data) if uri.endswith(kind) else 0)
        return data

    Storage._read = counting
    said = []
    for _ in ("cold", "kept"):
        asked.clear()
        config = InputConfig(uri=f"memory://{kind}{size}/in")
        list(open_reader(config, store, kept=f"memory://{kind}{size}/kept").batches())
        ranges = [count for count in asked if count]
        said.append(f"{len(ranges)} requests, {sum(ranges) / 1e6:.2f} MB")
    Storage._read = fetch
    total = len(data) / 1e6
    print(f"remote {kind}, 200 x {size:>9,} B = {total:4.0f} MB: {said[0]}; kept: {said[1]}")


def tar_of(members: int, size: int) -> bytes:
    """A tar of members of zeros."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as tar:
        for n in range(members):
            info = tarfile.TarInfo(f"{n:06d}.jpg")
            info.size = size
            tar.addfile(info, io.BytesIO(bytes(size)))
    return buffer.getvalue()


def table_of(rows: int, size: int) -> bytes:
    """A Parquet file of images of zeros that nobody compressed, in row groups of 50."""
    buffer = io.BytesIO()
    images = [{"bytes": bytes(size), "path": f"{n:06d}.jpg"} for n in range(rows)]
    plain: dict[str, Any] = {"compression": "none", "use_dictionary": False}
    pq.write_table(pa.table({"image": pa.array(images)}), buffer, row_group_size=50, **plain)
    return buffer.getvalue()


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
