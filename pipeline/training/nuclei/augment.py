"""Random geometry and random intensity: one picture, its maps, one resampling.

A draw is a frozen value that can be stored and applied again. Geometry is applied as a single
`cv2.remap` per plane, however many rotations, zooms and bends it combines, so a mask is
interpolated once and stays aligned with its picture.
"""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Geometry:
    """Where output pixels come from; the default is the identity.

    Attributes:
        angle: Rotation, radians.
        zoom: > 1 enlarges.
        stretch: Extra zoom along x and shrinking along y, 1 = none.
        flip: Mirror left to right.
        bend: Control points of an elastic displacement: Gy x Gx x 2 (dx, dy) in output pixels,
            spread evenly over the output; empty = none.
    """

    angle: float = 0.0
    zoom: float = 1.0
    stretch: float = 1.0
    flip: bool = False
    bend: Floats | None = None


def draw_geometry(
    rng: np.random.Generator,
    *,
    zoom: tuple[float, float] = (0.6, 1.8),
    stretch: float = 0.15,
    bend: float = 6.0,
) -> Geometry:
    """A random geometry: any angle, either hand, log-uniform zoom.

    Args:
        rng: Source of all randomness.
        zoom: Least and largest zoom.
        stretch: Largest change of aspect, as a fraction.
        bend: Standard deviation of the elastic control points, output pixels; used in half of the
            draws.
    """
    points = None
    if bend > 0 and rng.random() < 0.5:
        points = rng.normal(0, bend * rng.random(), (7, 7, 2)).astype(np.float32)
    quarter = rng.integers(4) * np.pi / 2
    return Geometry(
        angle=float(quarter + (rng.uniform(-np.pi, np.pi) if rng.random() < 0.6 else 0.0)),
        zoom=float(np.exp(rng.uniform(*np.log(zoom)))),
        stretch=float(np.exp(rng.uniform(-stretch, stretch))),
        flip=bool(rng.random() < 0.5),
        bend=points,
    )


def source_grid(
    geometry: Geometry, *, center_xy: tuple[float, float], size_hw: tuple[int, int]
) -> Floats:
    """HxWx2 float32 (x, y): for each output pixel, the source pixel it shows.

    Args:
        geometry: What to do.
        center_xy: Source position (pixel centres at integers) of the output's centre.
        size_hw: Of the output.
    """
    height, width = size_hw
    y, x = np.mgrid[:height, :width].astype(np.float32)
    x -= (width - 1) / 2
    y -= (height - 1) / 2
    if geometry.bend is not None:
        bend = cv2.resize(geometry.bend, (width, height), interpolation=cv2.INTER_CUBIC)
        x += bend[..., 0]
        y += bend[..., 1]
    x /= geometry.zoom * geometry.stretch * (-1 if geometry.flip else 1)
    y /= geometry.zoom / geometry.stretch
    cos, sin = np.cos(geometry.angle), np.sin(geometry.angle)
    if abs(sin) < 1e-12 or abs(cos) < 1e-12:  # exact for quarter turns
        cos, sin = round(cos), round(sin)
    grid = np.empty((height, width, 2), np.float32)
    grid[..., 0] = cos * x - sin * y + center_xy[0]
    grid[..., 1] = sin * x + cos * y + center_xy[1]
    return grid


def warp(plane: npt.NDArray, grid: Floats, *, nearest: bool = False) -> npt.NDArray:
    """Resamples a picture or map at `grid`; outside, the picture is mirrored.

    Args:
        plane: HxW or HxWxC, uint8, uint16, int16 or float32.
        grid: From `source_grid`.
        nearest: Copy values (label maps) instead of interpolating them.
    """
    return cv2.remap(
        plane,
        grid[..., 0],
        grid[..., 1],
        cv2.INTER_NEAREST if nearest else cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    )


