"""What the Triton kernels give is what the plain way and the host give.

`test_dense` calls `check`: with a CPU under Triton's interpreter, with a GPU where there is one.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import torch
from random_outputs import frame_of, query_output, smooth

from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import Found, LabelMap, MaskStack
from pipeline.models.grids.outputs import BoxOutput, DenseOutput, QueryOutput
from pipeline.models.kernels.runs_launch import device_regions
from pipeline.models.postprocess.boxes import paste_instances
from pipeline.models.postprocess.encode import host_regions
from pipeline.models.postprocess.instance import merge_instance
from pipeline.models.postprocess.panoptic import merge_panoptic
from pipeline.models.postprocess.semantic import merge_semantic, query_semantic
from pipeline.models.sam_core.masks import Enlarging, judge, numbered_segments

ISTHING = [True, False, True, False, True]
LIMITS = {"threshold": 0.4, "mask_threshold": 0.5}


def check(device: str) -> None:
    """Every kernel, on pictures of different sizes with padding, in three number formats."""
    agreement = torch.rand(8, generator=torch.Generator().manual_seed(0))
    outputs = [
        replace(output, agreement=agreement)
        for output in (
            query_output(1, picture_hw=(70, 21), grid_hw=(9, 5), content=0.8),
            query_output(2, picture_hw=(5, 33), grid_hw=(6, 7), rough=True),
            query_output(3, picture_hw=(16, 16), grid_hw=(4, 4)),
        )
    ]
    silent = torch.full_like(outputs[2].class_logits, -9.0)
    silent[:, -1] = 9
    outputs.append(replace(outputs[2], class_logits=silent))
    for dtype, cases in ((torch.float32, outputs), (torch.bfloat16, outputs[:1])):
        some = [_on(output, device, dtype) for output in cases]
        _same(
            lambda path, some=some: merge_panoptic(
                some, isthing=ISTHING, overlap_threshold=0.3, **LIMITS, path=path
            )
        )
        _same(lambda path, some=some: merge_instance(some, isthing=ISTHING, **LIMITS, path=path))
        # The last is nothing but ties. A grid as fine as the input shows the kernels nothing more.
        maps = [query_semantic(output, per_cell=True) for output in some[:3]]
        _same(lambda path, maps=maps: merge_semantic(maps, path=path))
    _dense(device)
    _boxes(device)
    _runs(device)
    _sam(device)


def _on(output: QueryOutput, device: str, dtype: torch.dtype) -> QueryOutput:
    return replace(
        output,
        class_logits=output.class_logits.to(device, dtype),
        mask_logits=output.mask_logits.to(device, dtype),
        agreement=None if output.agreement is None else output.agreement.to(device),
    )


def _dense(device: str) -> None:
    rng = np.random.default_rng(5)
    outputs = [
        DenseOutput(
            smooth(rng, 4, grid, 3.0).to(device, torch.float16),
            frame_of(picture, grid, content),
            agreement=torch.from_numpy(rng.random(grid)).to(device),
        )
        for picture, grid, content in (((66, 20), (9, 6), 0.7), ((10, 9), (12, 13), 1.0))
    ]
    strided = replace(
        outputs[0], logits=outputs[0].logits.permute(1, 2, 0).contiguous().permute(2, 0, 1)
    )
    for some in (outputs, [strided]):
        _same(lambda path, some=some: merge_semantic(some, path=path))
    many = DenseOutput(smooth(rng, 260, (2, 2), 3.0).to(device), frame_of((5, 4), (2, 2)))
    _same(lambda path: merge_semantic([many], path=path))


def _boxes(device: str) -> None:
    rng = np.random.default_rng(6)
    frame = frame_of((70, 30), (20, 9), 0.9)
    boxes = torch.tensor([[3.0, 4.5, 20.3, 60.0], [-5.0, 30.0, 9.0, 99.0], [8.0, 8.0, 8.0, 9.0]])
    some = BoxOutput(
        boxes.to(device),
        torch.arange(3).to(device),
        torch.ones(3).to(device),
        smooth(rng, 3, (7, 7), 2.0).sigmoid().to(device),
        frame,
    )
    none = BoxOutput(
        some.boxes_xyxy[:0], some.labels[:0], some.scores[:0], some.mask_probs[:0], frame
    )
    _same(lambda path: paste_instances([some, none, some], mask_threshold=0.4, path=path))
    _same(lambda path: paste_instances([none], mask_threshold=0.4, path=path))


def _runs(device: str) -> None:
    """Long runs, noise, and a picture without anything."""
    rng = np.random.default_rng(7)
    noise = rng.integers(0, 3, (13, 17)).astype(np.uint8)
    bars = np.zeros((9, 40), np.uint8)
    bars[:, 3:20], bars[2:, 25:], bars[:, 39] = 1, 2, 4
    maps = [
        LabelMap(torch.from_numpy(each.T.copy()).to(device).T, Found(np.arange(4), np.ones(4)))
        for each in (noise, bars, np.zeros((3, 3), np.uint8), noise * 0 + 1)
    ]
    _same_regions(maps, maps)
    _same_regions(maps[2:3], maps[2:3])


def _sam(device: str) -> None:
    """SAM's masks, read in one step and in two, judged and painted, of a picture and of a crop."""
    rng = np.random.default_rng(8)
    blobs = smooth(rng, 3, (16, 16), 6.0)
    full, none = torch.full((1, 16, 16), 9.0), torch.full((1, 16, 16), -9.0)
    single, half = (torch.float32,), (torch.float32, torch.bfloat16)
    for picture_hw, content_hw, two_steps, types in (
        ((36, 24), (64, 43), True, half),
        ((70, 19), (64, 17), True, single),
        ((17, 33), (64, 64), False, half),
        ((1, 1), (64, 64), False, single),
    ):
        enlarging = Enlarging(Frame(picture_hw, content_hw, (64, 64)), two_steps)
        for dtype in types:
            small = torch.cat((blobs, none, full)).to(device, dtype)
            wanted, judged = (
                judge(small, enlarging, threshold=0.2, offset=1.0, path=path)
                for path in ("plain", "kernels")
            )
            np.testing.assert_allclose(*(each[0].cpu() for each in (wanted, judged)), atol=1e-3)
            assert wanted[1].tolist() == judged[1].tolist()
            height, width = picture_hw
            for whole_hw, corner_xy in ((picture_hw, (0, 0)), ((height + 9, width + 5), (5, 2))):
                plain, mine = (
                    list(
                        numbered_segments(
                            small,
                            enlarging,
                            threshold=0.2,
                            boxes=judged[1],
                            picture_hw=whole_hw,
                            corner_xy=corner_xy,
                            path=path,
                        )
                    )
                    for path in ("plain", "kernels")
                )
                assert plain == mine


def _same(merge: Callable[[Any], Sequence[LabelMap | MaskStack]]) -> None:
    """The kernels' maps are the plain way's, and so are the strings written on the device."""
    plain, mine = merge("plain"), merge("kernels")
    for a, b in zip(plain, mine, strict=True):
        assert a.found.labels.tolist() == b.found.labels.tolist()
        np.testing.assert_allclose(a.found.scores, b.found.scores, atol=2e-6)
        assert (a.found.agreement is None) == (b.found.agreement is None)
        if a.found.agreement is not None and b.found.agreement is not None:
            np.testing.assert_allclose(a.found.agreement, b.found.agreement, atol=2e-6)
        if isinstance(a, MaskStack) and isinstance(b, MaskStack):
            assert a.planes.tolist() == b.planes.tolist()
    _same_regions(plain, mine)


def _same_regions(
    plain: Sequence[LabelMap | MaskStack], mine: Sequence[LabelMap | MaskStack]
) -> None:
    for a, b in zip(map(host_regions, plain), device_regions(mine), strict=True):
        assert a.index.tolist() == b.index.tolist()
        assert a.texts == b.texts
        assert a.areas.tolist() == b.areas.tolist()
        assert a.boxes_xywh.tolist() == b.boxes_xywh.tolist()
