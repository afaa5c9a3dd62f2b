"""COCO's AP from file to figures: ours against plain pycocotools, memory beside it.

Synthetic objects on pictures of 640×480: polygons as ground truth, one in a hundred a crowd;
results as RLE, shifted, lost, of another category or invented. Each runs in a process of its own,
from opening the two JSON files to the twelve figures; imports are not counted. All must agree in
every digit.

    python -m bench.evaluate [--images N] [--objects N]
"""

from __future__ import annotations

import argparse
import contextlib
import importlib.util
import io
import json
import multiprocessing
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from pipeline.masks import codec

HEIGHT, WIDTH, CATEGORIES, SHAPES = 480, 640, 80, 1500
Figures = list[float | None]
Run = Callable[[str, str], Figures]


def main() -> None:
    """Prints one line a way of doing it, then the ratios."""
    parser = argparse.ArgumentParser(description="AP: ours against pycocotools")
    parser.add_argument("--images", type=int, default=5000)
    parser.add_argument("--objects", type=int, default=10, help="an image")
    args = parser.parse_args()
    runs: dict[str, Run] = {
        "pycocotools": _pycocotools,
        "ours, AP": _ours_ap,
        "ours, AP and matching": _ours,
    }
    if importlib.util.find_spec("faster_coco_eval"):
        runs |= {"faster-coco-eval": _faster, "ours, faster-coco-eval": _ours_faster}
    with tempfile.TemporaryDirectory() as folder:
        truth, results = str(Path(folder) / "truth.json"), str(Path(folder) / "results.json")
        true, found = write_files(truth, results, args.images, args.objects)
        print(f"{args.images} images, {true} true objects, {found} results", flush=True)
        seconds: dict[str, float] = {}
        digits: dict[str, Figures] = {}
        for name, run in runs.items():
            seconds[name], busy, memory, digits[name] = _measure(run, truth, results)
            print(
                f"{name:>24}: {seconds[name]:6.2f} s, {busy:6.2f} s of processor, +{memory:.0f} MB",
                flush=True,
            )
    for name in runs:
        if name != "pycocotools":
            print(f"pycocotools / {name}: {seconds['pycocotools'] / seconds[name]:.1f}x")
    same = all(figures == digits["pycocotools"] for figures in digits.values())
    print(f"all twelve figures the same to 12 digits: {same}")
    sys.exit(0 if same else 1)


def write_files(truth: str, results: str, images: int, objects: int) -> tuple[int, int]:
    """Writes both files and returns how many objects they hold."""
    random = np.random.default_rng(0)
    shapes = [_shape(random) for _ in range(SHAPES)]
    entries: list[dict[str, Any]] = []
    found: list[dict[str, Any]] = []
    for image in range(1, images + 1):
        for pick in random.integers(0, SHAPES, objects).tolist():
            polygon, mask, shifted = shapes[pick]
            category, crowd = int(random.integers(1, CATEGORIES + 1)), random.random() < 0.01
            entries.append(
                {
                    "id": len(entries) + 1,
                    "image_id": image,
                    "category_id": category,
                    "segmentation": mask if crowd else [polygon],
                    "area": codec.area(mask["counts"], HEIGHT, WIDTH),
                    "iscrowd": int(crowd),
                }
            )
            guess = category if random.random() < 0.9 else int(random.integers(1, CATEGORIES + 1))
            answers = [(guess, shifted)] * (random.random() < 0.85)
            answers += [(category, shapes[random.integers(SHAPES)][1])] * (random.random() < 0.3)
            found += [
                {
                    "image_id": image,
                    "category_id": id_,
                    "segmentation": rle,
                    "score": round(float(random.random()), 4),
                }
                for id_, rle in answers
            ]
    pictures = [
        {"id": i, "file_name": f"{i:012d}.jpg", "height": HEIGHT, "width": WIDTH}
        for i in range(1, images + 1)
    ]
    table = [{"id": i, "name": f"category {i}"} for i in range(1, CATEGORIES + 1)]
    whole = {"images": pictures, "annotations": entries, "categories": table}
    Path(truth).write_text(json.dumps(whole))
    Path(results).write_text(json.dumps(found))
    return len(entries), len(found)


def _shape(random: np.random.Generator) -> tuple[list[float], dict[str, Any], dict[str, Any]]:
    """A polygon, its mask, and the mask a little aside."""
    while True:
        angle = np.linspace(0, 2 * np.pi, 24, endpoint=False)
        bumps = 0.35 * random.random() * np.sin(angle * random.integers(2, 6))
        radius = np.exp(random.uniform(np.log(6), np.log(150))) * (1 + bumps)
        x = random.uniform(0, WIDTH) + radius * np.cos(angle)
        y = random.uniform(0, HEIGHT) + radius * np.sin(angle)
        points = np.stack([x.clip(0, WIDTH), y.clip(0, HEIGHT)], axis=1).round(2)
        counts = codec.from_coco([points.ravel().tolist()], HEIGHT, WIDTH)
        shift = np.float32([[1, 0, random.integers(-6, 7)], [0, 1, random.integers(-6, 7)]])
        moved = cv2.warpAffine(codec.decode(counts, HEIGHT, WIDTH), shift, (WIDTH, HEIGHT))
        if codec.area(counts, HEIGHT, WIDTH) >= 20 and moved.any():
            size = [HEIGHT, WIDTH]
            return (
                points.ravel().tolist(),
                {"size": size, "counts": counts.decode()},
                {"size": size, "counts": codec.encode(moved).decode()},
            )


def _pycocotools(truth: str, results: str) -> Figures:
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    return _plain(COCO, COCOeval, truth, results)


def _faster(truth: str, results: str) -> Figures:
    from faster_coco_eval import COCO, COCOeval_faster

    return _plain(COCO, COCOeval_faster, truth, results)


def _plain(coco: Any, evaluation: Any, truth: str, results: str) -> Figures:
    begin()
    with contextlib.redirect_stdout(io.StringIO()):
        side = coco(truth)
        done = evaluation(side, side.loadRes(results), "segm")
        done.evaluate()
        done.accumulate()
        done.summarize()
    return [None if value == -1 else round(float(value), 12) for value in done.stats[:12]]


def _ours_ap(truth: str, results: str) -> Figures:
    return _evaluate(truth, results, metrics=["ap"])


def _ours(truth: str, results: str) -> Figures:
    return _evaluate(truth, results)


def _ours_faster(truth: str, results: str) -> Figures:
    return _evaluate(truth, results, metrics=["ap"], ap_backend="faster-coco-eval")


def _evaluate(truth: str, results: str, **options: Any) -> Figures:
    from pipeline.evaluation.evaluate import evaluate

    begin()
    result = evaluate(ground_truth=truth, predictions=results, **options)
    return list(result["overall"]["ap"]["max_dets_100"].values())


_started: list[float] = []


def begin() -> None:
    """Notes that the imports are done."""
    _started[:] = time.perf_counter(), time.process_time(), _peak_mb()


def _measure(run: Run, truth: str, results: str) -> tuple[float, float, float, Figures]:
    """Seconds, seconds of processor, extra megabytes at the peak, the figures."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(_child, (run, truth, results))


def _child(run: Run, truth: str, results: str) -> tuple[float, float, float, Figures]:
    figures = run(truth, results)
    wall, busy, memory = _started
    return time.perf_counter() - wall, time.process_time() - busy, _peak_mb() - memory, figures


def _peak_mb() -> float:
    status = Path("/proc/self/status").read_text()
    return int(next(line for line in status.splitlines() if "VmHWM" in line).split()[1]) / 1024


if __name__ == "__main__":
    main()
