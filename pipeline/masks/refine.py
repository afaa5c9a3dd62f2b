"""Refiner: what becomes of a model's segments before they are written, for every family alike.

In this order, so that what stays obeys every limit and what is taken away can be filled:

1. `min_score`: segments below go. One without a score counts as certain.
2. `min_island`: pieces of a segment below so many pixels go.
3. `min_area`: segments of fewer pixels, as they are now, go.
4. `max_segments`: of each category the best N stay, by score, then by order.
5. `fill_holes`: enclosed holes of at most so many pixels are filled. In semantic and panoptic
   answers only with pixels that are nobody's now; the smaller hole goes first.
6. The background, if the categories have one, takes the freed pixels of semantic and panoptic
   answers and gives up the filled ones.

The background itself and crowds from a file of prompts pass no limit and are not reshaped.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import groupby

from schemas.categories import Categories
from schemas.config.model import CategoryRefine, ModelConfig, RefineConfig
from schemas.records import Segment, Segmentation, Task
from schemas.suggest import nearest

from .reshape import Reshaping

_NAMED = 20
"""Categories that an error lists at most."""


@dataclass(frozen=True, slots=True)
class _Limits:
    min_score: float
    min_area: int
    max_segments: int


class Refiner:
    """Applies the thresholds of [model] and [refine] to a model's answers.

    Args:
        model: min_score and min_area hold for every category without its own.
        refine: The other limits, and those of single categories.
        categories: Of the answers.
        tasks: What the model is asked; an answer whose segments name no task is of the first.

    Raises:
        ValueError: A limit is for a category that is not in the table, or for the background.
    """

    def __init__(
        self,
        model: ModelConfig,
        refine: RefineConfig,
        categories: Categories,
        tasks: Sequence[Task],
    ) -> None:
        _check_names(refine, categories)
        self._limits = {
            item.id: _limits(model, refine, refine.categories.get(item.name))
            for item in categories
            if not item.is_background
        }
        self._background = next((item.id for item in categories if item.is_background), None)
        self._refine = refine
        self._task: Task = tasks[0]
        self.active = (
            any(limits != _Limits(0.0, 1, 0) for limits in self._limits.values())
            or refine.fill_holes > 0
            or refine.min_island > 0
        )
        """Whether there is anything to do."""

    def refine(self, found: Segmentation) -> Segmentation:
        """The answer for one picture, refined; segments keep their order.

        Raises:
            ValueError: A segment's RLE belongs to another picture size.
        """
        if not self.active or not found.segments:
            return found
        size = found.height, found.width
        refined: list[Segment] = []
        for _, group in groupby(found.segments, key=lambda segment: segment.task):
            segments = list(group)
            refined += self._of_task(segments, segments[0].task or self._task, size)
        return replace(found, segments=tuple(refined))

    def _of_task(self, segments: list[Segment], task: Task, size: tuple[int, int]) -> list[Segment]:
        """The segments of one task."""
        limits = [self._limits_of(segment) for segment in segments]
        state = Reshaping(
            segments,
            size,
            fixed=[item is None for item in limits],
            disjoint=task != "instance",
            background=self._background,
        )
        state.drop(
            item is not None and segment.sure < item.min_score
            for segment, item in zip(segments, limits, strict=True)
        )
        if self._refine.min_island:
            state.drop_islands(self._refine.min_island)
        state.drop(
            item is not None and area < item.min_area
            for area, item in zip(state.area.tolist(), limits, strict=True)
        )
        state.drop(_surplus(segments, limits, state.alive.tolist()))
        if self._refine.fill_holes:
            state.fill_holes(self._refine.fill_holes)
        return state.segments()

    def _limits_of(self, segment: Segment) -> _Limits | None:
        """None: no limit holds for it."""
        return None if segment.iscrowd else self._limits.get(segment.category_id)


def loosest_limits(model: ModelConfig, refine: RefineConfig) -> ModelConfig:
    """The model's options with the lowest limits that any category has.

    A family may apply them early, to save work; a category that sets lower ones of its own must
    not suffer from that.
    """
    own = refine.categories.values()
    scores = [item.min_score for item in own if item.min_score is not None]
    areas = [item.min_area for item in own if item.min_area is not None]
    update = {
        "min_score": min([model.min_score, *scores]),
        "min_area": model.min_area and min([model.min_area, *areas]),
    }
    return model.model_copy(update=update)


def _limits(model: ModelConfig, refine: RefineConfig, own: CategoryRefine | None) -> _Limits:
    """A category's limits: its own, else those of all."""
    given = own or CategoryRefine()
    limits = _Limits(model.min_score, model.min_area or 1, refine.max_segments)
    changes = {key: value for key, value in given.model_dump().items() if value is not None}
    return replace(limits, **changes)


def _check_names(refine: RefineConfig, categories: Categories) -> None:
    known = categories.by_name()
    for name in refine.categories:
        if name not in known:
            names = [other for other in known if not known[other].is_background]
            more = f", … ({len(names)} in all)" if len(names) > _NAMED else ""
            raise ValueError(
                f"refine.categories: the model has no category {name!r}, only "
                f"{', '.join(names[:_NAMED])}{more}{nearest(name, names)}"
            )
        if known[name].is_background:
            raise ValueError(
                f"refine.categories: {name!r} is the background, which takes what is left over "
                "and has no limits"
            )


def _surplus(
    segments: Sequence[Segment], limits: Sequence[_Limits | None], alive: Sequence[bool]
) -> list[bool]:
    """Per segment: whether its category has enough better ones."""
    surplus = [False] * len(segments)
    seen: Counter[int] = Counter()
    for index in sorted(range(len(segments)), key=lambda at: -segments[at].sure):
        item, category = limits[index], segments[index].category_id
        if item is not None and item.max_segments and alive[index]:
            seen[category] += 1
            surplus[index] = seen[category] > item.max_segments
    return surplus
