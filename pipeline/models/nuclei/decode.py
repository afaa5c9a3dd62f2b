"""From the net's maps to nuclei: seeds from the distance map, grown by a watershed."""

from __future__ import annotations

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.tiling.grid import TileEdge

Floats = npt.NDArray[np.float32]

_WHOLE = TileEdge()


@dataclass(frozen=True, slots=True)
class Decoding:
    """How maps become nuclei. The values are tuned on the validation split.

    Attributes:
        interior: Least probability of a nucleus pixel.
        seed: Least normalised distance (0 at the rim, 1 in the middle) of a seed pixel.
        touch: Largest probability, of lying between two nuclei, of a seed pixel; 1 = any.
        min_area: Smaller nuclei are dropped, pixels.
        min_score: Nuclei with a lower mean interior probability are dropped.
        min_best: Where no nucleus of the picture reaches this, none is one: in pebbles and lamps
            some look a little like nuclei, in tissue some look very much so. Not asked of tiles.
    """

    interior: float = 0.5
    seed: float = 0.5
    touch: float = 1.0
    min_area: int = 24
    min_score: float = 0.75
    min_best: float = 0.0


def decode_nuclei(
    maps: Floats, decoding: Decoding, *, edge: TileEdge = _WHOLE
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    """Cuts the interior into nuclei.

    Args:
        maps: 3xHxW in 0…1: probability of a nucleus; probability of lying between two touching
            nuclei; distance to the nucleus's rim over its largest.
        decoding: Thresholds.
        edge: Of the tile whose maps these are: what it cuts is judged once it is whole.

    Returns:
        HxW int32, 0 = none, 1…n in scan order of the seeds; and n scores: the mean interior
        probability over each nucleus, rounded to 4 decimals.
    """
    interior, touch, distance = maps
    inside = interior > decoding.interior
    _, blobs = _components(inside)
    seed = inside & (distance > decoding.seed) & (touch <= decoding.touch)
    found, seeds = _components(seed)
    label_map = _grow(blobs, seeds, found, distance)
    return _keep(label_map, interior, decoding, edge=edge)


def _components(mask: npt.NDArray[np.bool_]) -> tuple[int, npt.NDArray[np.int32]]:
    count, numbers = cv2.connectedComponents(mask.view(np.uint8), connectivity=4, ltype=cv2.CV_32S)
    return count, numbers.astype(np.int32, copy=False)


def _grow(
    blobs: npt.NDArray[np.int32], seeds: npt.NDArray[np.int32], found: int, distance: Floats
) -> npt.NDArray[np.int32]:
    """A blob with one seed is one nucleus, with none as well; only the others need a watershed."""
    count = int(blobs.max()) + 1
    blob_of_seed = np.zeros(found, np.int64)
    at = np.flatnonzero(seeds)
    blob_of_seed[seeds.ravel()[at]] = blobs.ravel()[at]
    seeds_in_blob = np.bincount(blob_of_seed[1:], minlength=count)
    whole = np.zeros(count, np.int32)
    numbers = np.arange(1, found, dtype=np.int32)
    single = seeds_in_blob[blob_of_seed[1:]] == 1
    whole[blob_of_seed[1:][single]] = numbers[single]
    seedless = np.flatnonzero(seeds_in_blob[1:] == 0) + 1
    whole[seedless] = found + np.arange(len(seedless), dtype=np.int32)
    label_map = whole[blobs]
    crowded = seeds_in_blob > 1
    crowded[0] = False
    if crowded.any():
        from skimage.segmentation import watershed

        mask = crowded[blobs]
        box = _box(mask)  # what lies around it takes time and changes nothing
        mask = mask[box]
        cut = watershed(-distance[box], np.where(mask, seeds[box], 0), mask=mask)
        np.copyto(label_map[box], cut, where=mask, casting="same_kind")
    return label_map


def _box(mask: npt.NDArray[np.bool_]) -> tuple[slice, slice]:
    """The smallest one around the pixels of a mask that has some."""
    x, y, width, height = cv2.boundingRect(mask.view(np.uint8))
    return slice(y, y + height), slice(x, x + width)


def _keep(
    label_map: npt.NDArray[np.int32], interior: Floats, decoding: Decoding, *, edge: TileEdge
) -> tuple[npt.NDArray[np.int32], npt.NDArray[np.float64]]:
    flat = label_map.ravel()
    at = np.flatnonzero(flat)
    labels = flat[at]
    area = np.bincount(labels, minlength=1)
    total = np.bincount(labels, weights=interior.ravel()[at], minlength=1)
    score = np.round(total / np.maximum(area, 1), 4).clip(0, 1)
    keep = (area >= decoding.min_area) & (score >= decoding.min_score) & (area > 0)
    if edge == _WHOLE and score[keep].max(initial=0.0) < decoding.min_best:
        keep[:] = False
    keep[edge.labels(label_map)] = True
    keep[0] = False
    number = np.cumsum(keep, dtype=np.int32) * keep
    numbered = np.zeros_like(flat)
    numbered[at] = number[labels]
    return numbered.reshape(label_map.shape), score[keep]
