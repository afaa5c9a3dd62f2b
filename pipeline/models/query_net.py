"""QueryNet: a network that gives queries once and answers every task from them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from torch import Tensor

from schemas.model_config import ModelConfig
from schemas.records import TASKS, Task

from .forward import Forward
from .frame import Frame
from .merging import Output, Outputs
from .outputs import QueryOutput


class QueryNet:
    """Mask2Former, MaskFormer and EoMT: one forward pass, several merges.

    Args:
        model: Of transformers, on the device.
        device: Where it is.
        options: Of the job.
        masks: Makes B×Q×h×w mask logits of the model's answer; None = they are in it.
    """

    def __init__(
        self,
        model: Any,
        *,
        device: str,
        options: ModelConfig,
        masks: Callable[[Any], Tensor] | None = None,
    ) -> None:
        self._model = model
        self._masks = masks
        self._forward = Forward(self._queries, device=device, options=options)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """The same output for each task."""
        class_logits, mask_logits = self._forward(pixels)
        outputs = query_outputs(class_logits, mask_logits, frames)
        answers: dict[Task, Sequence[Output]] = dict.fromkeys(TASKS, outputs)
        return answers

    def _queries(self, pixels: Tensor) -> tuple[Tensor, Tensor]:
        answer = self._model(pixels)
        masks = self._masks(answer) if self._masks else answer.masks_queries_logits
        return answer.class_queries_logits, masks


def query_outputs(
    class_logits: Tensor, mask_logits: Tensor, frames: Sequence[Frame]
) -> list[QueryOutput]:
    """One output a picture.

    Args:
        class_logits: B×Q×(C+1), the last column is "nothing".
        mask_logits: B×Q×h×w.
        frames: B frames.
    """
    return [QueryOutput(*each) for each in zip(class_logits, mask_logits, frames, strict=True)]
