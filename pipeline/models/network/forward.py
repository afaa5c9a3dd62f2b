"""Passes: which pictures go through the network together, and what to do when memory runs out."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from functools import partial
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from pipeline.models.grids.geometry import Hw
from pipeline.models.postprocess.backend import path_for
from schemas.config.model import ModelConfig

from .blocks import compile_blocks, repeated_blocks, without_drop_path
from .graphs import Graphs
from .weights import cast_weights, castable
from .windows import exchange_windows

# Forward: a network's function at the wanted precision, compiled if wanted.

Function = Callable[[Tensor], tuple[Tensor, ...]]
SHAPES = 16
"""Input shapes that are compiled; further ones run as they are. Compiling takes up to minutes."""


def precision(dtype: str, device: str | torch.device) -> torch.dtype:
    """What `model.dtype` means on a device.

    "auto" is bfloat16 on a GPU that computes in it, else float32: on a CPU always, so that labels
    do not depend on which CPU a worker got. Where all of them have AVX512-BF16 or AMX, "bfloat16"
    is faster (bench/cpu_precision.py).
    """
    if dtype != "auto":
        return getattr(torch, dtype)
    gpu = torch.device(device).type == "cuda"
    native = gpu and torch.cuda.is_bf16_supported(including_emulation=False)
    return torch.bfloat16 if native else torch.float32


def autocast(
    options: ModelConfig, device: str | torch.device
) -> torch.autocast | nullcontext[None]:
    """Computes in the job's precision what allows it."""
    dtype = precision(options.dtype, device)
    return (
        nullcontext()
        if dtype == torch.float32
        else torch.autocast(torch.device(device).type, dtype=dtype)
    )


