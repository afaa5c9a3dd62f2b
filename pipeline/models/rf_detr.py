"""The family `rf-detr`: RF-DETR with its instance mask head, of transformers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from pipeline.models.checkpoints.hf_preprocessor import preprocessor, read_fit_rule
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.load import load_pretrained
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import QueryOutput
from pipeline.models.network.forward import Forward
from pipeline.models.network.segmenter import NetworkFamily, TorchSegmenter
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import Task


class RfDetrSegmenter(NetworkFamily):
    """Labels pictures with an RF-DETR; see `families.Segmenter`.

    Its categories are yes or no each for itself, and a query's score is its category's alone: the
    best pairs of query and category, as many as there are queries, as the authors' package has it.

    Source: Robinson et al., "RF-DETR: Neural Architecture Search for Real-Time Detection
    Transformers", 2025; `post_process_instance_segmentation` of transformers' image processor.

    Args:
        info: The checkpoint.
        options: Of the job.
        tasks: "instance".

    Raises:
        ValueError: The checkpoint does not say how pictures go in, or not to a fixed size, the only
            one that its windows take.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        rule = read_fit_rule(preprocessor(info.folder))
        if rule.size.kind != "stretch":
            raise ValueError(
                f"{info.folder}: an RF-DETR takes pictures of one size: its image processor's size "
                "must be a height and a width"
            )
        self._shared = TorchSegmenter(info, options, tasks, rule=rule)

    def _net(self, device: str) -> _Net:
        from transformers import RfDetrForInstanceSegmentation

        model: Any = load_pretrained(
            RfDetrForInstanceSegmentation,
            self._info,
            device=device,
            allow_pickle=self._options.allow_pickle,
        )
        return _Net(model, device, self._options)


class _Net:
    """One pass; the answer's boxes are not needed, as each mask has its own."""

    def __init__(self, model: Any, device: str, options: ModelConfig) -> None:
        def queries(pixels: Tensor) -> tuple[Tensor, Tensor]:
            answer = model(pixels)
            return answer.logits, answer.pred_masks

        self._forward = Forward(queries, device=device, options=options)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        class_logits, mask_logits = self._forward(pixels)
        rows = zip(class_logits, mask_logits, frames, strict=True)
        return {"instance": [QueryOutput(*row, independent=True) for row in rows]}
