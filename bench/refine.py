"""Removing islands and filling holes: the refiner against OpenCV on each segment's mask.

Both get run-length strings and give run-length strings, equal ones (checked). The peer decodes a
segment, labels its pieces and its holes with cv2.connectedComponentsWithStats, and encodes it
again, both inside its box alone.

    python -m bench.refine --data FOLDER     # the folder holds coco-stuff/ and nuclei-dsb2018/
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.masks import codec
from pipeline.masks.refine import Refiner
from schemas.categories import Categories, Category
from schemas.config.model import ModelConfig, RefineConfig
from schemas.records import Segment, Segmentation

SMALL = 20
CATEGORIES = Categories((Category(1, "any", True, "#000000"),))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--repeat", type=int, default=7)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    refine = RefineConfig(min_island=SMALL, fill_holes=SMALL)
    refiner = Refiner(ModelConfig(name="bench"), refine, CATEGORIES, ("instance",))
    print(f"islands and holes of {SMALL} pixels; CPU milliseconds a picture, best of {args.repeat}")
    for title, label_map in _pictures(args.data):
        found = _segmentation(label_map)
        refined = refiner.refine(found)
        if [one.counts for one in refined.segments] != _peer(found):
            raise SystemExit(f"{title}: not equal")
        ours = _best(lambda f=found: refiner.refine(f), args.repeat)
        peer = _best(lambda f=found: _peer(f), args.repeat)
        height, width = label_map.shape
        print(
            f"{title} {width}×{height}, {len(found.segments)} segments: ours {ours:.2f}, "
            f"OpenCV {peer:.2f}: {peer / ours:.1f}×"
        )


def _pictures(data: Path) -> list[tuple[str, npt.NDArray[np.int32]]]:
    """Real label maps, plain and with a speck on one pixel in 500; and one that is all boundary."""
    rng = np.random.default_rng(0)
    chosen = []
    for title, pattern in (
        ("semantic map", "coco-stuff/labels/*.png"),
        ("nuclei", "nuclei-dsb2018/test/labels/*.png"),
    ):
        maps = [cv2.imread(str(path), cv2.IMREAD_UNCHANGED) for path in sorted(data.glob(pattern))]
        kinds = [len(np.unique(one)) for one in maps]
        plain = maps[int(np.argmax(kinds))].astype(np.int32) + (title != "nuclei")
        specks = rng.random(plain.shape) < 1 / 500
        chosen += [
            (title, plain),
            (f"{title}, specks", np.where(specks, rng.permuted(plain, axis=1), plain)),
        ]
    noise = cv2.GaussianBlur(rng.random((480, 640)), (0, 0), 3)
    levels = np.quantile(noise, np.linspace(0, 1, 21)[1:-1])
    return [*chosen, ("levels of noise", np.digitize(noise, levels).astype(np.int32) + 1)]


def _segmentation(label_map: npt.NDArray[np.int32]) -> Segmentation:
    segments = (
        Segment(1, region.counts, region.area, region.bbox_xywh)
        for region in codec.regions(label_map)
    )
    return Segmentation(*label_map.shape, tuple(segments))


def _peer(found: Segmentation) -> list[bytes]:
    kept = []
    for one in found.segments:
        x, y, w, h = one.bbox_xywh
        whole = codec.decode(one.counts, found.height, found.width)
        mask = whole[y : y + h, x : x + w]
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(mask, connectivity=8)
        good = stats[:, cv2.CC_STAT_AREA] >= SMALL
        good[0] = False
        mask = good[numbers]
        _, numbers, stats, _ = cv2.connectedComponentsWithStats(
            (~mask).astype(np.uint8), connectivity=4
        )
        left, top, width, height, area = stats.T
        good = (area <= SMALL) & (left > 0) & (top > 0) & (left + width < w) & (top + height < h)
        good[0] = False
        mask |= good[numbers]
        if mask.any():
            whole[y : y + h, x : x + w] = mask
            kept.append(codec.encode(whole))
    return kept


def _best(work: Callable[[], Any], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        started = time.process_time()
        work()
        times.append(time.process_time() - started)
    return 1000 * min(times)


if __name__ == "__main__":
    main()
