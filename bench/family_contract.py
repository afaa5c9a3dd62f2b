"""Every tiny checkpoint of the contract suite on a GPU, held against the CPU.

In float32 both must find the same segments, up to pixels that lie within rounding of an edge; in
the GPU's own precision a random network decides differently where it is unsure, so that is shown
and not judged.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
from pycocotools import mask as coco_mask

from pipeline.models.checkpoints.families import Segmenter, segmenter_class
from pipeline.models.checkpoints.info import describe
from schemas.config.model import ModelConfig
from schemas.records import Segment, Segmentation

ROOT = Path(__file__).resolve().parent.parent


def contract(device: str) -> None:
    """Prints a line a checkpoint; exits 1 where one fails.

    Raises:
        SystemExit: One did.
    """
    sys.path[:0] = [str(ROOT / "tests" / folder) for folder in ("support", "contract")]
    suite: Any = import_module("test_families")
    failed: list[str] = []
    print(f"| checkpoint | segments | mean IoU, float32 | worst | mean IoU, {device}'s own |")
    print("|---|---|---|---|---|")
    for name in suite.ROWS:
        try:
            line, fine = _compared(suite, name, device)
        except Exception as error:
            line, fine = f"failed: {type(error).__name__}: {error}", False
        print(f"| {name} | {line} |", flush=True)
        failed += [] if fine else [name]
    print(f"failed: {', '.join(failed) or 'none'}")
    if failed:
        raise SystemExit(1)


def _compared(suite: Any, name: str, device: str) -> tuple[str, bool]:
    expected = suite.odd_answers(name)
    exact = _answers(suite, name, device, dtype="float32")
    own = _answers(suite, name, device, dtype="auto")
    pairs = _ious(expected, exact)
    same = float(np.mean(pairs))
    rough = float(np.mean(_ious(expected, own)))
    return f"{len(pairs)} | {same:.5f} | {min(pairs):.3f} | {rough:.3f}", same > 0.99


def _answers(suite: Any, name: str, device: str, *, dtype: str) -> list[Segmentation]:
    info = describe(str(suite.checkpoint(name)))
    options = ModelConfig.model_validate({"name": name, **suite.FINDS_ALL, "dtype": dtype})
    model: Segmenter = segmenter_class(info.family)(info, options, suite.ROWS[name][1])
    model.load(device)
    if dtype == "float32":
        _take_inputs_of_the_cpu(model, device)
    found = model.segment(suite.odd_samples())
    model.close()
    for one in found:
        if one.failure is not None:
            raise ValueError(one.failure.message)
    return found


def _take_inputs_of_the_cpu(model: Any, device: str) -> None:
    """Resizing rounds otherwise on a GPU, by up to one of 255 levels, and so do TF32 products.

    What is left to differ is what this looks at: the network in float32, and everything after it.
    """
    import torch

    from pipeline.models.network.fit import Fitter

    torch.backends.cudnn.allow_tf32 = False
    torch.backends.cuda.matmul.allow_tf32 = False
    shared = model._shared
    cpu = Fitter(shared.fitter.rule, "cpu")

    def batch(*given: Any, **options: Any) -> Any:
        pixels, frames = cpu.batch(*given, **options)
        return pixels.to(device), frames

    shared.fitter.batch = batch


def _ious(expected: Sequence[Segmentation], found: Sequence[Segmentation]) -> list[float]:
    """The best IoU of every expected segment with one of its task and category."""
    ious: list[float] = []
    for one, other in zip(expected, found, strict=True):
        size = [one.height, one.width]
        for segment in one.segments:
            rivals = [each for each in other.segments if _kind(each) == _kind(segment)]
            ious.append(max((_iou(segment, each, size) for each in rivals), default=0.0))
    return ious


def _kind(segment: Segment) -> tuple[str | None, int]:
    return segment.task, segment.category_id


def _iou(one: Segment, other: Segment, size: list[int]) -> float:
    rles: list[Any] = [{"size": size, "counts": each.counts} for each in (one, other)]
    return float(coco_mask.iou(rles[:1], rles[1:], [0])[0, 0])
