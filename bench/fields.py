"""Pictures to label: soft bright discs on noise, small enough that the model is not the wait."""

from __future__ import annotations

import os
from concurrent.futures import ProcessPoolExecutor
from pathlib import Path

import cv2
import numpy as np

SIDE = 256


def write_fields(folder: Path, count: int, start: int = 0) -> None:
    """JPEG fields of soft bright discs on noise, numbered from `start`, which is the seed too."""
    rng = np.random.default_rng(start)
    folder.mkdir(parents=True, exist_ok=True)
    for i in range(start, start + count):
        field = np.zeros((SIDE, SIDE), np.float32)
        for _ in range(int(rng.integers(8, 25))):
            x, y = rng.integers(0, SIDE, 2).tolist()
            cv2.circle(field, (x, y), int(rng.integers(6, 12)), float(rng.uniform(60, 200)), -1)
        field = cv2.GaussianBlur(field, (0, 0), 1.5) + rng.normal(12, 4, field.shape)
        cv2.imwrite(str(folder / f"{i:05d}.jpg"), field.clip(0, 255).astype(np.uint8))


def draw_fields(folder: Path, count: int) -> Path:
    """`write_fields` by several processes, which differ in their seed; nothing if it is there."""
    if not folder.is_dir():
        share = -(-count // (os.cpu_count() or 1))
        starts = range(0, count, share)
        with ProcessPoolExecutor() as pool:
            list(pool.map(write_fields, [folder] * len(starts), [share] * len(starts), starts))
    return folder
