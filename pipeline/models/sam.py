"""The family `sam`: SAM and its kin (`sam_core.checkpoint`); everything, points and boxes."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from pipeline.masks import overlap
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.network.fit import Fitter
from pipeline.models.network.forward import Passes
from pipeline.models.sam_core.checkpoint import SamCheckpoint, open_sam
from pipeline.models.sam_core.everything import Everything
from pipeline.models.sam_core.load import encode_images, load_sam
from pipeline.models.sam_core.masks import Enlarging
from pipeline.models.sam_core.net import Encoded, SamNet
from pipeline.models.sam_core.prompted import masks_of_prompts
from pipeline.prompts.request import Request
from schemas.config.model import ModelConfig
from schemas.records import ErrorCode, Failure, Sample, Segment, Segmentation, Task, answer

OBJECT = 1
"""Category id of everything-masks."""


class SamSegmenter:
    """Labels pictures with a promptable SAM; see `families.Segmenter`.

    With points or boxes, one segment a prompt; else everything in the picture.

    Args:
        info: The checkpoint; `info.asking` says what is asked.
        options: Of the job. `dtype` is that of weights and activations.
        tasks: "instance", or "panoptic" where conflicts leave no overlap.

    Raises:
        ValueError: The checkpoint does not say how pictures go in.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._asking = info.asking or Request()
        self._options = options
        self._tasks = tasks
        self._passes = Passes(options.batch_size)
        self._checkpoint: SamCheckpoint = open_sam(info, allow_pickle=options.allow_pickle)
        self._fitter = Fitter(self._checkpoint.rule, "cpu")
        self._net: SamNet | None = None

    def load(self, device: str) -> None:
        """Reads the weights.

        Raises:
            ValueError: They do not fit the architecture.
        """
        reference = self._asking.everything.reference
        if torch.device(device).type == "cpu":
            self._passes = Passes(1)
        self._fitter = Fitter(self._checkpoint.rule, device)
        self._net = load_sam(self._checkpoint, self._options, device, reference=reference)

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes; the encoder takes several at once.

        Raises:
            RuntimeError: `load` was not called.
        """
        net = self._net
        if net is None:
            raise RuntimeError("load() has to be called before segment()")
        with torch.inference_mode():
            return self._passes.run(
                [((net.side, net.side),)] * len(batch),
                lambda some, _after: self._label(net, [batch[index] for index in some]),
                lambda index, why: Segmentation(
                    *batch[index].original_hw, failure=Failure(ErrorCode.MODEL_ERROR, why)
                ),
            )

    def close(self) -> None:
        """Frees the weights and the GPU's memory."""
        self._net = None
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _label(self, net: SamNet, samples: Sequence[Sample]) -> list[Segmentation]:
        pixels, frames = self._fitter.batch(samples)
        pictures = encode_images(net, pixels)
        two_steps = self._checkpoint.two_steps
        return [
            self._answer(
                sample,
                self._found(net, sample, picture, Enlarging(frame, two_steps, net.cubic)),
            )
            for sample, picture, frame in zip(samples, pictures, frames, strict=True)
        ]

    def _found(
        self, net: SamNet, sample: Sample, picture: Encoded, enlarging: Enlarging
    ) -> list[Segment]:
        if self._asking.from_file or sample.prompts:
            return masks_of_prompts(
                net,
                picture,
                enlarging,
                sample.prompts,
                single=self._asking.prompts.single_mask,
                stand_in=self._asking.prompts.stand_in == "box",
            )
        everything = Everything(
            net, self._fitter, self._asking.everything, two_steps=self._checkpoint.two_steps
        )
        return everything.segments(sample, category_id=OBJECT, whole=picture)

    def _answer(self, sample: Sample, found: Sequence[Segment]) -> Segmentation:
        height, width = sample.original_hw
        config = self._asking.conflicts
        answers: dict[Task, Sequence[Segment]] = {}
        for task in self._tasks:
            if task == "panoptic" and not config.non_overlap:
                config = config.model_copy(update={"non_overlap": True})
            # Everything-masks and a file's prompts are what was asked for: nothing of them is
            # suppressed here, only parted where they must not overlap.
            plain = config.model_copy(update={"nms_iou": 1.0, "nms_ios": 1.0})
            answers[task] = (
                overlap.resolve_overlaps(found, plain, height=height, width=width)
                if plain.non_overlap
                else found
            )
        return answer(height, width, answers)
