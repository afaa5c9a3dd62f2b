"""Python's share of a worker: CPU a picture with the interpreter's lock held, without a model.

The whole way of all shards is run in one process over JPEGs of 640x480 with EXIF, in loose files
and in a tar, with a model that finds the same few segments in every picture at no cost. From the
CPU time of all threads goes what is done without the lock: libjpeg-turbo's decoding, SHA-256,
Arrow's writing of Parquet, and the system's reading of files (as long as the bare system calls
take). What is left holds the lock: a process never does it on two cores at a time. Once in one
thread, and once as a worker runs it, whose reading threads disturb one another's caches. The steps
are timed in the threads that run them, less the same; the rest is queues and bookkeeping.

    python -m bench.worker [--pictures 2000] [--segments 4] [--rounds 3]
"""

from __future__ import annotations

import argparse
import io
import os
import pkgutil
import tarfile
import tempfile
import threading
import time
from collections import defaultdict
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any
from unittest.mock import patch

import cv2
import numpy as np
from PIL import Image

from pipeline.engine.execute import run_inline
from pipeline.engine.plan import Works, make_plan
from pipeline.engine.progress import RunProgress
from pipeline.engine.worker import ShardWorker
from pipeline.ledger.reuse import EMPTY_INDEX
from pipeline.masks.codec import encode
from schemas.config.job import JobConfig
from schemas.manifest import ShardReceipt
from schemas.records import Sample, Segment, Segmentation

FREE = (
    "pipeline.images.jpeg.simplejpeg.decode_jpeg",
    "pipeline.engine.prepare.sha256_of",
    "pipeline.ledger.parts.pq.write_table",
)
"""Calls that let other threads run while they work."""
STEPS = {
    "read": "pipeline.engine.prepare.read_contents",
    "decode": "pipeline.engine.prepare.decode_image",
    "(EXIF)": "pipeline.images.jpeg._orientation",
    "rows": "pipeline.engine.worker.ShardWorker._rows",
    "part": "pipeline.engine.worker.write_part",
}
SIZE_HW = 480, 640


class SameDiscs:
    """A model that finds the same discs in every picture."""

    def __init__(self, segments: int) -> None:
        masks = [np.zeros(SIZE_HW, np.uint8) for _ in range(segments)]
        for n, mask in enumerate(masks):
            cv2.circle(mask, (60 + 40 * n % 500, 240), 20, 1, -1)
        self._found = tuple(
            Segment(2, encode(mask), int(mask.sum()), (40 + 40 * n % 500, 220, 41, 41), 0.5)
            for n, mask in enumerate(masks)
        )

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """See `Segmenter`."""
        return [Segmentation(*sample.picture_hw, self._found) for sample in batch]

    def close(self) -> None:
        """See `Segmenter`."""


class Clock:
    """CPU seconds of calls by name, without those of free calls inside of them."""

    def __init__(self) -> None:
        self.seconds: defaultdict[str, float] = defaultdict(float)
        self._own = threading.local()

    def timed(self, name: str, call: Callable[..., Any]) -> Callable[..., Any]:
        """The same call, timed."""

        def run(*args: Any, **options: Any) -> Any:
            free, start = getattr(self._own, "free", 0.0), time.thread_time()
            try:
                return call(*args, **options)
            finally:
                took = time.thread_time() - start
                if name == "free":
                    self._own.free = free + took
                else:
                    took -= getattr(self._own, "free", 0.0) - free
                self.seconds[name] += took

        return run


