"""Steps of `[augment]` that change values and move nothing: what is drawn, and how it is done."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from schemas.augment_steps import Blur, Cutout, GammaChange, Hue, Jpeg, Noise

from .moves import Drawn, Size, log_uniform, uniform

Pixels = npt.NDArray[np.uint8]
Fill = tuple[int, int, int]

_LUMA = np.array([0.299, 0.587, 0.114])
"""ITU-R BT.601, as Pillow and OpenCV turn colours grey."""
_LUMA_W3C = np.array([0.213, 0.715, 0.072])
"""ITU-R BT.709 to three digits, for which the matrix that turns hues is made."""
_NOISE_ROWS = 1 << 20
"""Pixels of noise at once."""


def _factor(rng: np.random.Generator, step: Any, _size: Size) -> Drawn:
    return {"factor": uniform(rng, step.factor)}


def _hue(rng: np.random.Generator, step: Hue, _size: Size) -> Drawn:
    return {"angle": uniform(rng, step.angle)}


def _gamma(rng: np.random.Generator, step: GammaChange, _size: Size) -> Drawn:
    return {"gamma": log_uniform(rng, step.gamma)}


def _noise(rng: np.random.Generator, step: Noise, _size: Size) -> Drawn:
    return {"sigma": uniform(rng, step.sigma), "seed": int(rng.integers(2**32))}


def _blur(rng: np.random.Generator, step: Blur, _size: Size) -> Drawn:
    return {"sigma": uniform(rng, step.sigma)}


def _jpeg(rng: np.random.Generator, step: Jpeg, _size: Size) -> Drawn:
    return {"quality": int(rng.integers(step.quality[0], step.quality[1] + 1))}


def _cutout(rng: np.random.Generator, step: Cutout, size: Size) -> Drawn:
    boxes = []
    for _ in range(int(rng.integers(step.count[0], step.count[1] + 1))):
        height, width = (max(1, round(side * uniform(rng, step.size))) for side in size)
        y, x = rng.integers(size[0] - height + 1), rng.integers(size[1] - width + 1)
        boxes.append([int(x), int(y), width, height])
    return {"boxes_xywh": boxes, "labels": step.labels}


DRAWS: Mapping[str, Callable[[np.random.Generator, Any, Size], Drawn]] = {
    "brightness": _factor,
    "contrast": _factor,
    "saturation": _factor,
    "hue": _hue,
    "gamma": _gamma,
    "noise": _noise,
    "blur": _blur,
    "jpeg": _jpeg,
    "cutout": _cutout,
}
"""Step → what is drawn for a picture of this size."""


def recolour(drawn: Mapping[str, Any], pixels: Pixels, fill: Fill) -> Pixels:
    """The picture after one such step.

    Args:
        drawn: What was drawn, with its "step".
        pixels: HxWx3 uint8 RGB; is not changed.
        fill: Colour of rectangles that are cut out.

    Raises:
        ValueError: It is none of these steps.
    """
    match drawn:
        case {"step": "brightness", "factor": factor}:
            return _looked_up(pixels, np.arange(256) * factor)
        case {"step": "contrast", "factor": factor}:
            grey = float(np.dot(cv2.mean(pixels)[:3], _LUMA))
            return _looked_up(pixels, (np.arange(256) - grey) * factor + grey)
        case {"step": "gamma", "gamma": gamma}:
            return _looked_up(pixels, 255 * (np.arange(256) / 255) ** gamma)
        case {"step": "saturation", "factor": factor}:
            matrix = factor * np.eye(3) + (1 - factor) * np.tile(_LUMA, (3, 1))
            return np.asarray(cv2.transform(pixels, matrix), np.uint8)
        case {"step": "hue", "angle": angle}:
            return np.asarray(cv2.transform(pixels, _hue_turn(angle)), np.uint8)
        case {"step": "blur", "sigma": sigma}:
            return (
                np.asarray(cv2.GaussianBlur(pixels, (0, 0), sigma), np.uint8) if sigma else pixels
            )
        case {"step": "noise", "sigma": sigma, "seed": seed}:
            return _noisy(pixels, sigma, seed)
        case {"step": "jpeg", "quality": quality}:
            options = [cv2.IMWRITE_JPEG_QUALITY, quality]
            _, data = cv2.imencode(".jpg", np.ascontiguousarray(pixels[..., ::-1]), options)
            decoded = np.asarray(cv2.imdecode(data, cv2.IMREAD_COLOR), np.uint8)
            return np.ascontiguousarray(decoded[..., ::-1])
        case {"step": "cutout"}:
            out = pixels.copy()
            for rows, columns in holes(drawn):
                out[rows, columns] = fill
            return out
    raise ValueError(f"no step that changes values: {dict(drawn)}")


def holes(drawn: Mapping[str, Any]) -> list[tuple[slice, slice]]:
    """Rows and columns of what a cutout covers."""
    return [(slice(y, y + h), slice(x, x + w)) for x, y, w, h in drawn["boxes_xywh"]]


def _looked_up(pixels: Pixels, table: npt.NDArray[np.float64]) -> Pixels:
    return np.asarray(cv2.LUT(pixels, np.clip(np.rint(table), 0, 255).astype(np.uint8)), np.uint8)


def _hue_turn(angle: float) -> npt.NDArray[np.float64]:
    """3x3 that turns colours about grey and keeps their luma (W3C Filter Effects, hueRotate)."""
    cos, sin = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    grey = np.tile(_LUMA_W3C, (3, 1))
    turn = np.array([[-0.213, -0.715, 0.928], [0.143, 0.140, -0.283], [-0.787, 0.715, 0.072]])
    return grey + cos * (np.eye(3) - grey) + sin * turn


def _noisy(pixels: Pixels, sigma: float, seed: int) -> Pixels:
    rng = np.random.default_rng(seed)
    out = np.empty_like(pixels)
    rows = max(1, _NOISE_ROWS // pixels.shape[1])
    for top in range(0, len(pixels), rows):
        band = pixels[top : top + rows]
        noise = rng.standard_normal(band.shape, np.float32)
        noise *= np.float32(sigma)
        noise += band
        out[top : top + rows] = np.clip(np.rint(noise, out=noise), 0, 255)
    return out
