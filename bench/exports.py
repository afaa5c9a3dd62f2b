"""Peak memory and time of exports: 100,000 masks on 2,000 images, each format in its own process.

Memory is the peak over what the process had after an export of ten images, so that imports and
thread pools do not count. The pictures that yolo and coco-flat carry along are links to one TIFF.

    python -m bench.exports [--annotations 100000] [FORMAT …]
"""

from __future__ import annotations

import argparse
import gc
import multiprocessing
import os
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np

from bench.coco_json import HEIGHT, PER_IMAGE, THINGS, WIDTH, made_images
from pipeline.exporters import export
from pipeline.ledger.ledger import Ledger, open_ledger, publish, write_dataset

FORMATS = ("coco-instances", "coco-polygons", "csv", "label-studio", "cvat", "geojson", "yolo-seg")
_WARM = 10 * PER_IMAGE


def main() -> None:
    """Prints a line a format."""
    parser = argparse.ArgumentParser(description="Memory and time of exports")
    parser.add_argument("formats", nargs="*", default=FORMATS)
    parser.add_argument("--annotations", type=int, default=100_000)
    args = parser.parse_args()
    context = multiprocessing.get_context("spawn")
    with tempfile.TemporaryDirectory() as folder:
        for name, count in (("small", _WARM), ("whole", args.annotations)):
            _dataset(Path(folder) / name, count // PER_IMAGE)
        for name in args.formats:
            answers = context.Queue()
            process = context.Process(target=_measure, args=(name, folder, answers))
            process.start()
            seconds, memory = answers.get(timeout=3600)
            process.join()
            rate = args.annotations / seconds
            print(
                f"{name:>16}: {seconds:6.1f} s, {rate:8,.0f} masks/s, +{memory:.0f} MB", flush=True
            )


def _dataset(folder: Path, images: int) -> Ledger:
    """The dataset, and its pictures in a folder beside."""
    ledger = write_dataset(str(folder), made_images(images), categories=THINGS, task="instance")
    source = folder.with_name(f"{folder.name}-input")
    source.mkdir()
    cv2.imwrite(str(source / "one.tif"), np.full((HEIGHT, WIDTH), 90, np.uint8))
    for table in ledger.images(["file_name"]):
        for name in table["file_name"].to_pylist():
            path = source / name
            path.parent.mkdir(exist_ok=True)
            os.link(source / "one.tif", path)
    manifest = replace(ledger.manifest, config={"input": {"uri": str(source)}})
    Path(ledger.uri, "manifest.json").unlink()
    return Ledger(ledger.uri, publish(ledger.storage, ledger.uri, manifest), ledger.storage)


def _measure(name: str, folder: str, answers: multiprocessing.Queue) -> None:
    export(open_ledger(f"{folder}/small"), name, f"{folder}/out-small-{name}")
    ledger = open_ledger(f"{folder}/whole")
    gc.collect()
    Path("/proc/self/clear_refs").write_text("5")  # the peak begins anew
    before = _peak()
    start = time.perf_counter()
    export(ledger, name, f"{folder}/out-{name}")
    answers.put((time.perf_counter() - start, (_peak() - before) / 1024))


def _peak() -> int:
    """Highest resident memory, KiB."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1])


if __name__ == "__main__":
    main()
