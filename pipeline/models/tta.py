"""Test-time augmentation: what the network says of several views of a picture, made one.

Views are merged at the logits, on the grid of one of them, the reference: the plain view where
there is one. What the views do not agree about lowers `agreement`.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product

from schemas.model_config import TtaConfig
from schemas.records import Task

from .fit import View
from .merge_semantic import query_semantic
from .merging import Output, Outputs, of_kind
from .outputs import BoxOutput, DenseOutput, QueryOutput
from .tta_boxes import average_boxes
from .tta_dense import average_dense
from .tta_queries import average_queries


def views_of(config: TtaConfig) -> tuple[View, ...]:
    """The views that a configuration asks for; the reference comes first.

    Both flips together also give the picture turned by 180°.
    """
    vertical, horizontal = (
        (False, True) if name in config.flips else (False,) for name in ("vertical", "horizontal")
    )
    scales = sorted(dict.fromkeys(config.scales), key=lambda scale: scale != 1)
    return tuple(View(scale, flip) for scale in scales for flip in product(vertical, horizontal))


def merged(seen: Sequence[Outputs], views: Sequence[View], *, tasks: Sequence[Task]) -> Outputs:
    """One output a picture and task.

    Args:
        seen: What the network said of each view, mirrored as the view is; each output's frame is
            already that of the picture as it lies.
        views: In the same order; the first is the reference.
        tasks: What is wanted of them.

    Returns:
        For each of the tasks as in `seen`. Where queries answer the semantic task, their dense
        outputs are merged: no query has to find its partner.
    """
    done: dict[tuple[tuple[int, ...], bool], list[Output]] = {}
    answer: dict[Task, Sequence[Output]] = {}
    for task in tasks:
        key = (
            tuple(map(id, seen[0][task])),
            task == "semantic",
        )  # one pass may answer several tasks
        if key not in done:
            pictures = zip(*(outputs[task] for outputs in seen), strict=True)
            done[key] = [_merged(task, list(outputs), views) for outputs in pictures]
        answer[task] = done[key]
    return answer


def _merged(task: Task, outputs: list[Output], views: Sequence[View]) -> Output:
    if task == "semantic":
        outputs = [query_semantic(one) if isinstance(one, QueryOutput) else one for one in outputs]
    match outputs[0]:
        case DenseOutput():
            return average_dense(of_kind(DenseOutput, outputs), views)
        case QueryOutput():
            return average_queries(of_kind(QueryOutput, outputs), views)
        case BoxOutput():
            return average_boxes(of_kind(BoxOutput, outputs), views)
