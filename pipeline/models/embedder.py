"""The family `embedder`: SAM finds everything, CLIP, SigLIP or DINOv2 says what it looks like.

    picture → SAM: masks of everything
            → crops of the masks, of several pictures together → vectors
            → cosines to texts and exemplars → categories
            → conflicts in mask space

A picture is encoded once by SAM. The embedder sees each mask by itself, from the picture's pixels.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import normalize

from pipeline.masks import overlap
from pipeline.masks.overlap import panoptic_of_segments
from pipeline.models.checkpoints.families import Segmenter, segmenter_class
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.naming.crops import MaskCrops
from pipeline.models.naming.embedder import Embedder, cosines
from pipeline.models.naming.names import Name, read_naming
from pipeline.models.network.forward import Passes
from pipeline.prompts.request import Exemplar, Request
from schemas.config.model import ModelConfig
from schemas.config.prompts import ConflictsConfig
from schemas.records import ImageRecord, Prompt, Sample, Segment, Segmentation, Task, answer

Masks = Sequence[tuple[Sample, Segment]]


class EmbedderSegmenter:
    """Labels pictures with masks that look like what is asked; see `families.Segmenter`.

    Args:
        info: Of a SAM; `info.partner` is the embedder, `info.asking` says what is asked.
        options: Of the job.
        tasks: "instance", "panoptic".

    Raises:
        ValueError: No embedder, nothing is asked, a text is too long, or a file is missing.
    """

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self._naming = read_naming(info, options)
        asking = info.asking or Request()
        self._conflicts = asking.conflicts
        self._categories = info.categories
        self._tasks = tasks
        plain = replace(info, asking=Request(everything=asking.everything), partner=None)
        self._sam = _everything(plain, options)
        self._embedder = Embedder(info.partner or info, options, self._naming.texts)
        self._passes = Passes(self._naming.config.crops_per_batch)
        self._crops: MaskCrops | None = None
        self._texts = self._shown = torch.zeros(0, 0)

    def load(self, device: str) -> None:
        """Reads the weights; embeds the texts, and the exemplars as SAM outlines them.

        Raises:
            ValueError: They do not fit the architectures.
        """
        if torch.device(device).type == "cpu":
            self._passes = Passes(1)  # no sum is ordered by a neighbour
        self._sam.load(device)
        self._embedder.load(device)
        self._crops = MaskCrops(self._embedder.rule, self._naming.config, device)
        self._texts = self._embedder.texts()
        samples = [_asking_for(each) for each in self._naming.exemplars]
        outlined = self._sam.segment(samples)
        self._shown = self._embedded(
            [(one, found.segments[0]) for one, found in zip(samples, outlined, strict=True)]
        )

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes.

        The score of a segment is that of the text or the exemplar; SAM's own estimates are its
        evidence. Segments without a name, where they are kept, have SAM's estimate as score.

        Raises:
            RuntimeError: `load` was not called.
        """
        found = self._sam.segment(batch)
        masks = [
            (sample, segment)
            for sample, one in zip(batch, found, strict=True)
            for segment in one.segments
        ]
        names = iter(self._names(masks))
        return [
            one
            if one.failure
            else self._answer(one, [(segment, next(names)) for segment in one.segments])
            for one in found
        ]

    def close(self) -> None:
        """Frees the weights and the GPU's memory."""
        self._embedder.close()
        self._sam.close()
        self._crops = None

    def _names(self, masks: Masks) -> list[Name | None]:
        vectors = self._embedded(masks)
        return self._naming.names(
            cosines(vectors, self._texts),
            cosines(vectors, self._shown),
            scale=self._embedder.scale,
            bias=self._embedder.bias,
        )

    def _embedded(self, masks: Masks) -> Tensor:
        """M×d float32 of length 1: the mean of each mask's views."""
        crops = self._crops
        if crops is None:
            raise RuntimeError("load() has to be called before segment()")
        side = self._embedder.rule.side

        def work(some: list[int], _after: list[int]) -> list[Tensor]:
            views = crops([masks[index] for index in some])
            vectors = self._embedder.pictures(views.flatten(0, 1))
            return list(normalize(vectors.unflatten(0, views.shape[:2]).mean(1), dim=-1))

        with torch.inference_mode():
            rows = self._passes.run([((side, side),)] * len(masks), work, _too_large)
            crops.forget()
            return torch.stack(rows) if rows else torch.zeros(0, 0)

    def _answer(
        self, one: Segmentation, found: Sequence[tuple[Segment, Name | None]]
    ) -> Segmentation:
        named: list[Segment] = []
        others: list[Segment] = []
        for segment, name in found:
            if name is not None:
                found_by = {"prompt": name.prompt, "score": name.score}
                named.append(replace(segment, category_id=name.category_id, **found_by))
            elif self._naming.unnamed:
                others.append(replace(segment, category_id=self._naming.unnamed))
        place = {item.id: rank for rank, item in enumerate(self._categories)}
        named.sort(key=lambda each: (place[each.category_id], -(each.score or 0)))
        answers: dict[Task, Sequence[Segment]] = {
            task: self._resolved(task, named, others, one) for task in self._tasks
        }
        return answer(one.height, one.width, answers)

    def _resolved(
        self, task: Task, named: Sequence[Segment], others: Sequence[Segment], one: Segmentation
    ) -> Sequence[Segment]:
        config = self._conflicts
        if task == "panoptic":
            config = config.model_copy(update={"non_overlap": True})
        height, width = one.height, one.width
        kept = overlap.resolve_overlaps(named, config, height=height, width=width)
        if others:
            # What has a name goes before what has none, whatever their scores.
            plain = ConflictsConfig(
                nms_iou=1, nms_ios=1, priority="order", non_overlap=config.non_overlap
            )
            kept = overlap.resolve_overlaps([*kept, *others], plain, height=height, width=width)
        if task == "panoptic":
            return panoptic_of_segments(kept, self._categories, height, width)
        return kept


def _everything(info: ModelInfo, options: ModelConfig) -> Segmenter:
    """A SAM alone."""
    return segmenter_class("sam")(info, options, ("instance",))


def _asking_for(exemplar: Exemplar) -> Sample:
    """An exemplar's window with its box as a prompt."""
    height, width = exemplar.pixels.shape[:2]
    prompts = (Prompt(1, exemplar.bbox_xyxy),)
    record = ImageRecord(exemplar.name, "")
    return Sample(record, exemplar.pixels, (height, width), prompts=prompts)


def _too_large(_index: int, why: str) -> Tensor:
    raise ValueError(f"naming: {why}")