def main() -> None:
    """Prints a line for each kind of input."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--pictures", type=int, default=2000)
    parser.add_argument("--segments", type=int, default=4)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory(prefix="bench-worker-") as name:
        work = Path(name)
        write_pictures(work, options.pictures)
        for kind in ("loose", "tar"):
            for threads in (False, True):
                rounds = [
                    held(work / kind, work / f"{kind}-{threads}-{n}", options.segments, threads)
                    for n in range(options.rounds)
                ]
                total, steps = min(rounds, key=lambda one: one[0])
                said = ", ".join(f"{step} {took:.0f}" for step, took in steps.items())
                way = "its threads" if threads else "one thread"
                print(
                    f"{kind:>5}, {way:>11}: {total:4.0f} µs with the lock held: {said}", flush=True
                )


def write_pictures(work: Path, count: int) -> None:
    """JPEGs with the EXIF of a camera, loose and in a tar."""
    rng = np.random.default_rng(0)
    kinds = []
    for _ in range(8):
        noise = rng.normal(128, 60, (*SIZE_HW, 3)).astype(np.float32)
        soft = (cv2.GaussianBlur(noise, (0, 0), 2) * 4 - 384).clip(0, 255).astype(np.uint8)
        image, buffer = Image.fromarray(soft), io.BytesIO()
        exif = image.getexif()
        exif.update({0x10F: "Maker", 0x110: "Camera", 0x112: 1, 0x131: "1.0"})
        exif.get_ifd(0x8769).update({0x829A: 0.01, 0x829D: 2.8, 0x8827: 100, 0x927C: bytes(999)})
        image.save(buffer, "JPEG", quality=90, exif=exif)
        kinds.append(buffer.getvalue())
    for folder in ("loose", "tar"):
        (work / folder).mkdir()
    with tarfile.open(work / "tar" / "pictures.tar", "w") as tar:
        for n in range(count):
            data = kinds[n % len(kinds)]
            (work / "loose" / f"{n:06d}.jpg").write_bytes(data)
            info = tarfile.TarInfo(f"{n:06d}.jpg")
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    print(f"{count} JPEGs of {sum(map(len, kinds)) / 8e3:.0f} kB with EXIF")


def held(source: Path, out: Path, segments: int, threads: bool) -> tuple[float, dict[str, float]]:
    """µs of CPU a picture with the lock held: all, and by step."""
    config = JobConfig.parse(
        {
            "input": {"uri": str(source)},
            "output": str(out),
            "model": {"name": "otsu"},
            "task": "instance",
            "execution": {"inline": True},
        }
    )
    plan = make_plan(config, RunProgress())
    clock, receipts = Clock(), list[ShardReceipt]()
    with ExitStack() as stack:
        for target in FREE:
            stack.enter_context(_timed(clock, "free", target))
        for name, target in STEPS.items():
            stack.enter_context(_timed(clock, name, target))
        model = SameDiscs(segments)
        stack.enter_context(patch("pipeline.engine.worker.load_model", lambda *_: model))
        works = Works(plan.listing, plan.shards)
        start = time.process_time()
        if threads:
            run_inline(plan.spec, EMPTY_INDEX, works, receipts.append)
        else:
            worker = ShardWorker(plan.spec)
            for one in works:
                receipts.append(worker.run(one, map(worker.preparer.prepare, one.records)))
        took = time.process_time() - start
    count = len(plan.listing)
    if sum(one.part.annotations for one in receipts) != count * segments:
        raise RuntimeError("not every picture was labelled")
    system = _bare_reads(source, count)
    clock.seconds["read"] -= system
    rest = took - clock.seconds.pop("free") - system
    return rest / count * 1e6, {name: clock.seconds[name] / count * 1e6 for name in STEPS}


def _timed(clock: Clock, name: str, target: str) -> Any:
    return patch(target, clock.timed(name, pkgutil.resolve_name(target)))


def _bare_reads(source: Path, count: int) -> float:
    """CPU seconds of the system calls alone that read as many pictures."""
    paths = sorted(source.iterdir())
    sizes = [path.stat().st_size // (count // len(paths)) for path in paths]
    start = time.thread_time()
    for n in range(count):
        at = n * len(paths) // count
        file = os.open(paths[at], os.O_RDONLY)
        os.pread(file, sizes[at], 0)
        os.close(file)
    return time.thread_time() - start


if __name__ == "__main__":
    main()
