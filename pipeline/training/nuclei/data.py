"""Training pictures in memory, and batches of augmented crops drawn from them.

A batch is a pure function of (seed, index): workers need no shared state, and a run that was
killed goes on with the batch that would have come next.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.models.nuclei.predict import picture_range, sample_range
from schemas.names import below

from .augment import draw_geometry, draw_intensity, recolour_crop, source_grid, warp
from .synthetic import draw_negative, restain
from .targets import rim_distance, target_planes

NEGATIVE = "negative"
STAINED = "stained_colour"

_SAMPLE = 2048
"""Pixels that stand for a whole picture when its percentiles are needed."""


@dataclass(frozen=True, slots=True)
class TrainingImage:
    """One picture with its nuclei.

    Attributes:
        name: Id in the index, or file name.
        kind: "fluorescence", "stained_colour", … or `NEGATIVE`.
        levels: HxWx3 uint8 at full, half and quarter size, so that zooming out does not alias.
        label_map: HxW uint16, 0 = none.
        distance: HxW uint8, see `rim_distance`.
        diameter: Median over the nuclei, pixels; 0 where there are none.
        sample: Nx3 float32, random pixels stretched to `range`.
        range: `picture_range` of the whole picture.
        group: Pictures of one field of view share it.
    """

    name: str
    kind: str
    levels: tuple[npt.NDArray[np.uint8], ...]
    label_map: npt.NDArray[np.uint16]
    distance: npt.NDArray[np.uint8]
    diameter: float
    group: str
    range: tuple[float, float]
    sample: npt.NDArray[np.float32]


def read_pictures(folder: Path, split: str) -> list[TrainingImage]:
    """Reads one split of a folder with index.json ({"images": [{image, label, split, kind}…]}).

    Raises:
        ValueError: No index, or no picture of that split.
    """
    index = folder / "index.json"
    if not index.is_file():
        raise ValueError(f"{folder} holds no index.json")
    rows = [r for r in json.loads(index.read_text())["images"] if r["split"] == split]
    if not rows:
        raise ValueError(f"{index} names no picture of the split {split!r}")
    pictures = []
    for row in rows:
        label_map = cv2.imread(below(str(folder), row["label"]), cv2.IMREAD_UNCHANGED)
        if label_map is None:
            raise ValueError(f"{folder / row['label']} cannot be read as a picture")
        pixels = _read_rgb(Path(below(str(folder), row["image"])))
        pictures.append(
            _picture(
                row.get("id", row["image"]),
                row.get("kind", ""),
                pixels,
                label_map.astype(np.uint16),
                row.get("field", row.get("group", row["image"])),
            )
        )
    return pictures


def read_split(folders: Sequence[Path], split: str) -> list[TrainingImage]:
    """One split of several folders, in their order."""
    return [picture for folder in folders for picture in read_pictures(folder, split)]


def read_training(folders: Sequence[Path], negatives: Path | None) -> list[TrainingImage]:
    """The training splits, and the pictures without nuclei, if any."""
    return read_split(folders, "train") + (read_negatives(negatives) if negatives else [])


def read_negatives(folder: Path) -> list[TrainingImage]:
    """Reads every picture of a folder as one that holds no nuclei, in name order."""
    pictures = []
    for path in sorted(
        p for p in folder.iterdir() if p.suffix.lower() in (".jpg", ".jpeg", ".png")
    ):
        pixels = _read_rgb(path)
        empty = np.zeros(pixels.shape[:2], np.uint16)
        pictures.append(_picture(path.name, NEGATIVE, pixels, empty, path.name))
    return pictures


def _read_rgb(path: Path) -> npt.NDArray[np.uint8]:
    pixels = cv2.imread(str(path), cv2.IMREAD_COLOR)
    if pixels is None:
        raise ValueError(f"{path} cannot be read as a picture")
    return cv2.cvtColor(pixels, cv2.COLOR_BGR2RGB).astype(np.uint8)


def _picture(
    name: str,
    kind: str,
    pixels: npt.NDArray[np.uint8],
    label_map: npt.NDArray[np.uint16],
    group: str,
) -> TrainingImage:
    levels = [pixels]
    for factor in (2, 4):
        size = (max(1, pixels.shape[1] // factor), max(1, pixels.shape[0] // factor))
        levels.append(cv2.resize(pixels, size, interpolation=cv2.INTER_AREA).astype(np.uint8))
    area = np.bincount(label_map.ravel())[1:]
    area = area[area > 0]
    diameter = float(np.median(2 * np.sqrt(area / np.pi))) if len(area) else 0.0
    low, high = picture_range(pixels)
    flat = pixels.reshape(-1, 3)
    rows = np.random.default_rng(0).integers(0, len(flat), _SAMPLE)
    return TrainingImage(
        name=name,
        kind=kind,
        levels=tuple(levels),
        label_map=label_map,
        distance=rim_distance(label_map),
        diameter=diameter,
        group=group,
        range=(low, high),
        sample=((flat[rows].astype(np.float32) - low) / (high - low)).astype(np.float32),
    )


class CropBatches:
    """Batch number i of an endless, reproducible stream, for torch's DataLoader.

    Args:
        load: Gives the pictures to draw from. Each worker calls it once: reading them again is
            cheaper than sending them.
        shares: kind → share of the crops; `NEGATIVE` covers photographs and drawn pictures, half
            each.
        restain: Share of the crops with nuclei that are painted anew, see `restain`.
        size: Side of a crop, pixels.
        batch_size: Crops a batch.
        batches: Length of the stream.
        seed: Of everything.
    """

    def __init__(
        self,
        load: Callable[[], list[TrainingImage]],
        *,
        shares: Mapping[str, float],
        restain: float,
        size: int,
        batch_size: int,
        batches: int,
        seed: int,
    ) -> None:
        self._load = load
        self._pictures: list[TrainingImage] = []
        self._shares = dict(shares)
        self._restain = restain
        self._size = size
        self._batch_size = batch_size
        self._batches = batches
        self._seed = seed
        self._drawn = shares.get(NEGATIVE, 0.0) / 2

    def __len__(self) -> int:
        return self._batches

    def __getitem__(self, index: int) -> dict[str, npt.NDArray]:
        """image Bx3xSxS uint8, planes Bx4xSxS uint8 (`target_planes`), range Bx2 float32."""
        if not self._pictures:
            cv2.setNumThreads(1)
            self._pictures = self._load()
            self._odds = _odds(self._pictures, self._shares)
        rng = np.random.default_rng((self._seed, index))
        crops = [self._crop(rng) for _ in range(self._batch_size)]
        return {
            "image": np.stack([crop[0] for crop in crops]).transpose(0, 3, 1, 2),
            "planes": np.stack([crop[1] for crop in crops]),
            "range": np.array([crop[2] for crop in crops], np.float32),
        }

    def _crop(
        self, rng: np.random.Generator
    ) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.uint8], tuple[float, float]]:
        size, stained = self._size, False
        if rng.random() < self._drawn:
            pixels = draw_negative(rng, size)
            nothing = np.zeros((size, size), np.uint16)
            planes = target_planes(nothing, nothing.astype(np.uint8))
            sample = pixels.reshape(-1, 3)[:: max(1, size * size // _SAMPLE)]
        else:
            index = int(rng.choice(len(self._pictures), p=self._odds))
            picture = self._pictures[index]
            pixels, label_map, planes = _cut(picture, size, rng)
            sample, stained = picture.sample, picture.kind == STAINED
            if picture.diameter and rng.random() < self._restain:
                pixels = restain(label_map, pixels, rng)
                sample = pixels.reshape(-1, 3)[:: max(1, size * size // _SAMPLE)]
        intensity = draw_intensity(rng, stained=stained)
        image, changed = recolour_crop(pixels, sample, intensity)
        # A whole picture that looks like this crop, or the picture that it was cut from.
        low, high = picture_range(image) if rng.random() < 0.3 else sample_range(changed)
        span = (high - low) * float(np.exp(rng.normal(0, 0.1)))
        low += span * float(rng.normal(0, 0.02))
        return image, planes, (low, low + span)


def _odds(
    pictures: Sequence[TrainingImage], shares: Mapping[str, float]
) -> npt.NDArray[np.float64]:
    """Fields of view with many pictures, and kinds with many fields, do not drown the others."""
    odds = np.zeros(len(pictures))
    groups: dict[str, int] = {}
    for picture in pictures:
        groups[picture.group] = groups.get(picture.group, 0) + 1
    for kind, share in shares.items():
        own = np.array(
            [(p.kind == kind) * (p.label_map.size**0.25) / groups[p.group] ** 0.5 for p in pictures]
        )
        if own.sum() > 0:
            odds += own / own.sum() * (share / 2 if kind == NEGATIVE else share)
    if odds.sum() == 0:
        raise ValueError(f"no picture is of a kind with a share: {', '.join(shares)}")
    return odds / odds.sum()


def _cut(
    picture: TrainingImage, size: int, rng: np.random.Generator
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.uint16], npt.NDArray[np.uint8]]:
    """A warped crop on the scale 0…1, its label map and target planes.

    Mirrored margins weigh nothing.
    """
    geometry = draw_geometry(rng, zoom=_zooms(picture, rng))
    height, width = picture.label_map.shape
    reach = size / geometry.zoom / 2
    center = _center(picture, reach, rng)
    if rng.random() < 0.6:  # more often than not with a nucleus in the middle, if there is one
        for _ in range(8):
            if picture.label_map[int(center[1]), int(center[0])]:
                break
            center = _center(picture, reach, rng)
    grid = source_grid(geometry, center_xy=center, size_hw=(size, size))
    level = int(np.clip(np.floor(np.log2(1.4 / geometry.zoom)), 0, len(picture.levels) - 1))
    low, high = picture.range
    pixels = warp(picture.levels[level], (grid + 0.5) / 2**level - 0.5).astype(np.float32)
    pixels = (pixels - low) / (high - low)
    label_map = warp(picture.label_map, grid, nearest=True)
    planes = target_planes(label_map, warp(picture.distance, grid))
    planes[3][(grid < 0).any(2) | (grid[..., 0] > width - 1) | (grid[..., 1] > height - 1)] = 0
    return pixels, label_map, planes


def _center(picture: TrainingImage, reach: float, rng: np.random.Generator) -> tuple[float, float]:
    """A place from which a crop sees as little as possible beyond the picture."""
    height, width = picture.label_map.shape
    x, y = (
        rng.uniform(min(reach, side / 2) * 0.9, side - 1 - min(reach, side / 2) * 0.9)
        for side in (width, height)
    )
    return float(np.clip(x, 0, width - 1)), float(np.clip(y, 0, height - 1))


def _zooms(picture: TrainingImage, rng: np.random.Generator) -> tuple[float, float]:
    if picture.diameter == 0:
        return (0.25, 1.5)
    low, high = (0.35, 3.0) if rng.random() < 0.25 else (0.65, 1.6)
    # Nuclei of 7 to 100 pixels: outside, neither people nor the net can tell them.
    least, most = 7 / picture.diameter, 100 / picture.diameter
    low = min(max(low, least), max(most, least))
    return low, max(low * 1.01, min(high, most))
