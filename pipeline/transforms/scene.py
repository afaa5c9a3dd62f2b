"""Scene: a picture with all of its segments, changed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.rle_batch import read_runs
from schemas.records import Task

from .augment_chain import Draw
from .warp import Floats

Pixels = npt.NDArray[np.uint8]
LabelMap = npt.NDArray[np.int32]
Layers = tuple[LabelMap, ...]


@dataclass(frozen=True, slots=True)
class Scene:
    """What is changed as one.

    Attributes:
        pixels: HxWx3 uint8 RGB.
        layers: Task → label maps, HxW int32, 0 = nothing; more than one where segments overlap.
        density: Pixels of an original that a pixel stands for; HxW float32 where it varies.
    """

    pixels: Pixels
    layers: Mapping[Task, Layers]
    density: float | Floats = 1.0

    @property
    def size_hw(self) -> tuple[int, int]:
        """Height and width, pixels."""
        return self.pixels.shape[0], self.pixels.shape[1]

    @classmethod
    def of(cls, pixels: Pixels, rows: Sequence[Mapping[str, Any]], *, first: int = 1) -> Scene:
        """A picture and its annotation rows, which are numbered from `first`.

        Raises:
            ValueError: A mask is malformed or belongs to a picture of another size.
        """
        height, width = pixels.shape[:2]
        numbers: dict[Task, list[int]] = {}
        for place, row in enumerate(rows):
            numbers.setdefault(row["task"], []).append(place)
        layers: dict[Task, Layers] = {
            task: _layers([rows[i]["rle"]["counts"] for i in own], own, first, height, width)
            for task, own in numbers.items()
        }
        return cls(pixels, layers)

    def apply(self, draw: Draw) -> Scene:
        """The scene after a draw: one resampling for everything.

        Raises:
            ValueError: The draw is for another size.
        """
        density = self.density
        if isinstance(density, np.ndarray):
            height, width = self.size_hw
            places = draw.labels(np.arange(height * width, dtype=np.int32).reshape(height, width))
            density = density.reshape(-1)[places]
        return Scene(
            draw.picture(self.pixels),
            {task: tuple(map(draw.labels, own)) for task, own in self.layers.items()},
            density * draw.density(),
        )

    def density_map(self) -> Floats:
        """The density of every pixel, HxW."""
        return np.broadcast_to(np.float32(self.density), self.size_hw)


def _layers(
    texts: Sequence[str], places: Sequence[int], first: int, height: int, width: int
) -> Layers:
    pixels = height * width
    runs = read_runs(pa.array(texts, pa.string()), np.full(len(texts), pixels, np.int64))
    if not runs.wellformed.all():
        bad = places[int(np.flatnonzero(~runs.wellformed)[0])]
        raise ValueError(f"segment {bad + 1} has a malformed RLE for {width}x{height} pixels")
    labels = np.asarray(places, np.int32)[runs.mask] + np.int32(first)
    order = np.argsort(runs.starts, kind="stable")
    starts, ends, values = runs.starts[order], runs.ends[order], labels[order]
    if not (starts[1:] < ends[:-1]).any():
        flat = np.zeros(pixels, np.int32)
        _fill(flat, starts, ends, values)
        return (_upright(flat, height, width),)
    # Painted over one another; those that nothing covers are whole and make a layer.
    out: list[LabelMap] = []
    starts, ends = runs.starts, runs.ends
    areas = np.bincount(labels, (ends - starts))
    while len(labels):
        flat = np.zeros(pixels, np.int32)
        for start, end, label in zip(starts.tolist(), ends.tolist(), labels.tolist(), strict=True):
            flat[start:end] = label
        whole = np.bincount(flat, minlength=len(areas)) == areas
        whole[0] = False
        flat[~whole[flat]] = 0
        out.append(_upright(flat, height, width))
        left = ~whole[labels]
        starts, ends, labels = starts[left], ends[left], labels[left]
    return tuple(out)


def _fill(flat: LabelMap, starts: Any, ends: Any, values: LabelMap) -> None:
    """Paints runs that are ascending and do not overlap."""
    if not len(starts):
        return
    gaps = starts - np.append(0, ends[:-1])
    lengths = np.empty(2 * len(starts), np.int64)
    lengths[::2], lengths[1::2] = gaps, ends - starts
    both = np.zeros(2 * len(starts), np.int32)
    both[1::2] = values
    painted = np.repeat(both, lengths)
    flat[: len(painted)] = painted


def _upright(flat: LabelMap, height: int, width: int) -> LabelMap:
    return np.ascontiguousarray(flat.reshape(width, height).T)
