"""Values to tones: bands, windows, contrast and white balance of one picture."""

from __future__ import annotations

from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
from skimage.exposure import match_histograms

from schemas.config.preprocess import (
    AutoContrast,
    Bands,
    Bilateral,
    Clahe,
    Gamma,
    Gaussian,
    Median,
    NonLocalMeans,
    Percentile,
    WhiteBalance,
    Window,
)

from .stretch import ramp

Values = npt.NDArray[Any]
Pixels = npt.NDArray[np.uint8]

_WHITE = 99.0
"""Percentile of a channel that the white patch takes for white: a few glints are none."""


def choose_bands(values: Values, step: Bands) -> Values:
    """HxWx1 or HxWx3 of the bands that are asked for.

    Raises:
        ValueError: The picture has no such band.
    """
    have = values.shape[2]
    missing = [band for band in step.choose if band > have]
    if missing:
        raise ValueError(f"bands: there is no band {missing[0]}, the picture has {have}")
    return values[..., [band - 1 for band in step.choose]]


def apply_window(values: Values, step: Window) -> Pixels:
    """Maps two values to 0 and 255, whatever the picture holds; NaN becomes 0."""
    return ramp(values.astype(np.float32), *step.ends())


def stretch_percentiles(values: Values, step: Percentile) -> Pixels:
    """Maps two percentiles to 0 and 255, over all channels together or each by itself."""
    if not step.per_channel:
        return _stretched(values, step.low, step.high)
    return _by_channel(values, lambda one: _stretched(one, step.low, step.high))


def auto_contrast(pixels: Pixels, step: AutoContrast) -> Pixels:
    """Maps each channel's extremes to 0 and 255, after a cut of some percent at either end."""
    return _by_channel(pixels, lambda one: _stretched(one, step.cutoff, 100 - step.cutoff))


def apply_gamma(pixels: Pixels, step: Gamma) -> Pixels:
    """255 · (value / 255) ^ gamma, by table."""
    table = 255 * (np.arange(256) / 255) ** step.gamma
    return np.asarray(cv2.LUT(pixels, np.rint(table).astype(np.uint8)), np.uint8)


def apply_clahe(pixels: Pixels, step: Clahe) -> Pixels:
    """Equalises the lightness tile by tile (K. Zuiderveld, Graphics Gems IV, 1994)."""
    lab = cv2.cvtColor(pixels, cv2.COLOR_RGB2LAB)
    equalise = cv2.createCLAHE(clipLimit=step.clip, tileGridSize=(step.tiles, step.tiles))
    lab[..., 0] = equalise.apply(np.ascontiguousarray(lab[..., 0]))
    return np.asarray(cv2.cvtColor(lab, cv2.COLOR_LAB2RGB), np.uint8)


def match_reference(pixels: Pixels, reference: Pixels) -> Pixels:
    """Gives each channel the distribution of the reference's."""
    matched = match_histograms(pixels, reference, channel_axis=-1)
    return np.rint(np.clip(matched, 0, 255)).astype(np.uint8)


def balance_white(pixels: Pixels, step: WhiteBalance) -> Pixels:
    """Scales the channels so that their means, or their bright ends, are the same grey."""
    if step.method == "grey_world":
        level = pixels.reshape(-1, 3).mean(axis=0)
        target = level.mean()
    else:
        level = np.percentile(pixels.reshape(-1, 3), _WHITE, axis=0)
        target = 255.0
    scaled = np.arange(256)[:, None] * (target / np.maximum(level, 1e-6))
    table = np.rint(np.clip(scaled, 0, 255)).astype(np.uint8)
    return np.asarray(cv2.LUT(pixels, table[:, None, :]), np.uint8)


def _stretched(values: Values, low: float, high: float) -> Pixels:
    """Between two percentiles of what is finite; between the extremes where they are the same."""
    finite = values[np.isfinite(values)] if values.dtype.kind == "f" else values
    if not finite.size:
        return np.zeros(values.shape, np.uint8)
    a, b = np.percentile(finite, (low, high)).tolist()
    if a >= b:
        a, b = float(finite.min()), float(finite.max())
    return ramp(values.astype(np.float32), a, b)


def _by_channel(values: Values, act: Any) -> Pixels:
    return np.stack([act(values[..., k]) for k in range(values.shape[2])], axis=2)


# Denoising of one 8-bit RGB picture.


def median(pixels: Pixels, step: Median) -> Pixels:
    """The median of a square around each pixel, by channel."""
    return np.asarray(cv2.medianBlur(pixels, step.size), np.uint8)


def gaussian(pixels: Pixels, step: Gaussian) -> Pixels:
    """Gaussian blur; the picture is mirrored at its edges."""
    blurred = cv2.GaussianBlur(pixels, (0, 0), step.sigma, borderType=cv2.BORDER_REFLECT_101)
    return np.asarray(blurred, np.uint8)


def bilateral(pixels: Pixels, step: Bilateral) -> Pixels:
    """Weights neighbours by distance and by likeness (Tomasi and Manduchi, 1998)."""
    smooth = cv2.bilateralFilter(pixels, step.diameter, step.sigma_color, step.sigma_space)
    return np.asarray(smooth, np.uint8)


def non_local_means(pixels: Pixels, step: NonLocalMeans) -> Pixels:
    """Averages patches that look alike (Buades, Coll and Morel, 2005), lightness and colour."""
    smooth = cv2.fastNlMeansDenoisingColored(
        np.ascontiguousarray(pixels[..., ::-1]),  # it takes blue for the first channel
        None,
        h=step.strength,
        hColor=step.strength_color,
        templateWindowSize=step.patch,
        searchWindowSize=step.search,
    )
    return np.ascontiguousarray(smooth[..., ::-1], np.uint8)
