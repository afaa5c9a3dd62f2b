"""Pictures in which nothing must be found, drawn at random: textures, text, lines, empty fields."""

from __future__ import annotations

import string
from collections.abc import Callable

import cv2
import numpy as np
import numpy.typing as npt

# Other stains than the training pictures show: the nuclei of a crop, painted anew as tissue.
#
# Real outlines keep their shapes and neighbours; colours, cytoplasm, membranes and fibres are
# drawn. Teaches that a nucleus may be paler than what surrounds it, as in membrane-stained tissue.

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


def draw_negative(rng: np.random.Generator, size: int) -> Floats:
    """A random picture without nuclei, size x size x 3 float32 in 0…1."""
    kind = _KINDS[int(rng.integers(len(_KINDS)))]
    grey = np.clip(kind(rng, size), 0, 1)
    if rng.random() < 0.5:
        grey = 1 - grey
    return np.repeat(grey[..., None], 3, 2).astype(np.float32)


def _empty(rng: np.random.Generator, size: int) -> Floats:
    return np.full((size, size), rng.random() * 0.1, np.float32)


def _gradient(rng: np.random.Generator, size: int) -> Floats:
    corners = rng.random((2, 2)).astype(np.float32)
    return cv2.resize(corners, (size, size), interpolation=cv2.INTER_LINEAR).astype(np.float32)


def _background_texture(rng: np.random.Generator, size: int) -> Floats:
    """Noise of several scales, as in grass, gravel, walls and cloth."""
    out = np.zeros((size, size), np.float32)
    for cells in (4, 8, 16, 32, 64, 128):
        shape = (cells, max(2, int(cells * np.exp(rng.normal(0, 0.5)))))
        noise = rng.normal(0, 1, shape).astype(np.float32)
        weight = rng.random() * cells ** -rng.uniform(0, 0.6)
        out += weight * cv2.resize(noise, (size, size), interpolation=cv2.INTER_CUBIC)
    return (0.5 + out * (0.25 / max(float(out.std()), 1e-3))).astype(np.float32)


def _lines(rng: np.random.Generator, size: int) -> Floats:
    out = np.full((size, size), rng.random() * 0.3, np.float32)
    for _ in range(int(rng.integers(3, 40))):
        ends = rng.integers(-size // 2, size * 3 // 2, 4).tolist()
        value, thick = float(rng.uniform(0.3, 1)), int(rng.integers(1, 12))
        cv2.line(out, (ends[0], ends[1]), (ends[2], ends[3]), value, thick, cv2.LINE_AA)
    return out


def _bricks(rng: np.random.Generator, size: int) -> Floats:
    out = np.full((size, size), 0.2, np.float32)
    height = int(rng.integers(12, 60))
    width = int(height * rng.uniform(1.5, 4))
    gap = int(rng.integers(1, 6))
    for row, top in enumerate(range(0, size, height)):
        for left in range(-(row % 2) * width // 2, size, width):
            value = float(rng.uniform(0.4, 0.9))
            corner = (left + width - gap, top + height - gap)
            cv2.rectangle(out, (left, top), corner, value, cv2.FILLED)
    return cv2.GaussianBlur(out, (0, 0), 0.5 + rng.random()).astype(np.float32)


def _text(rng: np.random.Generator, size: int) -> Floats:
    out = np.zeros((size, size), np.uint8)
    letters = list(string.ascii_letters + string.digits + "   .,-")
    scale = float(rng.uniform(0.3, 1.5))
    step = int(40 * scale)
    for top in range(step, size + step, step):
        words = "".join(rng.choice(letters, 60))
        font = int(rng.integers(0, 8))
        origin = (int(rng.integers(-30, 10)), top)
        cv2.putText(out, words, origin, font, scale, 255, int(rng.integers(1, 4)), cv2.LINE_AA)
    return np.float32(1 / 255) * out.astype(np.float32)


def _shapes(rng: np.random.Generator, size: int) -> Floats:
    """Large flat polygons: buildings, paper, cloth."""
    out = np.full((size, size), rng.random(), np.float32)
    for _ in range(int(rng.integers(2, 12))):
        corners = rng.integers(-size // 3, size * 4 // 3, (int(rng.integers(3, 6)), 2))
        cv2.fillPoly(out, [corners.astype(np.int32)], float(rng.random()), cv2.LINE_AA)
    return out


def _pebbles(rng: np.random.Generator, size: int) -> Floats:
    """Packed stones, lit from one side: as round as nuclei, but with no ground between them."""
    spacing = float(np.exp(rng.uniform(np.log(7), np.log(40))))
    points = rng.integers(0, size, (max(4, int((size / spacing) ** 2)), 2))
    ground = np.ones((size, size), np.uint8)
    ground[points[:, 0], points[:, 1]] = 0
    _, nearest = cv2.distanceTransformWithLabels(
        ground, cv2.DIST_L2, cv2.DIST_MASK_5, labelType=cv2.DIST_LABEL_PIXEL
    )
    nearest = nearest.astype(np.int64)
    cells = nearest.astype(np.float32)
    window = np.ones((3, 3), np.uint8)
    inner = (cv2.dilate(cells, window) == cv2.erode(cells, window)).astype(np.uint8)
    depth = cv2.distanceTransform(inner, cv2.DIST_L2, cv2.DIST_MASK_5)
    height = cv2.GaussianBlur(np.sqrt(np.minimum(depth, spacing / 3)), (0, 0), 1.0)
    slope_y, slope_x = np.gradient(height)
    angle = rng.uniform(0, 2 * np.pi)
    value = rng.normal(0.55, rng.uniform(0.03, 0.2), int(nearest.max()) + 1).astype(np.float32)
    light = np.cos(angle) * slope_x + np.sin(angle) * slope_y
    out = value[nearest] + rng.uniform(0.1, 0.8) * light
    out *= 1 - np.exp(-depth / rng.uniform(0.4, 2.0)) * rng.uniform(0.3, 1.0)
    return (out + (_background_texture(rng, size) - 0.5) * rng.uniform(0.05, 0.4)).astype(
        np.float32
    )


def _blades(rng: np.random.Generator, size: int) -> Floats:
    """Grass, straw, fur: short strokes over one another."""
    out = np.full((size, size), rng.uniform(0, 0.3), np.float32)
    lean = rng.uniform(0, np.pi)
    spread = rng.uniform(0.1, 1.5)
    length = rng.uniform(6, 40)
    for _ in range(int(size * size / (length * rng.uniform(2, 6)))):
        x, y = rng.integers(0, size, 2).tolist()
        angle = lean + rng.normal(0, spread)
        end = (int(x + length * np.cos(angle)), int(y + length * np.sin(angle)))
        value = float(np.clip(rng.normal(0.5, 0.2), 0, 1))
        cv2.line(out, (x, y), end, value, int(rng.integers(1, 4)), cv2.LINE_AA)
    return out


_KINDS: tuple[Callable[[np.random.Generator, int], Floats], ...] = (
    _empty,
    _gradient,
    _background_texture,
    _background_texture,
    _lines,
    _bricks,
    _text,
    _shapes,
    _pebbles,
    _pebbles,
    _blades,
)
