"""Other stains than the training pictures show: the nuclei of a crop, painted anew as tissue.

Real outlines keep their shapes and neighbours; colours, cytoplasm, membranes and fibres are drawn.
Teaches that a nucleus may be paler than what surrounds it, as in membrane-stained tissue.
"""

from __future__ import annotations

import cv2
import numpy as np
import numpy.typing as npt

Floats = npt.NDArray[np.float32]

# nucleus, cytoplasm, ground, membrane: RGB of four stains in 0…1
_STAINS = np.array(
    [
        # membrane in brown, nuclei in blue
        [(0.53, 0.58, 0.76), (0.70, 0.54, 0.34), (0.88, 0.88, 0.90), (0.38, 0.22, 0.10)],
        # nuclei in brown
        [(0.45, 0.28, 0.15), (0.80, 0.80, 0.88), (0.92, 0.92, 0.93), (0.65, 0.65, 0.75)],
        # haematoxylin and eosin
        [(0.42, 0.30, 0.60), (0.86, 0.60, 0.76), (0.93, 0.85, 0.91), (0.75, 0.40, 0.62)],
        # nuclei in blue alone
        [(0.45, 0.52, 0.75), (0.82, 0.82, 0.88), (0.91, 0.91, 0.92), (0.65, 0.66, 0.78)],
    ],
    np.float32,
)


def restain(label_map: npt.NDArray[np.uint16], pixels: Floats, rng: np.random.Generator) -> Floats:
    """Paints a crop as stained tissue.

    Args:
        label_map: HxW, 0 = none.
        pixels: HxWx3, the crop as it was; lends its texture to the nuclei.
        rng: Source of all randomness.

    Returns:
        HxWx3 float32 in 0…1.
    """
    size = label_map.shape
    stain = _STAINS[int(rng.choice(4, p=(0.45, 0.15, 0.2, 0.2)))]
    nucleus, cytoplasm, ground, membrane = stain + rng.normal(0, 0.05, (4, 3)).astype(np.float32)
    tissue = np.clip((_noise(rng, size, (2, 3, 5)) + rng.normal(0.2, 0.8)) * 4, 0, 1)[..., None]
    fibres = _fibres(rng, size)
    out = ground + (cytoplasm - ground) * tissue
    lines = _between_nuclei(label_map, rng) * (0.15 + 0.85 * tissue)
    out = out + (membrane - out) * np.clip(lines * rng.uniform(0.2, 1.2), 0, 1)
    out *= np.exp(fibres * rng.uniform(0.02, 0.16))[..., None]
    out += _noise(rng, size, (64, 128))[..., None] * rng.uniform(0, 0.05)
    count = int(label_map.max()) + 1
    shade = np.exp(rng.normal(0, 0.10, count)).astype(np.float32)
    strength = np.clip(rng.normal(rng.uniform(0.65, 1.0), 0.12, count), 0.35, 1).astype(np.float32)
    inside = (label_map > 0).astype(np.float32) * strength[label_map]
    inside = cv2.GaussianBlur(inside, (0, 0), rng.uniform(0.4, 1.2))[..., None]
    body = (
        nucleus * shade[label_map][..., None] * np.exp(_texture(label_map, pixels, rng))[..., None]
    )
    return np.clip(out + (body - out) * inside, 0, 1).astype(np.float32)


def _noise(rng: np.random.Generator, size: tuple[int, ...], cells: tuple[int, ...]) -> Floats:
    """Smooth noise of several scales, standard deviation about 1."""
    out = np.zeros(size, np.float32)
    for cell in cells:
        coarse = rng.standard_normal((cell, cell), dtype=np.float32)
        out += cv2.resize(coarse, size[::-1], interpolation=cv2.INTER_CUBIC)
    return out / np.float32(np.sqrt(len(cells)) * 0.8)


def _fibres(rng: np.random.Generator, size: tuple[int, ...]) -> Floats:
    """Noise drawn out along one direction, gently bent."""
    height, width = size
    coarse = rng.standard_normal((12, 96), dtype=np.float32)
    wide = cv2.resize(coarse, (2 * width, 2 * height), interpolation=cv2.INTER_CUBIC)
    angle = rng.uniform(0, np.pi)
    y, x = np.mgrid[:height, :width].astype(np.float32)
    bend = _noise(rng, size, (3, 4)) * np.float32(rng.uniform(0, 12))
    x, y = x - width / 2, y - height / 2
    across = np.cos(angle) * x - np.sin(angle) * y + bend + width
    along = np.sin(angle) * x + np.cos(angle) * y + height
    return cv2.remap(
        wide,
        across.astype(np.float32),
        along.astype(np.float32),
        cv2.INTER_LINEAR,
        borderMode=cv2.BORDER_REFLECT_101,
    ).astype(np.float32)


def _between_nuclei(label_map: npt.NDArray[np.uint16], rng: np.random.Generator) -> Floats:
    """Cell membranes: where the nearest nucleus changes."""
    ground = (label_map == 0).astype(np.uint8)
    if not ground.any() or ground.all():
        return np.zeros((*label_map.shape, 1), np.float32)
    _, nearest = cv2.distanceTransformWithLabels(
        ground, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_CCOMP
    )
    cells = nearest.astype(np.float32)
    window = np.ones((3, 3), np.uint8)
    edge = (cv2.dilate(cells, window) != cv2.erode(cells, window)).astype(np.float32)
    lines = cv2.GaussianBlur(edge, (0, 0), rng.uniform(0.7, 2.0))
    return lines[..., None].astype(np.float32)


def _texture(label_map: npt.NDArray[np.uint16], pixels: Floats, rng: np.random.Generator) -> Floats:
    """The crop's own chromatin, weak, plus speckle."""
    grey = pixels.mean(2)
    own = np.zeros(label_map.shape, np.float32)
    inside = label_map > 0
    if inside.any():
        smooth = cv2.GaussianBlur(grey, (0, 0), 4)
        detail = grey - smooth
        spread = float(detail[inside].std()) + 1e-3
        own = np.clip(detail / spread, -2.5, 2.5) * rng.uniform(0, 0.12)
    return (own + _noise(rng, label_map.shape, (48, 96)) * rng.uniform(0.01, 0.1)).astype(
        np.float32
    )
