"""Geometric steps of `[augment]`: what is drawn for each, and the move that this is.

Positions are pixel centres at integers, x to the right, y down. A draw is plain data, rounded
before it is used, so that it can be written as JSON and done again to the last bit.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from schemas.config.augment_steps import (
    Blur,
    Crop,
    Cutout,
    Elastic,
    Flip,
    GammaChange,
    Hue,
    Jpeg,
    Noise,
    ObjectCrop,
    Perspective,
    ResizedCrop,
    Rotate,
    Scale,
    Shear,
)

from .warp import Bend, Linear, Move

Size = tuple[int, int]
Drawn = dict[str, Any]
Boxes = npt.NDArray[np.float64]
"""Nx4, left, top, right, bottom of objects, pixels."""

_LARGEST = 1 << 28
"""Pixels that a frame may be enlarged to."""


def uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """A number of a range, rounded to six digits."""
    return round(float(rng.uniform(*span)), 6)


def log_uniform(rng: np.random.Generator, span: tuple[float, float]) -> float:
    """A number of a range of factors, so that twice and half are equally likely."""
    low, high = span
    if low <= 0:
        return uniform(rng, span)
    return round(float(np.exp(rng.uniform(np.log(low), np.log(high)))), 6)


def _flip(rng: np.random.Generator, step: Flip, _size: Size, _boxes: Boxes) -> Drawn | None:
    across, down = rng.random(2)
    flips = {"horizontal": bool(across < step.horizontal), "vertical": bool(down < step.vertical)}
    return flips if any(flips.values()) else None


def _rotate(rng: np.random.Generator, step: Rotate, _size: Size, _boxes: Boxes) -> Drawn | None:
    angle = uniform(rng, step.angle)
    if step.quarters:
        angle = round(angle / 90) * 90.0
    return {"angle": angle, "expand": step.expand} if angle % 360 else None


def _crop(rng: np.random.Generator, step: Crop, size: Size, _boxes: Boxes) -> Drawn | None:
    share = uniform(rng, step.scale)
    wanted = step.size or (round(size[0] * share), round(size[1] * share))
    height, width = (max(1, min(a, b)) for a, b in zip(wanted, size, strict=True))
    return {"box_xywh": _place(rng, size, height, width)}


def _resized_crop(
    rng: np.random.Generator, step: ResizedCrop, size: Size, _boxes: Boxes
) -> Drawn | None:
    area, aspect = uniform(rng, step.area), log_uniform(rng, step.aspect)
    height = min(size[0], max(1, round(size[0] * (area / aspect) ** 0.5)))
    width = min(size[1], max(1, round(size[1] * (area * aspect) ** 0.5)))
    return {"box_xywh": _place(rng, size, height, width), "size_hw": list(step.size or size)}


def _object_crop(
    rng: np.random.Generator, step: ObjectCrop, size: Size, boxes: Boxes
) -> Drawn | None:
    if not len(boxes):
        return None
    limits = np.array([size[1], size[0], size[1], size[0]])
    left, top, right, bottom = np.clip(boxes[rng.integers(len(boxes))], 0, limits)
    context = log_uniform(rng, step.context)
    side = max(step.least, round(max(right - left, bottom - top) * context), 1)
    box = []
    for low, high, length in ((left, right, size[1]), (top, bottom, size[0])):
        span = min(side, length)
        first, last = high - span, low  # all of the object is in it, wherever it begins
        start = round(float(rng.uniform(min(first, last), max(first, last))))
        box.append((min(max(start, 0), length - span), span))
    (x, width), (y, height) = box
    return {"box_xywh": [x, y, width, height], "size_hw": list(step.size or (height, width))}


def _scale(rng: np.random.Generator, step: Scale, size: Size, _boxes: Boxes) -> Drawn | None:
    factor, stretch = log_uniform(rng, step.factor), log_uniform(rng, step.stretch)
    if step.expand:
        tall = max(1, round(size[0] * factor / stretch**0.5))
        wide = max(1, round(size[1] * factor * stretch**0.5))
        return {"box_xywh": [0, 0, size[1], size[0]], "size_hw": [tall, wide]}
    return {"factor": factor, "stretch": stretch}


def _shear(rng: np.random.Generator, step: Shear, _size: Size, _boxes: Boxes) -> Drawn | None:
    return {"x": uniform(rng, step.x), "y": uniform(rng, step.y)}


def _elastic(rng: np.random.Generator, step: Elastic, size: Size, _boxes: Boxes) -> Drawn | None:
    sigma = round(uniform(rng, step.magnitude) * min(size), 6)
    return {"sigma": sigma, "grid": step.grid, "seed": int(rng.integers(2**32))}


def _perspective(
    rng: np.random.Generator, step: Perspective, _size: Size, _boxes: Boxes
) -> Drawn | None:
    most = uniform(rng, step.magnitude)
    corners = rng.uniform(-most, most, 8)
    return {"corners": [round(float(value), 6) for value in corners]}


MOVES: Mapping[str, Callable[[np.random.Generator, Any, Size, Boxes], Drawn | None]] = {
    "flip": _flip,
    "rotate": _rotate,
    "crop": _crop,
    "resized_crop": _resized_crop,
    "object_crop": _object_crop,
    "scale": _scale,
    "shear": _shear,
    "elastic": _elastic,
    "perspective": _perspective,
}
"""Step → what is drawn for a picture of this size with these objects; None = nothing happens."""


def move_of(drawn: Mapping[str, Any], size_hw: Size) -> tuple[Move, Size]:
    """The move that a draw is, for a picture of this size, and the size of the result.

    Raises:
        ValueError: It is no geometric step, or the result would be too large.
    """
    height, width = size_hw
    match drawn:
        case {"step": "flip"}:
            matrix = np.eye(3)
            if drawn["horizontal"]:
                matrix[0] = (-1, 0, width - 1)
            if drawn["vertical"]:
                matrix[1] = (0, -1, height - 1)
            return Linear(matrix), size_hw
        case {"step": "rotate"}:
            return _rotation(drawn["angle"], size_hw, expand=drawn["expand"])
        case {"box_xywh": [x, y, wide, tall]}:
            out = tuple(drawn.get("size_hw", (tall, wide)))
            _check(out, size_hw)
            across, down = wide / out[1], tall / out[0]
            matrix = [[across, 0, (across - 1) / 2 + x], [0, down, (down - 1) / 2 + y], [0, 0, 1]]
            return Linear(np.array(matrix, np.float64)), out
        case {"step": "scale"}:
            zoom, root = drawn["factor"], drawn["stretch"] ** 0.5
            return Linear(_about_middle(np.diag([zoom * root, zoom / root]), size_hw)), size_hw
        case {"step": "shear"}:
            slant = np.tan(np.radians([drawn["x"], drawn["y"]]))
            forward = np.array([[1.0, slant[0]], [slant[1], 1.0]])
            return Linear(_about_middle(forward, size_hw)), size_hw
        case {"step": "elastic"}:
            rng = np.random.default_rng(drawn["seed"])
            points = rng.normal(0, drawn["sigma"], (drawn["grid"], drawn["grid"], 2))
            return Bend(points.astype(np.float32), size_hw), size_hw
        case {"step": "perspective"}:
            ends = np.array([width - 1, height - 1], np.float32)
            corners = np.array([[0, 0], [1, 0], [1, 1], [0, 1]], np.float32)
            shifts = np.array(drawn["corners"], np.float32).reshape(4, 2)
            solved = cv2.getPerspectiveTransform(corners * ends, (corners + shifts) * ends)
            return Linear(np.asarray(solved, np.float64)), size_hw
    raise ValueError(f"no geometric step: {dict(drawn)}")


def _rotation(angle: float, size_hw: Size, *, expand: bool) -> tuple[Move, Size]:
    cos, sin = float(np.cos(np.radians(angle))), float(np.sin(np.radians(angle)))
    if angle % 90 == 0:
        cos, sin = float(round(cos)), float(round(sin))
    height, width = size_hw
    out = size_hw
    if expand:
        tall = int(np.ceil(abs(width * sin) + abs(height * cos) - 1e-6))
        wide = int(np.ceil(abs(width * cos) + abs(height * sin) - 1e-6))
        out = (max(tall, 1), max(wide, 1))
        _check(out, size_hw)
    turned = np.array([[cos, sin], [-sin, cos]])  # counter-clockwise where y points down
    return Linear(_about_middle(turned, size_hw, out)), out


def _about_middle(
    forward: npt.NDArray[np.float64], size_hw: Size, out_hw: Size | None = None
) -> npt.NDArray[np.float64]:
    """3x3 from result to source, for a 2x2 from source to result that leaves the middle there."""
    source, result = ((np.array(hw)[::-1] - 1) / 2 for hw in (size_hw, out_hw or size_hw))
    back = np.linalg.inv(forward)
    matrix = np.eye(3)
    matrix[:2, :2] = back
    matrix[:2, 2] = source - back @ result
    return matrix


def _place(rng: np.random.Generator, size: Size, height: int, width: int) -> list[int]:
    y = int(rng.integers(size[0] - height + 1))
    x = int(rng.integers(size[1] - width + 1))
    return [x, y, width, height]


def _check(size_hw: tuple[int, ...], before_hw: Size) -> None:
    """Refuses a frame that is enlarged beyond all measure."""
    pixels = size_hw[0] * size_hw[1]
    if pixels > max(_LARGEST, before_hw[0] * before_hw[1]):
        raise ValueError(f"a copy of {size_hw[0]} x {size_hw[1]} pixels is too large")


# Steps of `[augment]` that change values and move nothing: what is drawn, and how it is done.

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


COLOURS: Mapping[str, Callable[[np.random.Generator, Any, Size], Drawn]] = {
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
