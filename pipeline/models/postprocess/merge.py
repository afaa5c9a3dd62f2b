"""Merging: from a network's outputs to segments, for whichever task and kind of output."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TypeVar

from pipeline.models.checkpoints.families import Thresholds
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.grids.maps import LabelMap, MaskStack
from pipeline.models.grids.outputs import BoxOutput, DenseOutput, QueryOutput
from schemas.records import Task

from .boxes import paste_instances
from .instance import merge_instance
from .panoptic import merge_panoptic
from .semantic import merge_semantic, query_semantic

Output = DenseOutput | QueryOutput | BoxOutput
T = TypeVar("T", DenseOutput, QueryOutput, BoxOutput)
Outputs = Mapping[Task, Sequence[Output]]
"""Task → one output a picture, all of one kind."""

_PER_CELL = ("oneformer", "maskformer", "detr")
"""model_types whose semantic maps transformers adds up in the cells of the network's own grid."""


class Merging:
    """Decides which segments there are.

    Args:
        info: Says which category each of the network's outputs is.
        thresholds: What has to be reached.
        compat: Of `model.compat`.
    """

    def __init__(self, info: ModelInfo, thresholds: Thresholds, *, compat: str = "") -> None:
        things = {category.id for category in info.categories if category.isthing}
        self._isthing = [id_ in things for id_ in info.category_ids]
        self._thresholds = thresholds
        kind = info.config.get("model_type")
        self._per_cell = compat == "transformers" and kind in _PER_CELL

    def __call__(self, task: Task, outputs: Sequence[Output]) -> Sequence[LabelMap | MaskStack]:
        """What is where, one map a picture, on the device.

        Raises:
            ValueError: Such outputs cannot answer the task.
        """
        limits = self._thresholds
        match task, outputs[0]:
            case "semantic", _:
                return merge_semantic(self.dense(outputs))
            case "panoptic", QueryOutput():
                return merge_panoptic(
                    of_kind(QueryOutput, outputs),
                    isthing=self._isthing,
                    threshold=limits.score,
                    mask_threshold=limits.mask,
                    overlap_threshold=limits.overlap,
                )
            case "instance", QueryOutput():
                return merge_instance(
                    of_kind(QueryOutput, outputs),
                    isthing=self._isthing,
                    threshold=limits.score,
                    mask_threshold=limits.mask,
                )
            case "instance", BoxOutput():
                sure = [_above(one, limits.score) for one in of_kind(BoxOutput, outputs)]
                return paste_instances(sure, mask_threshold=limits.mask)
        raise ValueError(f"{type(outputs[0]).__name__} cannot answer the task {task!r}")

    def dense(self, outputs: Sequence[Output]) -> list[DenseOutput]:
        """The maps of the semantic task, from whatever answers it.

        Raises:
            ValueError: The outputs have none.
        """
        maps: list[DenseOutput] = []
        for one in outputs:
            if isinstance(one, BoxOutput):
                raise ValueError("BoxOutput cannot answer the task 'semantic'")
            if isinstance(one, QueryOutput):
                one = query_semantic(one, per_cell=self._per_cell)  # noqa: PLW2901
            maps.append(one)
        return maps


def of_kind(kind: type[T], outputs: Sequence[Output]) -> list[T]:
    """The same outputs, which are all of one kind, under the kind's own name."""
    return [one for one in outputs if isinstance(one, kind)]


def _above(output: BoxOutput, score: float) -> BoxOutput:
    """The detections of more than a score. Several views' mean may fall below what each has."""
    kept = output.scores > score
    return BoxOutput(
        boxes_xyxy=output.boxes_xyxy[kept],
        labels=output.labels[kept],
        scores=output.scores[kept],
        mask_probs=output.mask_probs[kept],
        frame=output.frame,
        agreement=None if output.agreement is None else output.agreement[kept],
    )
