"""CUDA graphs: a network's launches of one input shape, recorded once and replayed as one.

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

Function = Callable[[Tensor], tuple[Tensor, ...]]

SHAPES = 16
"""Input shapes that are recorded; further ones run as they are."""

SEEN = 2
"""Times that a shape runs plainly before it is recorded: shapes that do not come again are not
worth it, and the first call builds kernels and picks algorithms."""


@dataclass(frozen=True, slots=True)
class _Recording:
    graph: torch.cuda.CUDAGraph
    given: Tensor
    answer: tuple[Tensor, ...]


class Graphs:
    """Calls a network, by recording where a shape comes again.

    Args:
        function: Pixels → tensors; no value on the device decides what it does.
    """

    def __init__(self, function: Function) -> None:
        self._function = function
        self._seen: dict[torch.Size, int] = {}
        self._recordings: dict[torch.Size, _Recording] = {}
        self._pool: Any = None
        self._works = True

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The network's answer; its tensors are overwritten by the next call of the same shape.

        Raises:
            torch.OutOfMemoryError: There is no memory for the shape, recorded or not.
        """
        recording = self._recordings.get(pixels.shape)
        if recording is None:
            seen = self._seen.get(pixels.shape, 0)
            self._seen[pixels.shape] = seen + 1
            if not self._works or seen < SEEN or len(self._recordings) >= SHAPES:
                return self._function(pixels)
            recording = self._record(pixels)
            if recording is None:
                return self._function(pixels)
        recording.given.copy_(pixels)
        recording.graph.replay()
        return recording.answer

    def _record(self, pixels: Tensor) -> _Recording | None:
        """None where the network waits for the device somewhere, which cannot be recorded."""
        if self._pool is None:
            self._pool = torch.cuda.graph_pool_handle()
        given = pixels.clone(memory_format=torch.preserve_format)
        graph = torch.cuda.CUDAGraph()
        try:
            # Other threads copy pictures meanwhile: only this one must keep to what is allowed.
            with torch.cuda.graph(graph, pool=self._pool, capture_error_mode="thread_local"):
                answer = self._function(given)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError as error:
            self._works = False
            log.info("this network cannot be recorded, it runs launch by launch: %s", error)
            return None
        self._recordings[pixels.shape] = _Recording(graph, given, answer)
        return self._recordings[pixels.shape]
