"""Tiny pictures whose categories are their colours: a network learns them in seconds."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.training.data import LabelLocation

ROWS = [
    {"pixel": 1, "id": 5, "name": "sky", "isthing": 0, "color": "#3060e0"},
    {"pixel": 2, "id": 9, "name": "meadow", "isthing": 0, "color": "#40a040"},
    {"pixel": 3, "id": 40, "name": "kite", "isthing": 1, "color": "#d03020"},
]
"""Pixel values and ids differ, and ids have gaps."""
UNLABELLED = 7
RGB = {1: (60, 110, 220), 2: (70, 160, 60), 3: (210, 60, 40)}


def scene(number: int, hw: tuple[int, int] = (64, 80)) -> tuple[npt.NDArray, npt.NDArray]:
    """A picture, HxWx3 RGB, and its map of pixel values; the left edge is unlabelled."""
    rng = np.random.default_rng(number)
    height, width = hw
    label_map = np.ones(hw, np.uint8)
    label_map[int(rng.integers(height // 3, height // 2)) :] = 2
    y, x = (int(rng.integers(4, side - 24)) for side in hw)
    label_map[y : y + 20, x : x + 20] = 3
    pixels = np.zeros((height, width, 3), np.float64)
    for value, rgb in RGB.items():
        pixels[label_map == value] = rgb
    pixels = np.clip(pixels + rng.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
    label_map[:, :2] = UNLABELLED
    return pixels, label_map


def write_scenes(folder: Path, count: int = 4, *, first: int = 0) -> LabelLocation:
    """Pictures in images/, maps and their key in labels/."""
    for name in ("images", "labels"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    for number in range(first, first + count):
        pixels, label_map = scene(number)
        cv2.imwrite(str(folder / "images" / f"{number}.png"), pixels[..., ::-1])
        cv2.imwrite(str(folder / "labels" / f"{number}.png"), label_map)
    key = {"unlabelled": UNLABELLED, "categories": ROWS}
    (folder / "labels" / "categories.json").write_text(json.dumps(key))
    return LabelLocation(str(folder / "labels"), str(folder / "images"))
