"""Small pictures for engine tests: bright discs on dark ground, which the otsu model finds."""

from __future__ import annotations

from pathlib import Path

import cv2
import numpy as np


def disc_picture(seed: int, *, size: int = 64, discs: int | None = None) -> np.ndarray:
    """HWC uint8: separate discs, their number and place by `seed`."""
    rng = np.random.default_rng(seed)
    picture = np.full((size, size + seed % 7, 3), 20, np.uint8)
    for _ in range(int(rng.integers(1, 4)) if discs is None else discs):
        x, y = rng.integers(8, size - 8, 2).tolist()
        cv2.circle(picture, (x, y), int(rng.integers(3, 7)), (220, 230, 240), -1)
    return picture


def write_pictures(folder: Path, count: int, *, prefix: str = "p") -> list[Path]:
    """Writes `count` PNGs in two sub-folders; returns their paths in name order."""
    paths = []
    for seed in range(count):
        path = folder / f"{'ab'[seed % 2]}" / f"{prefix}{seed:03d}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(path), disc_picture(seed))
        paths.append(path)
    return sorted(paths)
