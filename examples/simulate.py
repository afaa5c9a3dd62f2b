"""Simulated fluorescence fields of cell nuclei with exactly known outlines.

A field goes the way of a real exposure: nuclei emit light, some lie outside the focal plane, the
lens blurs and darkens towards its corners, photons arrive at random, the camera adds an offset
and read noise. The label map is drawn before any of that. The same seed gives the same bytes.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from scipy import ndimage

Image = npt.NDArray[np.float64]
LabelMap = npt.NDArray[np.uint16]


@dataclass(frozen=True, slots=True)
class Optics:
    """Lens and camera.

    Attributes:
        psf_sigma: Standard deviation of the point spread in focus, pixels.
        defocus_sigma: The same for light from outside the focal plane, pixels.
        vignetting: Share of the light that is lost in the corners, 0…1.
        photons: Mean photons a pixel from a nucleus of brightness 1; fewer = noisier.
        read_noise: Standard deviation of the camera's own noise, photons.
        offset: Camera reading without any light, as a share of full scale.
        bits: 8 or 16.
    """

    psf_sigma: float = 1.2
    defocus_sigma: float = 9.0
    vignetting: float = 0.25
    photons: float = 120.0
    read_noise: float = 2.5
    offset: float = 0.03
    bits: int = 8


MICROSCOPE = Optics()


@dataclass(frozen=True, slots=True)
class Field:
    """A simulated picture and its truth.

    Attributes:
        pixels: HxW, uint8 or uint16 by `Optics.bits`.
        label_map: HxW uint16, 0 = no nucleus, 1…n = nuclei without gaps.
    """

    pixels: npt.NDArray[np.unsignedinteger]
    label_map: LabelMap

    @property
    def nuclei(self) -> int:
        """How many nuclei the field shows."""
        return int(self.label_map.max())


def render_field(
    seed: int,
    *,
    size_hw: tuple[int, int] = (256, 256),
    nuclei: int = 24,
    touching: float = 0.3,
    radius: float = 11.0,
    optics: Optics = MICROSCOPE,
) -> Field:
    """Renders one field.

    Args:
        seed: Decides everything that is random.
        size_hw: (height, width) in pixels.
        nuclei: How many to place; fewer appear where there is no room.
        touching: Share of the nuclei that are set against a neighbour, 0…1.
        radius: Mean radius of a nucleus, pixels.
        optics: Lens and camera.

    Raises:
        ValueError: A size, count or bit depth that no picture can have.
    """
    if min(size_hw) < 4 * radius or nuclei < 0 or optics.bits not in (8, 16):
        raise ValueError(
            f"need sides ≥ {4 * radius:g}, nuclei ≥ 0 and bits 8 or 16, "
            f"got {size_hw}, {nuclei} and {optics.bits}"
        )
    rng = np.random.default_rng(seed)
    label_map, emitted = _place(rng, size_hw, nuclei, touching, radius)
    return Field(_expose(rng, emitted, optics), label_map)


def _place(
    rng: np.random.Generator, size_hw: tuple[int, int], count: int, touching: float, radius: float
) -> tuple[LabelMap, Image]:
    """Draws nuclei one by one where there is room; returns labels and emitted light."""
    height, width = size_hw
    label_map = np.zeros(size_hw, np.uint16)
    light = np.zeros(size_hw)
    centres: list[tuple[float, float, float]] = []
    for _ in range(60 * count):
        if len(centres) == count:
            break
        size = radius * rng.uniform(0.75, 1.3)
        beside = bool(centres) and rng.random() < touching
        if beside:
            y0, x0, other = centres[rng.integers(len(centres))]
            angle = rng.uniform(0, 2 * math.pi)
            reach = 0.92 * (size + other)
            y, x = y0 + reach * math.sin(angle), x0 + reach * math.cos(angle)
        else:
            y, x = rng.uniform(0, height), rng.uniform(0, width)
        mask, glow = _nucleus(rng, size_hw, (y, x), size)
        gap = mask if beside else ndimage.binary_dilation(mask, iterations=2)
        covered = np.count_nonzero(label_map[gap])
        if covered > (0.12 * mask.sum() if beside else 0):
            continue
        mask &= label_map == 0
        if not _is_whole(mask) or mask.sum() < 0.3 * math.pi * size**2:
            continue
        centres.append((y, x, size))
        label_map[mask] = len(centres)
        light[mask] = rng.lognormal(0.0, 0.3) * glow[mask]
    return label_map, light


def _nucleus(
    rng: np.random.Generator, size_hw: tuple[int, int], centre: tuple[float, float], radius: float
) -> tuple[npt.NDArray[np.bool_], Image]:
    """One smooth, irregular ellipse: where it is, and how bright each pixel of it shines."""
    y, x = np.ogrid[: size_hw[0], : size_hw[1]]
    dy, dx = y - centre[0], x - centre[1]
    tilt, flat = rng.uniform(0, math.pi), rng.uniform(0.55, 0.95)
    along = (dx * math.cos(tilt) + dy * math.sin(tilt)) * math.sqrt(flat)
    across = (dy * math.cos(tilt) - dx * math.sin(tilt)) / math.sqrt(flat)
    theta = np.arctan2(across, along)
    outline = np.ones(size_hw)
    for wave in (2, 3, 4):
        outline += rng.normal(0, 0.08 / wave) * np.cos(wave * theta + rng.uniform(0, 2 * math.pi))
    rho = np.hypot(along, across) / (radius * outline)
    dome = np.sqrt(np.clip(1 - rho**2, 0, None))
    chromatin = ndimage.gaussian_filter(rng.normal(size=size_hw), 1.6)
    texture = 1 + 0.12 * chromatin / (chromatin.std() + 1e-9)
    return rho <= 1, (0.55 + 0.45 * dome) * np.clip(texture, 0.4, None)


def _is_whole(mask: npt.NDArray[np.bool_]) -> bool:
    return ndimage.label(mask)[1] == 1


def _expose(
    rng: np.random.Generator, emitted: Image, optics: Optics
) -> npt.NDArray[np.unsignedinteger]:
    """From emitted light to camera numbers."""
    size_hw = emitted.shape
    ghosts = np.roll(emitted, rng.integers(20, 200, size=2), axis=(0, 1))
    image = ndimage.gaussian_filter(emitted, optics.psf_sigma)
    image += 0.35 * ndimage.gaussian_filter(ghosts + 0.4 * emitted, optics.defocus_sigma)
    image += 0.04
    y, x = (np.linspace(-1, 1, side) for side in size_hw)
    image *= 1 - optics.vignetting * (y[:, None] ** 2 + x[None, :] ** 2) / 2
    counted = rng.poisson(image * optics.photons) + rng.normal(0, optics.read_noise, size_hw)
    full = 2**optics.bits - 1
    gain = 0.9 / max(2.2 * optics.photons, 1.0)
    reading = np.rint((optics.offset + gain * counted) * full)
    return np.clip(reading, 0, full).astype(np.uint8 if optics.bits == 8 else np.uint16)
