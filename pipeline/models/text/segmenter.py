"""TextSegmenter: what the families asked by text share. Pictures and prompts in, segments out.

    picture → finder: boxes (or regions) and a score for each phrase
            → `sightings.kept`: which of them, and of which category
            → outlines: one mask each
            → conflicts in mask space

A picture is encoded once by each network, however many prompts there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Protocol

import torch
from torch import Tensor

from pipeline.masks import overlap
from pipeline.models.grids.geometry import FitRule, Frame, Hw
from pipeline.models.network.fit import Fitter
from pipeline.models.network.forward import Passes
from schemas.config.model import ModelConfig
from schemas.records import ErrorCode, Failure, Sample, Segment, Segmentation, Task, answer

from .detections import Detections, select
from .phrases import Choice
from .request import TextRequest


class Finder(Protocol):
    """A loaded network that answers phrases."""

    def find(self, pixels: Tensor, frames: Sequence[Frame]) -> list[Detections]:
        """What it sees, answers below `TextRequest.least` left out; called in inference mode.

        Args:
            pixels: B×3×h×w float32 on the device.
            frames: B frames, where the pictures lie in it.
        """
        ...


class Outliner(Protocol):
    """Turns what is kept into masks."""

    def load(self, device: str) -> None:
        """Reads weights, if it has any."""
        ...

    def input_hw(self, picture_hw: Hw) -> Hw:
        """Size of its own input; pictures of one size go together."""
        ...

    def outline(
        self,
        samples: Sequence[Sample],
        frames: Sequence[Frame],
        seen: Sequence[Detections],
        choices: Sequence[Choice],
    ) -> list[list[Segment | None]]:
        """One segment for each kept answer of each picture, in order; None for an empty mask."""
        ...

    def close(self) -> None:
        """Frees what `load` took."""
        ...


class TextSegmenter:
    """The `segment` of a family; the family gives the rule, the finder and the outliner.

    Args:
        asking: What is looked for.
        options: Of the job.
        tasks: "instance", or "panoptic" where conflicts leave no overlap.
        rule: How pictures go into the finder.
        outliner: Makes the masks.

    Raises:
        ValueError: A task or an option that such a model cannot do.
    """

    def __init__(
        self,
        asking: TextRequest,
        options: ModelConfig,
        tasks: tuple[Task, ...],
        *,
        rule: FitRule,
        outliner: Outliner,
    ) -> None:
        if "semantic" in tasks:
            raise ValueError(
                "the task 'semantic' is for CLIPSeg; this model finds things: 'instance', or "
                "'panoptic' with conflicts.non_overlap"
            )
        if "panoptic" in tasks and not asking.conflicts.non_overlap:
            raise ValueError("the task 'panoptic' needs conflicts.non_overlap = true")
        if options.tta.active:
            raise ValueError("model.tta: models asked by text look at the plain picture only")
        self._asking = asking
        self._options = options
        self._tasks = tasks
        self._rule = rule
        self._ids = asking.ontology.ids()
        self._outliner = outliner
        self._passes = Passes(options.batch_size)
        self._fitter = Fitter(rule, "cpu")
        self._finder: Finder | None = None

    def start(self, device: str, build: Callable[[str], Finder]) -> None:
        """Loads the networks.

        Args:
            device: Where they run.
            build: Makes the finder, on the device.
        """
        if torch.device(device).type == "cpu":
            self._passes = Passes(1)  # as fast on a CPU, and no sum is ordered by a neighbour
        self._fitter = Fitter(self._rule, device)
        self._finder = build(device)
        self._outliner.load(device)

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes; see `families.Segmenter`.

        Raises:
            RuntimeError: `start` was not called.
        """
        finder = self._finder
        if finder is None:
            raise RuntimeError("load() has to be called before segment()")
        hws = [sample.original_hw for sample in batch]
        frames = self._fitter.frames(hws)
        shapes = [(f.input_hw, self._outliner.input_hw(f.picture_hw)) for f in frames]
        with torch.inference_mode():
            return self._passes.run(
                shapes,
                lambda some, _after: self._label(finder, [batch[index] for index in some]),
                lambda index, why: Segmentation(
                    *hws[index], failure=Failure(ErrorCode.MODEL_ERROR, why)
                ),
            )

    def close(self) -> None:
        """Frees the weights and the GPU's memory."""
        self._finder = None
        self._outliner.close()
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _label(self, finder: Finder, samples: Sequence[Sample]) -> list[Segmentation]:
        pixels, frames = self._fitter.batch(samples)
        seen = finder.find(pixels, frames)
        choices = [select(each, self._asking) for each in seen]
        outlines = self._outliner.outline(samples, frames, seen, choices)
        return [
            self._answer(sample, self._named(choice, found))
            for sample, choice, found in zip(samples, choices, outlines, strict=True)
        ]

    def _named(self, choice: Choice, found: Sequence[Segment | None]) -> list[Segment]:
        """The masks with category, prompt and score of the answers that they outline."""
        rows = zip(choice.categories, choice.phrases, choice.scores, found, strict=True)
        return [
            replace(
                segment,
                category_id=self._ids[int(category)],
                prompt=self._asking.phrases[int(phrase)].text,
                score=round(float(score), 4),
            )
            for category, phrase, score, segment in rows
            if segment is not None
        ]

    def _answer(self, sample: Sample, found: Sequence[Segment]) -> Segmentation:
        height, width = sample.original_hw
        ranked = self._in_order(found)
        one = overlap.resolve_overlaps(ranked, self._asking.conflicts, height=height, width=width)
        return answer(height, width, dict.fromkeys(self._tasks, one))

    def _in_order(self, found: Sequence[Segment]) -> list[Segment]:
        """Category by category as the ontology has them, the best first."""
        place = {id_: rank for rank, id_ in enumerate(self._ids)}
        return sorted(found, key=lambda one: (place[one.category_id], -(one.score or 0)))