@dataclass(frozen=True, slots=True)
class Intensity:
    """How colours and sharpness change; the default is the identity.

    Attributes:
        gamma: Exponent on values stretched to 0…1.
        dyes: Factors on the optical densities of haematoxylin, eosin and the rest, see
            `_change_dyes`; None = as they are.
        mix: 3x3, output channels from input channels (rows); None = identity.
        dark_bright: 2x3, the colours that 0 and 1 become; None = as they are.
        shading: Gy x Gx, log of an illumination that varies over the picture; None = even.
        blur: Gaussian sigma, pixels.
        sharpen: Weight of an unsharp mask.
        coarsen: > 1: shrink by this factor and enlarge again.
        noise: Standard deviation of additive noise, 0…1.
        shot: Standard deviation of noise that grows with the root of the signal, at 1.
        display: The 8-bit values that 0 and 1 are written as.
        jpeg: Quality to compress with, 0 = not at all.
        seed: Of the noise.
    """

    gamma: float = 1.0
    dyes: Floats | None = None
    mix: Floats | None = None
    dark_bright: Floats | None = None
    shading: Floats | None = None
    blur: float = 0.0
    sharpen: float = 0.0
    coarsen: float = 1.0
    noise: float = 0.0
    shot: float = 0.0
    display: tuple[float, float] = (0.0, 255.0)
    jpeg: int = 0
    seed: int = 0


def draw_intensity(
    rng: np.random.Generator, *, recolour: float = 0.25, stained: bool = False
) -> Intensity:
    """A random intensity change.

    Args:
        rng: Source of all randomness.
        recolour: Probability that darkness and brightness get two random colours (grey, inverted,
            tinted or stain-like).
        stained: The picture shows dyes on a bright ground, whose amounts may change too.
    """

    def chance(probability: float) -> bool:
        return bool(rng.random() < probability)

    dyes = None
    if stained and chance(0.6):
        dyes = np.exp(rng.normal(0, 0.35, 3)).astype(np.float32)
    mix = None
    if chance(0.3 if stained else 0.5):
        mix = np.eye(3) + rng.normal(0, 0.12, (3, 3))
        if chance(0.3):
            mix = rng.dirichlet((2.0, 2.0, 2.0), 1).repeat(3, 0)
        elif chance(0.2):
            mix = mix[rng.permutation(3)]
        mix = mix.astype(np.float32)
    dark_bright = None
    if chance(recolour):
        dark_bright = _colour_pair(rng)
    low = 255 * rng.uniform(0, 0.3) if chance(0.4) else rng.uniform(0, 12)
    high = min(255.0, low + np.exp(rng.uniform(np.log(20), np.log(255))))
    return Intensity(
        gamma=float(np.exp(rng.normal(0, 0.35))) if chance(0.7) else 1.0,
        dyes=dyes,
        mix=mix,
        dark_bright=dark_bright,
        shading=rng.normal(0, 0.35 * rng.random(), (4, 4)).astype(np.float32)
        if chance(0.3)
        else None,
        blur=float(rng.uniform(0.3, 2.0)) if chance(0.25) else 0.0,
        sharpen=float(rng.uniform(0.2, 1.5)) if chance(0.1) else 0.0,
        coarsen=float(rng.uniform(1.2, 2.5)) if chance(0.1) else 1.0,
        noise=float(np.exp(rng.uniform(np.log(0.004), np.log(0.12)))) if chance(0.5) else 0.0,
        shot=float(np.exp(rng.uniform(np.log(0.01), np.log(0.25)))) if chance(0.3) else 0.0,
        display=(float(low), float(high)) if chance(0.7) else (0.0, 255.0),
        jpeg=int(rng.integers(35, 96)) if chance(0.2) else 0,
        seed=int(rng.integers(2**31)),
    )


def _colour_pair(rng: np.random.Generator) -> Floats:
    kind = rng.integers(4)
    if kind == 0:  # dark nuclei on a bright ground, grey
        pair = np.array([[0.95] * 3, [0.1] * 3]) + rng.normal(0, 0.04, (2, 1))
    elif kind == 1:  # one dye on black
        pair = np.array([[0.0] * 3, rng.uniform(0, 1, 3)])
        pair[1, rng.integers(3)] = 1.0
    elif kind == 2:  # stain-like: bluish to brownish dark on pale
        pair = np.array([rng.uniform(0.7, 1.0, 3), rng.uniform(0.05, 0.55, 3)])
    else:
        pair = rng.uniform(0, 1, (2, 3))
        if np.abs(pair[1] - pair[0]).max() < 0.4:
            pair = np.array([[0.0] * 3, [1.0] * 3])
    return pair.astype(np.float32)