class Forward:
    """Calls a network.

    On a GPU a network that is given as `model` gets its weights in the job's precision once, and a
    shape that comes again is recorded and replayed. Elsewhere matrix products and convolutions run
    in the precision, sums that need it in float32 (autocast), and weights stay float32.

    Args:
        function: B×3×h×w → tensors of B rows each.
        device: Where the network is.
        options: `dtype` and `compile`.
        model: The network inside the function, ready for both; None = leave it as it is.
        cast: Casts its weights; some networks keep parts in float32.
        own: The answer is the caller's to keep, in float32. Else it may be of the precision, and
            the next call may write over it.

    Attributes:
        dtype: Of the pixels that the function gets.
    """

    def __init__(
        self,
        function: Function,
        *,
        device: str | torch.device,
        options: ModelConfig,
        model: nn.Module | None = None,
        cast: Callable[[nn.Module, torch.dtype], None] = cast_weights,
        own: bool = True,
    ) -> None:
        self._own = own
        self._device = torch.device(device)
        self._options = options
        self._function = function
        self.dtype = torch.float32
        wanted = precision(options.dtype, device)
        self._uncompiled: nn.Module | None = None
        if model is not None and self._device.type == "cuda":
            if wanted != torch.float32 and castable(model):
                cast(model, wanted)
                self.dtype = wanted
            without_drop_path(model)
            if path_for(self._device) == "kernels":
                exchange_windows(model)
            if options.compile and repeated_blocks(model):
                self._uncompiled = model
        whole = options.compile and self._uncompiled is None
        self._compiled = torch.compile(function, dynamic=False) if whole else None
        self._autocast: Callable[[], AbstractContextManager[Any]] = nullcontext
        if self.dtype == torch.float32 and wanted != torch.float32:
            self._autocast = partial(torch.autocast, self._device.type, dtype=wanted)
        self._shapes: set[torch.Size] = set()
        self._graphs = None
        if model is not None and self._device.type == "cuda":
            self._graphs = Graphs(lambda pixels: self._chosen(pixels.shape)(pixels))

    def __call__(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """The network's answer."""
        pixels = pixels.to(self.dtype).contiguous(memory_format=torch.channels_last)
        with torch.inference_mode(), self._autocast():
            if self._compiled and not self._shapes:
                self._function(pixels)  # transformers hangs hooks into a model at its first call
            if self._uncompiled is not None:
                self._function(pixels)
                compile_blocks(self._uncompiled)
                self._uncompiled = None
            if self._graphs is None:
                chosen = self._chosen(pixels.shape) if self._compiled else self._function
                answer = chosen(pixels)
            elif not self._own:
                return self._graphs(pixels)
            else:
                # Copied: what a graph answers is overwritten by its next call.
                return tuple(
                    each.to(torch.float32, copy=True) if each.is_floating_point() else each.clone()
                    for each in self._graphs(pixels)
                )
        return tuple(each.float() if each.is_floating_point() else each for each in answer)

    def _chosen(self, shape: torch.Size) -> Function:
        if self._compiled is None:
            return self._function
        if shape not in self._shapes:
            if len(self._shapes) == SHAPES:
                return self._function
            self._shapes.add(shape)
            limits = torch._dynamo.config  # its own limit of 8 falls back to plain calls
            limits.recompile_limit = max(limits.recompile_limit, SHAPES)
        return self._compiled


_log = logging.getLogger(__name__)
T = TypeVar("T")

_ALLOCATION = "ALLOC_FAILED"
"""In the message of cuBLAS and cuDNN when memory runs out."""

Shapes = tuple[Hw, ...]
"""Sizes of a picture's inputs, pixels: one for each view of it."""


class Passes:
    """Cuts pictures into batches of one shape each, so that none is padded for another.

    A batch that does not fit into the GPU's memory is halved, and the size that fitted is kept
    for inputs as large and larger ones.

    Args:
        batch_size: Pictures at once, at most.
    """

    def __init__(self, batch_size: int) -> None:
        self._most = batch_size
        self._limits: dict[int, int] = {}

    def limit(self, shapes: Shapes) -> int:
        """Pictures of these shapes that go at once, as far as is known."""
        if not self._limits:
            return self._most
        pixels = _pixels(shapes)
        return min([self._most, *(n for least, n in self._limits.items() if least <= pixels)])

    def run(
        self,
        shapes: Sequence[Shapes],
        work: Callable[[list[int], list[int]], list[T]],
        fail: Callable[[int, str], T],
    ) -> list[T]:
        """Does the work on every picture.

        Args:
            shapes: Of each picture's inputs.
            work: Does some pictures of equal shapes, given by their indices; one answer each. It
                is also told which come next.
            fail: The answer for a picture that is too large even alone, with what to do.

        Returns:
            One answer a picture, in their order.
        """
        buckets: dict[Shapes, list[int]] = {}
        for index, key in enumerate(shapes):
            buckets.setdefault(key, []).append(index)
        waiting = list(buckets.items())
        answers: dict[int, T] = {}
        while waiting:
            key, indices = waiting[0]
            some = indices[: self.limit(key)]
            rest = indices[len(some) :]
            after = [(key, rest), *waiting[1:]] if rest else waiting[1:]
            ahead = after[0][1][: self.limit(after[0][0])] if after else []
            results = _tried(work, some, ahead)
            if results is not None:
                answers.update(zip(some, results, strict=True))
            elif len(some) == 1:
                answers[some[0]] = fail(some[0], _advice(key))
            else:
                self._halve(key, len(some))
                continue
            waiting = after
        return [answers[index] for index in range(len(shapes))]

    def _halve(self, shapes: Shapes, tried: int) -> None:
        self._limits[_pixels(shapes)] = tried // 2
        _log.warning("out of GPU memory: inputs of %s go %d at a time", _text(shapes), tried // 2)


def _tried(
    work: Callable[[list[int], list[int]], list[T]], some: list[int], after: list[int]
) -> list[T] | None:
    """The answers, or None where memory ran out; nothing of the attempt stays in memory."""
    try:
        return work(some, after)
    except RuntimeError as error:
        if not isinstance(error, torch.OutOfMemoryError) and _ALLOCATION not in str(error):
            raise
    # Here the traceback is gone, and with it the tensors that it held.
    gc.collect()
    torch.cuda.empty_cache()
    return None


def _pixels(shapes: Shapes) -> int:
    return max(height * width for height, width in shapes)


def _text(shapes: Shapes) -> str:
    height, width = max(shapes, key=lambda hw: hw[0] * hw[1])
    return f"{height} × {width} pixels"


def _advice(shapes: Shapes) -> str:
    return (
        f"out of GPU memory with one picture alone (input of {_text(shapes)}): set tiling.size, "
        "model.dtype = 'bfloat16' or fewer views, or take a GPU with more memory"
    )
