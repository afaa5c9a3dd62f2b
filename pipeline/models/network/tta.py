"""Test-time augmentation: what the network says of several views of a picture, made one.

Views are merged at the logits, on the grid of one of them, the reference: the plain view where
there is one. What the views do not agree about lowers `agreement`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product

from pipeline.models.grids.outputs import BoxOutput, DenseOutput, QueryOutput
from pipeline.models.postprocess.merge import Output, Outputs, of_kind
from schemas.config.model import TtaConfig
from schemas.records import Task

from .fit import View
from .tta_merge import DenseMean, average_boxes, average_queries


def views_of(config: TtaConfig) -> tuple[View, ...]:
    """The views that a configuration asks for; the reference comes first.

    Both flips together also give the picture turned by 180°.
    """
    vertical, horizontal = (
        (False, True) if name in config.flips else (False,) for name in ("vertical", "horizontal")
    )
    scales = sorted(dict.fromkeys(config.scales), key=lambda scale: scale != 1)
    return tuple(View(scale, flip) for scale in scales for flip in product(vertical, horizontal))


def merge_views(
    seen: Iterable[Outputs], views: Sequence[View], *, tasks: Sequence[Task]
) -> Outputs:
    """One output a picture and task.

    Args:
        seen: What the network said of each view, mirrored as the view is; each output's frame is
            already that of the picture as it lies. Read one by one.
        views: In the same order; the first is the reference.
        tasks: What is wanted of them.

    Returns:
        For each of the tasks as in `seen`.
    """
    same: dict[Task, Task] = {}
    pictures: dict[Task, list[_Picture]] = {}
    for outputs, view in zip(seen, views, strict=True):
        if not same:
            same = _shared(outputs, tasks)
            pictures = {task: [_Picture() for _ in outputs[task]] for task in same.values()}
        for task, waiting in pictures.items():
            for picture, output in zip(waiting, outputs[task], strict=True):
                picture.add(output, view)
    done = {task: [picture.result() for picture in each] for task, each in pictures.items()}
    return {task: done[same[task]] for task in tasks}


def _shared(outputs: Outputs, tasks: Sequence[Task]) -> dict[Task, Task]:
    """Task → the first task with the same outputs, to be merged in the same way."""
    first: dict[tuple[int, ...], Task] = {}
    return {task: first.setdefault(tuple(map(id, outputs[task])), task) for task in tasks}


class _Picture:
    """What the views say of one picture."""

    def __init__(self) -> None:
        self._mean = DenseMean()
        self._others: list[QueryOutput | BoxOutput] = []
        self._views: list[View] = []

    def add(self, output: Output, view: View) -> None:
        if isinstance(output, DenseOutput):
            self._mean.add(output, view)
        else:
            self._others.append(output)
            self._views.append(view)

    def result(self) -> Output:
        match self._others:
            case [QueryOutput(), *_]:
                return average_queries(of_kind(QueryOutput, self._others), self._views)
            case [BoxOutput(), *_]:
                return average_boxes(of_kind(BoxOutput, self._others), self._views)
        return self._mean.result()
