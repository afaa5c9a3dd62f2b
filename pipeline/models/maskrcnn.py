"""The family `maskrcnn`: Mask R-CNN of torchvision."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from pipeline.models.checkpoints.families import FAMILIES
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.checkpoints.torchvision_files import load_torchvision, torchvision_input_rule
from pipeline.models.grids.finite import finite, refuse_unless
from pipeline.models.grids.geometry import Frame, Hw
from pipeline.models.grids.outputs import BoxOutput
from pipeline.models.network.forward import Forward, precision
from pipeline.models.network.regions import LeanRegions
from pipeline.models.network.segmenter import NetworkFamily, TorchSegmenter
from pipeline.models.network.weights import cast_weights, fold_batch_norms
from pipeline.models.postprocess.backend import path_for
from pipeline.models.postprocess.merge import Outputs
from schemas.config.model import ModelConfig
from schemas.records import Task


class MaskRcnn(NetworkFamily):
    """Labels pictures with a checkpoint of the family; see `families.Segmenter`.

    Args:
        info: The checkpoint.
        options: How it is run; detections need `threshold` as score.
        tasks: "instance".

    Raises:
        ValueError: The config says nothing usable of the input.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._info = info
        self._options = options
        self._threshold = FAMILIES[info.family].thresholds.under(options).score
        self._shared = TorchSegmenter(
            info, options, tasks, rule=torchvision_input_rule(info.config)
        )

    def _net(self, device: str) -> _Net:
        net: Any = load_torchvision(self._info, allow_pickle=self._options.allow_pickle)
        net.requires_grad_(False).to(device=device, memory_format=torch.channels_last)
        if not self._options.tta.active:
            # Suppression and the best N are by score: what lies below changes nothing above.
            net.roi_heads.score_thresh = self._threshold
        return _Net(net, device, self._options)


class _Net:
    """torchvision's parts, without its resizing before and its pasting after.

    Where the precision is not float32, convolutions and products run in it, and coordinates stay
    float32: in bfloat16 a box of a 1333 pixels wide input would lie on a grid of 8 pixels.
    """

    def __init__(self, net: Any, device: str, options: ModelConfig) -> None:
        self._lean: LeanRegions | None = None
        if path_for(torch.device(device)) == "kernels":
            fold_batch_norms(net)
            self._lean = LeanRegions(net)
            self._forward = Forward(
                self._lean.propose,
                device=device,
                options=options,
                model=net,
                cast=cast_but_boxes,
                own=False,
            )
            return
        self._rpn, self._heads = net.rpn, net.roi_heads
        self._names = [str(i) for i in range(len(net.backbone.fpn.inner_blocks))] + ["pool"]
        self._forward = Forward(
            lambda pixels: tuple(net.backbone(pixels).values()), device=device, options=options
        )
        self._device = torch.device(device).type
        self._dtype = precision(options.dtype, device)
        self._flags: list[Tensor] = []
        for part in (net.rpn.head, net.roi_heads.box_predictor, net.roi_heads.mask_predictor):
            part.register_forward_hook(self._answered)

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        sizes = [frame.content_hw for frame in frames]  # a flipped input, too, begins at its corner
        answer = self._forward(pixels)
        if self._lean is not None:
            found, sound = self._lean.detect(answer, sizes)
        else:
            found, sound = self._one_by_one(pixels, answer, sizes)
        # Boxes of NaN pass no limit: without this the picture would look empty.
        refuse_unless(sound)
        return {
            "instance": [
                BoxOutput(
                    boxes_xyxy=one["boxes"],
                    labels=one["labels"],
                    scores=one["scores"],
                    mask_probs=one["masks"][:, 0],
                    frame=frame,
                )
                for one, frame in zip(found, frames, strict=True)
            ]
        }

    def _one_by_one(
        self, pixels: Tensor, maps: Sequence[Tensor], sizes: list[Hw]
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """By torchvision's own heads."""
        from torchvision.models.detection.image_list import ImageList

        self._flags.clear()
        features = dict(zip(self._names, maps, strict=True))
        mixed = self._dtype != torch.float32
        with torch.autocast(self._device, dtype=self._dtype, enabled=mixed):
            proposals, _ = self._rpn(ImageList(pixels, sizes), features)
            found, _ = self._heads(features, proposals, sizes)
        return found, torch.stack(self._flags).all()

    def _answered(self, _part: Any, _given: Any, answer: Any) -> Any:
        self._flags.append(finite(answer))
        return _float32(answer)


def cast_but_boxes(net: Any, dtype: torch.dtype) -> None:
    """Casts the weights; scores and boxes of the last head stay float32."""
    cast_weights(net, dtype, keep=[net.roi_heads.box_predictor])


def _float32(answer: Any) -> Any:
    if isinstance(answer, Tensor):
        return answer.float()
    return type(answer)(_float32(each) for each in answer)
