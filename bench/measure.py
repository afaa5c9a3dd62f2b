"""Measuring a part: ours against scikit-image's regionprops on the same label maps, in one process.

Both sides give every column that both have, intensities of the picture's channels included, and
are compared to 1e-6. Ours starts from the part's RLE strings, the peer from label maps that are
already painted; neither decodes a picture in the time that is taken.

    python -m bench.measure --data FOLDER     # the folder holds nuclei-dsb2018/
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pyarrow as pa
from PIL import Image
from skimage.measure import regionprops

from pipeline.masks import codec
from pipeline.masks.column_runs import mask_runs
from pipeline.measuring.intensity import measure_intensities
from pipeline.measuring.shape import measure_shapes

NAMES = {
    "area": "area",
    "equivalent_diameter": "equivalent_diameter_area",
    "perimeter": "perimeter",
    "perimeter_crofton": "perimeter_crofton",
    "axis_major_length": "axis_major_length",
    "axis_minor_length": "axis_minor_length",
    "eccentricity": "eccentricity",
    "orientation": "orientation",
    "area_convex": "area_convex",
    "solidity": "solidity",
    "extent": "extent",
    "feret_diameter_max": "feret_diameter_max",
    "euler_number": "euler_number",
}
"""Our column → the property of a region."""
INTENSITIES = ("mean", "std", "min", "max")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data", type=Path, required=True)
    parser.add_argument("--split", default="val", help="train, val or test")
    parser.add_argument("--repeat", type=int, default=3)
    args = parser.parse_args()
    cv2.setNumThreads(1)
    folder = args.data / "nuclei-dsb2018"
    index = json.loads((folder / "index.json").read_text())["images"]
    chosen = [row for row in index if row["split"] == args.split]
    maps = [np.array(Image.open(folder / row["label"])).astype(np.int32) for row in chosen]
    pictures = [np.array(Image.open(folder / row["image"]).convert("RGB")) for row in chosen]
    found = [codec.regions(label_map) for label_map in maps]
    texts = pa.array([region.counts.decode() for regions in found for region in regions])
    number = [len(regions) for regions in found]
    heights = np.repeat([label_map.shape[0] for label_map in maps], number)
    widths = np.repeat([label_map.shape[1] for label_map in maps], number)
    print(f"{len(texts)} nuclei in {len(maps)} pictures; CPU seconds, best of {args.repeat}")

    def ours(*, intensity: bool) -> dict[str, np.ndarray]:
        runs = mask_runs(texts, heights, widths)
        columns = measure_shapes(runs)
        first = np.append(0, np.cumsum(number))
        if intensity:
            each = [
                measure_intensities(runs.choose(np.arange(first[k], first[k + 1])), picture)
                for k, picture in enumerate(pictures)
                if number[k]
            ]
            for name in INTENSITIES:
                columns[name] = np.concatenate([getattr(item, name) for item in each])
        return columns

    def peer(*, intensity: bool) -> list[dict[str, Any]]:
        return [
            {name: getattr(region, theirs) for name, theirs in NAMES.items()}
            | ({n: getattr(region, f"intensity_{n}") for n in INTENSITIES} if intensity else {})
            for label_map, picture in zip(maps, pictures, strict=True)
            for region in regionprops(label_map, picture if intensity else None)
        ]

    _check(ours(intensity=True), peer(intensity=True))
    for title, intensity in (("shape and intensity", True), ("shape", False)):
        fast = _best(lambda flag=intensity: ours(intensity=flag), args.repeat)
        slow = _best(lambda flag=intensity: peer(intensity=flag), args.repeat)
        print(f"{title:20}: ours {fast:.3f}, regionprops {slow:.3f}: {slow / fast:.1f}×")


def _check(ours: dict[str, np.ndarray], theirs: list[dict[str, Any]]) -> None:
    """Raises if a value differs by more than 1e-6."""
    worst = {}
    for name in (*NAMES, *INTENSITIES):
        reference = np.array([row[name] for row in theirs], np.float64)
        apart = np.abs(ours[name] - reference) / np.maximum(np.abs(reference), 1)
        if name == "orientation":  # an axis points both ways
            apart = np.minimum(apart, np.abs(np.abs(ours[name] - reference) - np.pi))
        worst[name] = float(apart.max())
    name, apart = max(worst.items(), key=lambda item: item[1])
    if apart > 1e-6:
        raise SystemExit(f"{name} differs by {apart}")
    print(f"largest difference of any column: {apart:.1e} ({name})")


def _best(action: Callable[[], Any], repeat: int) -> float:
    times = []
    for _ in range(repeat):
        start = time.process_time()
        action()
        times.append(time.process_time() - start)
    return min(times)


if __name__ == "__main__":
    main()
