"""COCO JSON of a million annotations: our streamed export against `json.dump`.

Ours reads the ledger's Parquet and writes the file; the peer gets its Python objects for free and
only its `json.dump` is timed. Chunked orjson from rows of the ledger is shown for comparison.
Ours may use two threads, so processor time is shown beside wall time. Memory is the peak of a
fresh process over what it had after its imports.

    python -m bench.coco_json [--annotations N]
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import orjson

from pipeline.exporters.coco_instances import CocoInstances
from pipeline.ledger.ledger import Ledger, open_ledger, write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation

Times = tuple[float, float]
Writer = Callable[[Ledger, str], tuple[Times, str]]
HEIGHT, WIDTH, PER_IMAGE = 480, 640, 50
THINGS = Categories((Category(1, "nucleus", True, "#4169e1"),))


def main() -> None:
    """Prints one line a writer, then the ratios."""
    parser = argparse.ArgumentParser(description="COCO JSON: ours against json.dump")
    parser.add_argument("--annotations", type=int, default=1_000_000)
    wanted = parser.parse_args().annotations
    with tempfile.TemporaryDirectory() as folder:
        dataset = str(Path(folder) / "dataset")
        write_dataset(dataset, made_images(wanted // PER_IMAGE), categories=THINGS, task="instance")
        out = str(Path(folder) / "out")
        seconds: dict[str, float] = {}
        busy: dict[str, float] = {}
        for name, run in (("ours", _ours), ("orjson", _orjson), ("json.dump", _json_dump)):
            seconds[name], busy[name], memory, size = _measure(run, dataset, out)
            print(
                f"{name:>10}: {seconds[name]:6.2f} s, {busy[name]:6.2f} s of processor, "
                f"+{memory:.0f} MB, file of {size / 1e6:.0f} MB",
                flush=True,
            )
        same = json.loads(Path(out, "json.json").read_bytes()) == json.loads(
            Path(out, "instances.json").read_bytes()
        )
    print(f"same content: {same}")
    for peer in ("json.dump", "orjson"):
        wall, processor = seconds[peer] / seconds["ours"], busy[peer] / busy["ours"]
        print(f"{peer} / ours: {wall:.1f}x, processor time {processor:.1f}x")
    sys.exit(0 if same else 1)


def _ours(ledger: Ledger, out: str) -> tuple[Times, str]:
    begin = _now()
    CocoInstances().export(ledger, out)
    return _since(begin), f"{out}/instances.json"


def _orjson(ledger: Ledger, out: str) -> tuple[Times, str]:
    begin = _now()
    path = f"{out}/orjson.json"
    with open(path, "wb") as file:
        file.write(b'{"images":[')
        images = (_coco_image(row) for row, _ in ledger.rows())
        file.write(b",".join(orjson.dumps(entry) for entry in images))
        file.write(b'],"annotations":[')
        for index, (_, rows) in enumerate(ledger.rows()):
            piece = b",".join(orjson.dumps(_coco_annotation(row)) for row in rows)
            file.write(b"," * (index > 0) + piece)
        file.write(b"]}")
    return _since(begin), path


def _json_dump(ledger: Ledger, out: str) -> tuple[Times, str]:
    head = json.loads(Path(f"{out}/instances.json").read_bytes())
    images, annotations = [], []
    for row, rows in ledger.rows():
        images.append(_coco_image(row))
        annotations.extend(_coco_annotation(item) for item in rows)
    whole = head | {"images": images, "annotations": annotations}
    path = f"{out}/json.json"
    begin = _now()
    with open(path, "w", encoding="utf-8") as file:
        json.dump(whole, file)
    return _since(begin), path


def _coco_image(row: dict[str, Any]) -> dict[str, Any]:
    return {"id": row["image_id"], **{key: row[key] for key in ("width", "height", "file_name")}}


def _coco_annotation(row: dict[str, Any]) -> dict[str, Any]:
    return {
        "id": row["annotation_id"],
        "image_id": row["image_id"],
        "category_id": row["category_id"],
        "segmentation": row["rle"],
        "area": row["area"],
        "bbox": row["bbox_xywh"],
        "iscrowd": 0,
        "score": float(str(np.float32(row["score"]))),
    }


def made_images(count: int) -> Iterator[tuple[ImageRecord, Segmentation]]:
    """Images with round regions of different places and sizes, as a model would find them."""
    random = np.random.default_rng(0)
    y, x = np.ogrid[:HEIGHT, :WIDTH]
    regions = []
    for _ in range(2000):
        radius = random.uniform(6, 30)
        centre = random.uniform(radius, HEIGHT - radius), random.uniform(radius, WIDTH - radius)
        disc = (y - centre[0]) ** 2 + (x - centre[1]) ** 2 < radius**2
        regions.extend(codec.regions(disc.astype(np.uint8)))
    for number in range(1, count + 1):
        picks = random.integers(0, len(regions), PER_IMAGE)
        scores = random.random(PER_IMAGE)
        found = tuple(
            Segment(1, regions[k].counts, regions[k].area, regions[k].bbox_xywh, score)
            for k, score in zip(picks, scores, strict=True)
        )
        record = ImageRecord(
            f"plate {number // 1000:04d}/field {number:08d}.tif", "", image_id=number
        )
        yield record, Segmentation(HEIGHT, WIDTH, found)


def _measure(run: Writer, dataset: str, out: str) -> tuple[float, float, float, int]:
    """Seconds, seconds of processor, extra megabytes at the peak, bytes of the file.

    Each run has a process of its own.
    """
    context = multiprocessing.get_context("spawn")
    with context.Pool(1) as pool:
        return pool.apply(_child, (run, dataset, out))


def _child(run: Writer, dataset: str, out: str) -> tuple[float, float, float, int]:
    ledger = open_ledger(dataset)
    Path(out).mkdir(exist_ok=True)
    before = _peak_mb()
    times, path = run(ledger, out)
    return *times, _peak_mb() - before, Path(path).stat().st_size


def _now() -> Times:
    return time.perf_counter(), time.process_time()


def _since(begin: Times) -> Times:
    now = _now()
    return now[0] - begin[0], now[1] - begin[1]


def _peak_mb() -> float:
    """Linux's VmHWM: unlike getrusage's ru_maxrss it starts afresh in a new process."""
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]) / 1024


if __name__ == "__main__":
    main()
