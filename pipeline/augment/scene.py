"""Scene: a picture with all of its segments, changed together."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.masks.rle import read_runs
from schemas.config.augment_steps import CopyPaste, Mosaic
from schemas.records import TASKS, Task

from .chain import Draw, replay
from .steps import Drawn, Size, log_uniform
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


# Steps of `[augment]` that need other pictures: copy-paste and mosaic.


def draw_paste(
    rng: np.random.Generator,
    step: CopyPaste,
    size_hw: Size,
    choices: Sequence[tuple[int, Sequence[int]]],
) -> Drawn:
    """Which segments of another picture are pasted, how large and where.

    Args:
        rng: Source of all randomness.
        step: How.
        size_hw: Of the picture that they are pasted on.
        choices: (segment id, bbox_xywh) of those that may be pasted, at least one.

    Returns:
        segments; box_xywh, the rectangle around them in the other picture; size_hw, what it is
        resized to; at_xy, where its corner comes to lie, possibly outside of the frame.
    """
    count = min(int(rng.integers(step.count[0], step.count[1] + 1)), len(choices))
    picked = sorted(rng.choice(len(choices), count, replace=False).tolist())
    boxes = np.array([choices[i][1] for i in picked])
    left, top = boxes[:, :2].min(0).tolist()
    right, bottom = (boxes[:, :2] + boxes[:, 2:]).max(0).tolist()
    width, height = right - left, bottom - top
    factor = log_uniform(rng, step.scale)
    factor = min(factor, 4 * max(size_hw) / max(width, height))  # no patch beyond all measure
    tall, wide = max(1, round(height * factor)), max(1, round(width * factor))
    # Somewhere that at least its middle is in the frame.
    x = int(rng.integers(size_hw[1])) - wide // 2
    y = int(rng.integers(size_hw[0])) - tall // 2
    return {
        "segments": [choices[i][0] for i in picked],
        "box_xywh": [left, top, width, height],
        "size_hw": [tall, wide],
        "at_xy": [x, y],
    }


def paste(scene: Scene, other: Scene, drawn: Mapping[str, Any], labels: Sequence[int]) -> Scene:
    """The scene with segments of another one on top.

    What they cover is taken from the segments below; where several tasks were asked for, the
    pasted pixels bring the labels of every task.

    Args:
        scene: That they are pasted on.
        other: Where they come from, its labels different from the scene's.
        drawn: Of `draw_paste`.
        labels: Of the pasted segments, in `other`.
    """
    cut = {"step": "crop", "box_xywh": drawn["box_xywh"], "size_hw": drawn["size_hw"]}
    patch = other.apply(replay([cut], other.size_hw))
    x, y = drawn["at_xy"]
    height, width = scene.size_hw
    tall, wide = patch.size_hw
    rows, columns = slice(max(y, 0), min(y + tall, height)), slice(max(x, 0), min(x + wide, width))
    inner = (
        slice(rows.start - y, max(rows.stop - y, rows.start - y)),
        slice(columns.start - x, max(columns.stop - x, columns.start - x)),
    )
    outer = (
        slice(rows.start, max(rows.stop, rows.start)),
        slice(columns.start, max(columns.stop, columns.start)),
    )
    wanted = np.zeros(patch.size_hw, np.bool_)
    for own in patch.layers.values():
        for layer in own:
            wanted |= np.isin(layer, labels)
    wanted = wanted[inner]
    pixels = scene.pixels.copy()
    pixels[outer][wanted] = patch.pixels[inner][wanted]
    density = np.array(scene.density_map())
    density[outer][wanted] = patch.density_map()[inner][wanted]
    layers: dict[Task, Layers] = {}
    for task in TASKS:
        if task not in scene.layers and task not in patch.layers:
            continue
        below, above = scene.layers.get(task, ()), patch.layers.get(task, ())
        above = _chosen(above, labels)
        merged = []
        for i in range(max(len(below), len(above))):
            layer = below[i].copy() if i < len(below) else np.zeros(scene.size_hw, np.int32)
            layer[outer][wanted] = above[i][inner][wanted] if i < len(above) else 0
            merged.append(layer)
        layers[task] = tuple(merged)
    return Scene(pixels, layers, density)


def _chosen(layers: Layers, labels: Sequence[int]) -> Layers:
    """Without the segments that were not chosen, in the task that they were chosen from."""
    hits = [np.isin(layer, labels) for layer in layers]
    if not any(hit.any() for hit in hits):
        return layers
    return tuple(np.where(hit, layer, 0) for hit, layer in zip(hits, layers, strict=True))


def draw_mosaic(
    rng: np.random.Generator, step: Mosaic, sizes_hw: Sequence[Size]
) -> tuple[Drawn, list[int]]:
    """Which part of each of four pictures comes to which quarter.

    Args:
        rng: Source of all randomness.
        step: How.
        sizes_hw: Of the four; the first one's is the size of the result.

    Returns:
        center_xy, where the quarters meet, and boxes_xywh, what each quarter (left top, right top,
        left bottom, right bottom) shows of its picture; and which picture that is.
    """
    height, width = sizes_hw[0]
    x = _between(round(width * rng.uniform(*step.center)), width)
    y = _between(round(height * rng.uniform(*step.center)), height)
    order = [int(i) for i in rng.permutation(4)]
    boxes = []
    for place, (tall, wide) in zip(order, _quarters(x, y, height, width), strict=True):
        high, broad = sizes_hw[place]
        zoom = rng.uniform(0.5, 1.0) * min(high / tall, broad / wide)
        box_h, box_w = min(high, max(1, round(tall * zoom))), min(broad, max(1, round(wide * zoom)))
        left, top = rng.integers(broad - box_w + 1), rng.integers(high - box_h + 1)
        boxes.append([int(left), int(top), box_w, box_h])
    return {"center_xy": [x, y], "boxes_xywh": boxes}, order


def mosaic(scenes: Sequence[Scene], drawn: Mapping[str, Any], size_hw: Size) -> Scene:
    """Four scenes as the quarters of one.

    Args:
        scenes: In the order of the quarters, their labels all different.
        drawn: Of `draw_mosaic`.
        size_hw: Of the result.
    """
    x, y = drawn["center_xy"]
    quarters = []
    for scene, box, quarter in zip(
        scenes, drawn["boxes_xywh"], _quarters(x, y, *size_hw), strict=True
    ):
        cut = {"step": "resized_crop", "box_xywh": box, "size_hw": list(quarter)}
        quarters.append(scene.apply(replay([cut], scene.size_hw)))
    layers: dict[Task, Layers] = {}
    for task in TASKS:
        if not any(task in scene.layers for scene in quarters):
            continue
        depth = max(len(scene.layers.get(task, ())) for scene in quarters)
        layers[task] = tuple(
            _joined([_layer(scene, task, i) for scene in quarters]) for i in range(depth)
        )
    return Scene(
        _joined([scene.pixels for scene in quarters]),
        layers,
        _joined([scene.density_map() for scene in quarters]),
    )


def _layer(scene: Scene, task: Task, place: int) -> Any:
    own = scene.layers.get(task, ())
    return own[place] if place < len(own) else np.zeros(scene.size_hw, np.int32)


def _joined(four: Sequence[Any]) -> Any:
    upper, lower = np.concatenate(four[:2], axis=1), np.concatenate(four[2:], axis=1)
    return np.ascontiguousarray(np.concatenate([upper, lower]))


def _quarters(x: int, y: int, height: int, width: int) -> list[Size]:
    return [(y, x), (y, width - x), (height - y, x), (height - y, width - x)]


def _between(value: int, length: int) -> int:
    """Strictly inside, so that no quarter is empty."""
    return min(max(value, 1), length - 1)
