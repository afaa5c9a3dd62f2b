"""AugmentChain: random changes of a picture and its labels; each draw can be done again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from schemas.config.augment import AugmentConfig
from schemas.config.augment_steps import MIXING, AnyStep

from . import steps as colours
from . import steps as moves
from .steps import Boxes, Drawn, Size
from .warp import Floats, Move, Warp

Pixels = npt.NDArray[np.uint8]
Fill = tuple[int, int, int]
Labels = TypeVar("Labels", bound=np.integer[Any])

_NO_BOXES: Boxes = np.empty((0, 4))


@dataclass(frozen=True, slots=True)
class Draw:
    """What happens to one picture. Neighbouring geometric steps are one resampling.

    Attributes:
        input_hw: Height and width of the picture, pixels.
        size_hw: Of the result.
        fill: Red, green, blue of what no pixel reaches.
        stages: Resamplings, and draws of steps that only change values, in order.
        steps: What was drawn for each step.
    """

    input_hw: Size
    size_hw: Size
    fill: Fill
    stages: tuple[Warp | Mapping[str, Any], ...]
    steps: tuple[Drawn, ...]

    def picture(self, pixels: Pixels) -> Pixels:
        """The changed picture.

        Args:
            pixels: HxWx3 uint8 RGB of `input_hw`; is not changed.

        Raises:
            ValueError: It has another size.
        """
        self._check(pixels.shape[:2])
        for stage in self.stages:
            if isinstance(stage, Warp):
                pixels = stage.picture(pixels, self.fill)
            else:
                pixels = colours.recolour(stage, pixels, self.fill)
        return pixels

    def labels(self, label_map: npt.NDArray[Labels], fill: int = 0) -> npt.NDArray[Labels]:
        """The map at the same positions as the picture; values are copied, never mixed.

        Args:
            label_map: HxW integers of `input_hw`; is not changed.
            fill: Of what no pixel reaches, and under rectangles that erase labels.

        Returns:
            The same type.

        Raises:
            ValueError: It has another size.
        """
        self._check(label_map.shape)
        for stage in self.stages:
            if isinstance(stage, Warp):
                label_map = stage.labels(label_map, fill)
            elif stage["step"] == "cutout" and stage["labels"] == "erase":
                label_map = label_map.copy()
                for rows, columns in colours.holes(stage):
                    label_map[rows, columns] = fill
        return label_map

    def density(self) -> float | Floats:
        """Pixels of the original that one of the result stands for; HxW where it varies."""
        whole: float | Floats = 1.0
        for stage in self.stages:
            if isinstance(stage, Warp):
                own = stage.density()
                if isinstance(whole, np.ndarray):
                    x, y = np.indices(stage.source_hw, np.int32, sparse=True)[::-1]
                    at = stage.labels(x + y * np.int32(stage.source_hw[1]), 0)
                    whole = whole.reshape(-1)[at]
                whole = whole * own
        return whole

    def visible(
        self, moved: npt.NDArray[np.integer[Any]], areas: npt.NDArray[np.integer[Any]]
    ) -> npt.NDArray[np.float64]:
        """What share of each segment is left, 0…1; enlarging and shrinking change nothing.

        Args:
            moved: HxW of `size_hw`, what `labels` made of a map of the values 0…n, 0 = none.
            areas: Pixels that the segments 1…n have in the original.

        Returns:
            n shares.
        """
        return visible_shares(moved, areas, self.density())

    def parameters(self) -> list[Drawn]:
        """What was drawn, as plain data: `replay` does it again."""
        return [dict(step) for step in self.steps]

    def forward(self, points_xy: npt.NDArray[np.float64]) -> npt.NDArray[np.float64]:
        """Where Nx2 positions of the original come to lie; elastic steps are left out."""
        for stage in self.stages:
            if isinstance(stage, Warp):
                points_xy = stage.forward(points_xy)
        return points_xy

    def _check(self, size_hw: tuple[int, ...]) -> None:
        if tuple(size_hw) != tuple(self.input_hw):
            raise ValueError(f"drawn for {self.input_hw} pixels, given {tuple(size_hw)}")


class AugmentChain:
    """A chain of steps, each with its own probability.

    Args:
        config: The section.
        steps: Only these of its steps, instead of `config.chain()`.

    Raises:
        ValueError: A step needs other pictures.
    """

    def __init__(self, config: AugmentConfig, steps: Sequence[AnyStep] | None = None) -> None:
        self.steps = tuple(config.chain() if steps is None else steps)
        self.fill = config.fill_rgb
        self.looks_at_objects = any(step.step == "object_crop" for step in self.steps)
        for step in self.steps:
            if step.step in MIXING:
                raise ValueError(f"augment.steps: {step.step} needs other pictures, not done here")

    def draw(
        self, rng: np.random.Generator, size_hw: Size, *, boxes_xyxy: Boxes = _NO_BOXES
    ) -> Draw:
        """What is to happen to one picture.

        Args:
            rng: Source of all randomness.
            size_hw: Height and width of the picture, pixels.
            boxes_xyxy: Nx4, boxes of its objects, for `object_crop`.

        Raises:
            ValueError: The result would be too large.
        """
        size_hw = (int(size_hw[0]), int(size_hw[1]))
        drawn: list[Drawn] = []
        size, boxes = size_hw, np.asarray(boxes_xyxy, np.float64).reshape(-1, 4)
        for step in self.steps:
            if rng.random() >= step.p:
                continue
            if step.step in colours.COLOURS:
                found: Drawn | None = colours.COLOURS[step.step](rng, step, size)
            else:
                found = moves.MOVES[step.step](rng, step, size, boxes)
            if found is None:
                continue
            drawn.append({"step": step.step, **found})
            if step.step in moves.MOVES:
                move, after = moves.move_of(drawn[-1], size)
                boxes = _moved(boxes, Warp.of([move], size, after))
                size = after
        return replay(drawn, size_hw, fill=self.fill)


def replay(steps: Iterable[Mapping[str, Any]], size_hw: Size, *, fill: Fill = (0, 0, 0)) -> Draw:
    """The draw that these parameters describe, as `Draw.parameters` gave them.

    Args:
        steps: In order.
        size_hw: Of the picture they were drawn for.
        fill: Red, green, blue of what no pixel reaches.

    Raises:
        ValueError: A step is unknown or incomplete.
    """
    drawn = [dict(step) for step in steps]
    stages: list[Warp | Mapping[str, Any]] = []
    pending: list[Move] = []
    size_hw = (int(size_hw[0]), int(size_hw[1]))
    begin = size = size_hw
    try:
        for step in drawn:
            if step["step"] in moves.MOVES:
                move, size = moves.move_of(step, size)
                pending.append(move)
                continue
            if step["step"] not in colours.COLOURS:
                raise ValueError(f"unknown step {step['step']!r}")
            if pending:
                stages.append(Warp.of(pending, begin, size))
                pending, begin = [], size
            stages.append(step)
    except (KeyError, TypeError) as error:
        raise ValueError(f"not the parameters of a draw: {error!r}") from error
    if pending:
        stages.append(Warp.of(pending, begin, size))
    return Draw(size_hw, size, fill, tuple(stages), tuple(drawn))


def visible_shares(
    moved: npt.NDArray[np.integer[Any]],
    areas: npt.NDArray[np.integer[Any]],
    density: float | Floats,
) -> npt.NDArray[np.float64]:
    """What share of each segment a map still shows; see `Draw.visible`."""
    weights = density.reshape(-1) if isinstance(density, np.ndarray) else None
    left = np.bincount(moved.reshape(-1), weights, minlength=len(areas) + 1)[1 : len(areas) + 1]
    if weights is None:
        left = left * density
    return np.minimum(left / np.maximum(areas, 1), 1.0)


def _moved(boxes: Boxes, warp: Warp) -> Boxes:
    """Boxes around the four corners of each, after a move."""
    if not len(boxes):
        return boxes
    corners = boxes[:, [[0, 1], [2, 1], [2, 3], [0, 3]]].reshape(-1, 2) - 0.5
    there = warp.forward(corners).reshape(-1, 4, 2) + 0.5
    return np.concatenate([there.min(1), there.max(1)], axis=1)
