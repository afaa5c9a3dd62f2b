"""Denoising of one 8-bit RGB picture."""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

from schemas.preprocess_config import Bilateral, Gaussian, Median, NonLocalMeans

Pixels = npt.NDArray[np.uint8]


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
