"""TorchSegmenter: what the families on PyTorch share. Pictures in, segments out.

    pictures → fit → network → outputs on its grid → merges → runs → segments

Everything stays on the device until the runs of a whole batch come back in one copy.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import replace
from types import MappingProxyType
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from pipeline.models.checkpoints.families import FAMILIES
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.grids.finite import finite, refuse_unless
from pipeline.models.grids.geometry import FitRule, Frame
from pipeline.models.grids.outputs import TileAnswer
from pipeline.models.postprocess.encode import segments_of
from pipeline.models.postprocess.merge import Merging, Output, Outputs
from schemas.config.model import ModelConfig
from schemas.records import ErrorCode, Failure, Sample, Segmentation, Task, answer

from .fit import PLAIN, Fitter, View
from .forward import Passes, Shapes

T = TypeVar("T")


class Net(Protocol):
    """A loaded network of one family."""

    def look(self, pixels: Tensor, frames: Sequence[Frame]) -> Outputs:
        """What the network says for each task; called in inference mode.

        Args:
            pixels: B×3×h×w float32 on the device.
            frames: B frames, where the pictures lie in it.

        Returns:
            Task → B outputs.
        """
        ...


class TorchSegmenter:
    """The `segment` of a family; the family gives the rule and the network.

    Args:
        info: The checkpoint.
        options: Of the job.
        tasks: What is wanted, in the order of `TASKS`.
        rule: How pictures go in.

    Attributes:
        fitter: Brings pictures into the input.
    """

    def __init__(
        self,
        info: ModelInfo,
        options: ModelConfig,
        tasks: tuple[Task, ...],
        *,
        rule: FitRule,
    ) -> None:
        self._options = options
        self._tasks = tasks
        self._rule = rule
        self._views = _views(options)
        self.category_ids = info.category_ids
        self._merging = Merging(
            info, FAMILIES[info.family].thresholds.under(options), compat=options.compat
        )
        self._passes = Passes(options.batch_size)
        self.fitter = Fitter(rule, "cpu")
        self._net: Net | None = None

    def start(self, device: str, build: Callable[[str], Net]) -> None:
        """Loads the network.

        Args:
            device: Where it runs.
            build: Makes it, on the device.
        """
        if torch.device(device).type == "cpu":
            # One at a time is as fast on a CPU, and no sum is ever ordered by a neighbour.
            self._passes = Passes(1)
        self.fitter = Fitter(self._rule, device)
        self._net = build(device)

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes; see `families.Segmenter`.

        Raises:
            RuntimeError: `start` was not called.
        """

        return self._run(
            batch,
            lambda net, some, after: self._label(net, some, after, self._tasks)[0],
            lambda failed: failed,
        )

    def dense(self, batch: Sequence[Sample]) -> list[TileAnswer]:
        """As `segment`, but with the maps of the semantic task in place of its segments.

        Raises:
            RuntimeError: `start` was not called.
            ValueError: The network has no maps.
        """
        others: tuple[Task, ...] = tuple(task for task in self._tasks if task != "semantic")

        def work(net: Net, some: Sequence[Sample], after: Sequence[Sample]) -> list[TileAnswer]:
            found, outputs = self._label(net, some, after, others)
            maps = self._merging.dense(outputs["semantic"])
            return [TileAnswer(*pair) for pair in zip(found, maps, strict=True)]

        return self._run(batch, work, TileAnswer)

    def close(self) -> None:
        """Frees the weights and the GPU's memory."""
        self._net = None
        if torch.cuda.is_initialized():
            torch.cuda.empty_cache()

    def _shapes(self, sample: Sample) -> Shapes:
        hws = [sample.original_hw]
        return tuple(self.fitter.frames(hws, view)[0].input_hw for view in self._views)

    def _run(
        self,
        batch: Sequence[Sample],
        work: Callable[[Net, Sequence[Sample], Sequence[Sample]], list[T]],
        failed: Callable[[Segmentation], T],
    ) -> list[T]:
        net = self._net
        if net is None:
            raise RuntimeError("load() has to be called before segment()")
        with torch.inference_mode():
            return self._passes.run(
                [self._shapes(sample) for sample in batch],
                lambda some, after: work(
                    net, [batch[index] for index in some], [batch[index] for index in after]
                ),
                lambda index, why: failed(
                    Segmentation(
                        *batch[index].original_hw, failure=Failure(ErrorCode.MODEL_ERROR, why)
                    )
                ),
            )

    def _label(
        self,
        net: Net,
        samples: Sequence[Sample],
        after: Sequence[Sample],
        tasks: tuple[Task, ...],
    ) -> tuple[list[Segmentation], Outputs]:
        """Pictures whose inputs have the same shapes, and what the network said of them."""
        if len(self._views) == 1:
            outputs = self._look(net, samples, self._views[0])
            flag = finite(outputs)
        else:
            outputs, flag = self._of_views(net, samples)
        if after:
            with suppress(torch.OutOfMemoryError):  # of the next pictures: it is not their turn
                self.fitter.ahead(after, self._views[0])
        maps = [each for task in tasks for each in self._merging(task, outputs[task])]
        found = segments_of(maps, category_ids=self.category_ids)
        refuse_unless(flag)  # here the device has been waited for anyway
        return [
            answer(*sample.original_hw, dict(zip(tasks, found[i :: len(samples)], strict=True)))
            for i, sample in enumerate(samples)
        ], outputs

    def _of_views(self, net: Net, samples: Sequence[Sample]) -> tuple[Outputs, Tensor]:
        """What the network said of all views together, and whether all of it is numbers."""
        from .tta import merge_views

        flags: list[Tensor] = []

        def seen() -> Iterator[Outputs]:
            for view in self._views:
                outputs = self._look(net, samples, view)
                flags.append(finite(outputs))
                own: dict[Task, Sequence[Output]] = dict(outputs)
                if "semantic" in self._tasks:  # no query has to find its partner in another view
                    own["semantic"] = self._merging.dense(own["semantic"])
                yield own

        merged = merge_views(seen(), self._views, tasks=self._tasks)
        return merged, torch.stack(flags).all()

    def _look(self, net: Net, samples: Sequence[Sample], view: View) -> Outputs:
        pixels, frames = self.fitter.batch(samples, view)
        if not self._options.compile:
            return net.look(pixels, frames)
        spare = self._passes.limit(self._shapes(samples[0])) - len(samples)
        if not spare:
            return net.look(pixels, frames)
        # A shape is compiled once: the last batch is filled up.
        filled = torch.cat([pixels, pixels[-1:].expand(spare, -1, -1, -1)])
        outputs = net.look(filled, frames + frames[-1:] * spare)
        return {task: each[: len(samples)] for task, each in outputs.items()}


