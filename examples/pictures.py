"""The demo's pictures: real ones that scikit-image carries, and simulated ones with their truth.

Nothing is downloaded and nothing is copied from elsewhere:

    tissue/     a stained tissue section, cut into tiles; real, without ground truth
    photos/     everyday photographs; real, and known to show no nucleus
    simulated/  fluorescence fields of `examples.simulate`, every nucleus known
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt
import skimage.data

from examples.simulate import MICROSCOPE, render_field

TILE = 256
PHOTOS = ("astronaut", "brick", "camera", "cat", "coffee", "grass", "gravel", "rocket")

Pixels = npt.NDArray[np.unsignedinteger]
LabelMap = npt.NDArray[np.uint16]


def gather(folder: Path, *, fields: int = 8) -> dict[str, LabelMap]:
    """Writes all pictures under `folder`.

    Returns:
        File name → label map, of the pictures whose truth is known. Photographs have an empty
        one.
    """
    truth: dict[str, LabelMap] = {}
    for name, pixels in tissue_tiles():
        write_picture(folder / name, pixels)
    for name, pixels in photographs():
        write_picture(folder / name, pixels)
        truth[name] = np.zeros(pixels.shape[:2], np.uint16)
    for name, pixels, label_map in simulated_fields(fields):
        write_picture(folder / name, pixels)
        truth[name] = label_map
    return truth


def tissue_tiles() -> Iterator[tuple[str, Pixels]]:
    """scikit-image's immunohistochemistry picture (512×512) as four tiles, HWC RGB."""
    picture = skimage.data.immunohistochemistry()
    for y in range(0, picture.shape[0], TILE):
        for x in range(0, picture.shape[1], TILE):
            yield f"tissue/ihc-y{y:03d}-x{x:03d}.png", picture[y : y + TILE, x : x + TILE]


def photographs() -> Iterator[tuple[str, Pixels]]:
    """scikit-image's photographs without any nucleus, HW grey or HWC RGB."""
    for name in PHOTOS:
        yield f"photos/{name}.png", getattr(skimage.data, name)()


def simulated_fields(count: int) -> Iterator[tuple[str, Pixels, LabelMap]]:
    """Fields from sparse to crowded and from bright to dim; every fourth is a 16-bit TIFF."""
    for seed in range(1, count + 1):
        deep = seed % 4 == 0
        optics = replace(MICROSCOPE, photons=240 / seed, bits=16 if deep else 8)
        field = render_field(seed, nuclei=8 + 4 * seed, optics=optics)
        yield (
            f"simulated/field-{seed:02d}.{'tif' if deep else 'png'}",
            field.pixels,
            field.label_map,
        )


def write_picture(path: Path, pixels: Pixels) -> None:
    """Writes HW or HWC RGB, 8 or 16 bit, in the format that the suffix names."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if not cv2.imwrite(str(path), pixels[..., ::-1] if pixels.ndim == 3 else pixels):
        raise OSError(f"cannot write {path}")
