"""CUDA graphs: a network's launches of one input's shapes, recorded once and replayed as one.

A batch of a Swin is about 2,000 launches of a few microseconds; from Python they take longer than
the GPU needs for them. A replay does exactly what was recorded, so its answer is bit for bit that
of the plain call.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

log = logging.getLogger(__name__)

Function = Callable[..., tuple[Tensor, ...]]
"""Tensors → tensors."""

SHAPES = 16
"""Input shapes that are recorded; further ones run as they are."""

SEEN = 2
"""Times that a shape runs plainly before it is recorded: shapes that do not come again are not
worth it, and the first call builds kernels and picks algorithms."""


_Shapes = tuple[torch.Size, ...]


@dataclass(frozen=True, slots=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    given: tuple[Tensor, ...]
    answer: tuple[Tensor, ...]


class Graphs:
    """Calls a network, by recording where a shape comes again.

    Args:
        function: No value on the device decides what it does.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._seen: dict[_Shapes, int] = {}
        self._recordings: dict[_Shapes, _Recording] = {}
        self._pool: Any = None
        self._works = True

    def __call__(self, *given: Tensor) -> tuple[Tensor, ...]:
        """The network's answer; its tensors are overwritten by the next call of the same shapes.

        Raises:
            torch.OutOfMemoryError: There is no memory for the shapes, recorded or not.
        """
        shapes = tuple(each.shape for each in given)
        recording = self._recordings.get(shapes)
        if recording is None:
            seen = self._seen.get(shapes, 0)
            self._seen[shapes] = seen + 1
            if not self._works or seen < SEEN or len(self._recordings) >= SHAPES:
                return self._function(*given)
            recording = self._record(given)
            if recording is None:
                return self._function(*given)
        for kept, each in zip(recording.given, given, strict=True):
            kept.copy_(each)
        recording.graph.replay()
        return recording.answer

    def _record(self, given: tuple[Tensor, ...]) -> _Recording | None:
        """None where the network waits for the device somewhere, which cannot be recorded."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        kept = tuple(each.clone(memory_format=torch.preserve_format) for each in given)
        graph = torch.cuda.CUDAGraph()
        chance = torch.cuda.default_generators[kept[0].get_device()]
        before = chance.clone_state()
        try:
            # Other threads copy pictures meanwhile: only this one must keep to what is allowed.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                answer = self._function(*kept)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._works = False
            # A recording that broke off leaves the generator waiting for its end.
            chance.graphsafe_set_state(before)
            log.info("this network cannot be recorded, it runs launch by launch: %s", error)
            return None
        recording = _Recording(graph, kept, answer)
        self._recordings[tuple(each.shape for each in given)] = recording
        return recording