class NetworkFamily(ABC):
    """What the classes of families share; one gives `_shared`, its rule in it, and `_net`."""

    _shared: Any  # a TorchSegmenter, or the TextSegmenter of families asked by text

    def load(self, device: str) -> None:
        """Reads the weights.

        Raises:
            ValueError: They do not fit the architecture, or are a pickle that is not allowed.
        """
        self._shared.start(device, self._net)

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes; see `families.Segmenter`."""
        return self._shared.segment(batch)

    def close(self) -> None:
        """Frees the weights and the GPU's memory."""
        self._shared.close()

    @abstractmethod
    def _net(self, device: str) -> Any:
        """The network, loaded on the device: a `Net`, or a `Finder` of text."""


class DenseFamily(NetworkFamily):
    """A family whose semantic answer is a map a category, which is blended across tiles.

    Attributes:
        prompts: Category id → its prompt, where it has one alone: of several, each may have found
            other pixels of it.
    """

    prompts: Mapping[int, str] = MappingProxyType({})

    def segment(self, batch: Sequence[Sample]) -> list[Segmentation]:
        """Labels pictures of any sizes; a segment names the prompt of its category."""
        found = self._shared.segment(batch)
        if not self.prompts:
            return found
        return [
            replace(
                one,
                segments=tuple(
                    replace(each, prompt=self.prompts.get(each.category_id))
                    for each in one.segments
                ),
            )
            for one in found
        ]

    @property
    def category_ids(self) -> Sequence[int]:
        """The category of each map, 0 = none."""
        return self._shared.category_ids

    def dense(self, batch: Sequence[Sample]) -> list[TileAnswer]:
        """The semantic task's maps of tiles; see `DenseSegmenter`."""
        return self._shared.dense(batch)


def _views(options: ModelConfig) -> tuple[View, ...]:
    if not options.tta.active:
        return (PLAIN,)
    from .tta import views_of

    return views_of(options.tta)