def recolour_crop(
    pixels: Floats, sample: Floats, intensity: Intensity
) -> tuple[npt.NDArray[np.uint8], Floats]:
    """Applies an intensity change.

    Args:
        pixels: HxWx3 float32, stretched so that most values lie in 0…1.
        sample: Nx3 float32, pixels of the whole picture on the same scale: they get every change
            that acts on single pixels, and so tell what the whole picture's percentiles became.
        intensity: What to do.

    Returns:
        HxWx3 uint8 and Nx3 float32 on the scale of 0…255.
    """
    height, width = pixels.shape[:2]
    flat = np.concatenate([pixels.reshape(-1, 3), sample])
    if intensity.dyes is not None:
        flat = _change_dyes(flat, intensity.dyes)
    if intensity.mix is not None:
        flat = cv2.transform(flat[None], intensity.mix)[0]  # one thread, unlike a BLAS product
    np.clip(flat, 0.0, 4.0, out=flat)
    if intensity.gamma != 1.0:
        np.power(flat, intensity.gamma, out=flat)
    if intensity.dark_bright is not None:
        dark, bright = intensity.dark_bright
        grey = np.minimum(flat.mean(1, keepdims=True), 1.5)
        flat = dark + grey * (bright - dark)
    out = np.ascontiguousarray(flat[: height * width].reshape(height, width, 3))
    sample = flat[height * width :]
    out = _degrade(out, intensity)
    low, high = intensity.display
    np.multiply(out, high - low, out=out)
    out += low
    eight = np.clip(np.rint(out, out=out), 0, 255).astype(np.uint8)
    if intensity.jpeg:
        _, data = cv2.imencode(".jpg", eight, [cv2.IMWRITE_JPEG_QUALITY, intensity.jpeg])
        decoded = cv2.imdecode(data, cv2.IMREAD_COLOR)
        eight = np.asarray(decoded, np.uint8)
    return eight, np.clip(sample * (high - low) + low, 0, 255)


_DYES = np.array([[0.65, 0.70, 0.29], [0.07, 0.99, 0.11], [0.27, 0.57, 0.78]], np.float32)
_DYES /= np.linalg.norm(_DYES, axis=1, keepdims=True)
"""Optical density of haematoxylin, eosin and DAB in red, green and blue, each of length 1.

Ruifrok and Johnston, Quantification of histochemical staining by color deconvolution, 2001.
"""


def _change_dyes(flat: Floats, factors: Floats) -> Floats:
    """More or less of each dye: densities add, so they are scaled in the basis of the dyes."""
    density = -np.log(np.clip(flat, 0.01, None))
    change = np.linalg.inv(_DYES) @ np.diag(factors) @ _DYES
    return np.exp(-cv2.transform(density[None], change.T.astype(np.float32))[0])


def _degrade(out: Floats, intensity: Intensity) -> Floats:
    height, width = out.shape[:2]
    if intensity.shading is not None:
        shading = cv2.resize(intensity.shading, (width, height), interpolation=cv2.INTER_CUBIC)
        out *= np.exp(shading)[..., None]
    if intensity.coarsen > 1:
        small = (max(1, int(width / intensity.coarsen)), max(1, int(height / intensity.coarsen)))
        out = _floats(
            cv2.resize(
                _floats(cv2.resize(out, small, interpolation=cv2.INTER_AREA)), (width, height)
            )
        )
    if intensity.blur:
        out = _floats(cv2.GaussianBlur(out, (0, 0), intensity.blur))
    if intensity.sharpen:
        out = _floats(out + intensity.sharpen * (out - cv2.GaussianBlur(out, (0, 0), 1.5)))
    if intensity.noise or intensity.shot:
        rng = np.random.default_rng(intensity.seed)
        # Grey cameras have one noise for all channels, colour cameras one each.
        channels = 1 if intensity.seed % 2 else 3
        noise = rng.standard_normal((height, width, channels), dtype=np.float32)
        scale = intensity.noise**2 + intensity.shot**2 * np.maximum(out, 0) * 0.25
        out = _floats(out + noise * np.sqrt(scale))
    return out


def _floats(values: npt.ArrayLike) -> Floats:
    return np.asarray(values, np.float32)
