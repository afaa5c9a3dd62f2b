"""Equality, before bench/postprocess.py times anything: fast way, plain way, transformers.

Two label maps may differ where the two best values are closer than `TIE`, and masks where a logit
lies that close to the threshold: sums in another order round differently.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import SimpleNamespace
from typing import Any

import numpy as np
from torch import Tensor
from torch.nn.functional import interpolate

from bench.postprocess_data import (
    CATEGORIES,
    LIMITS,
    MASK2FORMER,
    ONEFORMER,
    SEGFORMER,
    answer_of,
)
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.maps import LabelMap, MaskStack
from pipeline.models.grids.outputs import DenseOutput, QueryOutput
from pipeline.models.grids.resample import columns_of
from pipeline.models.postprocess.encode import segments_of
from pipeline.models.postprocess.instance import merge_instance
from pipeline.models.postprocess.panoptic import merge_panoptic
from pipeline.models.postprocess.semantic import merge_semantic

TIE = 1e-5

Values = Callable[[Any, Tensor], Tensor]
THINGS_ONLY = [True] * CATEGORIES  # nothing is fused: transformers' numbers are then right


def check_paths(queries: Sequence[QueryOutput], maps: Sequence[DenseOutput], what: str) -> bool:
    """The fast way against the plain one. Whatever won a pixel stays, so that all is compared."""
    good = True
    limits: dict[str, Any] = {"isthing": THINGS_ONLY, **LIMITS}
    fast = merge_panoptic(queries, overlap_threshold=0.0, **limits)
    plain = merge_panoptic(queries, overlap_threshold=0.0, **limits, path="plain")
    good &= _same_maps(f"panoptic, {what}: fast = plain", queries, fast, plain, _weighted)
    good &= _check_strings(f"panoptic, {what}", fast)
    stacks = merge_instance(queries, **limits)
    good &= _same_masks(
        f"instance, {what}: fast = plain", stacks, merge_instance(queries, **limits, path="plain")
    )
    good &= _check_strings(f"instance, {what}", stacks)
    fast, plain = merge_semantic(maps), merge_semantic(maps, path="plain")
    good &= _same_maps(f"semantic, {what}: fast = plain", maps, fast, plain, _bare)
    return good & _check_strings(f"semantic, {what}", fast)


def check_peers(query: QueryOutput, dense: DenseOutput, what: str) -> bool:
    """Ours against transformers, on masks that already have the size at which it decides."""
    device = query.mask_logits.device
    good = True
    for overlap in (0.0, 0.8):
        full = _resized(query, dense.frame.picture_hw)
        (mine,) = merge_panoptic([full], isthing=THINGS_ONLY, overlap_threshold=overlap, **LIMITS)
        with device:
            (found,) = ONEFORMER.post_process_panoptic_segmentation(
                None, answer_of([full]), overlap_mask_area_threshold=overlap,
                label_ids_to_fuse=set(),
            )  # fmt: skip
        theirs = LabelMap(found["segmentation"].clamp(min=0).to(mine.labels.dtype), mine.found)
        count = len(found["segments_info"])
        title = f"panoptic, {what}, overlap {overlap}: ours = transformers, {count} segments"
        good &= _same_maps(title, [full], [mine], [theirs], _weighted)
    small = _resized(query, (384, 384))
    (stack,) = merge_instance([small], isthing=THINGS_ONLY, **LIMITS)
    with device:
        (found,) = MASK2FORMER.post_process_instance_segmentation(
            None, answer_of([small]), return_binary_maps=True
        )
    masks = found["segmentation"].cpu().numpy().astype(bool)
    labels = [item["label_id"] for item in found["segments_info"]]
    title = f"instance, {what}: ours = transformers, {len(labels)} masks"
    good &= _paired_masks(title, stack, labels, masks)
    (mine,) = merge_semantic([dense])
    (found,) = SEGFORMER.post_process_semantic_segmentation(
        None,
        SimpleNamespace(logits=dense.logits[None]),
        target_sizes=[dense.frame.picture_hw],
    )
    theirs = LabelMap((found + 1).to(mine.labels.dtype), mine.found)
    return good & _same_maps(
        f"semantic, {what}: ours = transformers", [dense], [mine], [theirs], _bare
    )


def _same_maps(
    what: str,
    outputs: Sequence[QueryOutput] | Sequence[DenseOutput],
    mine: Sequence[LabelMap],
    other: Sequence[LabelMap],
    values: Values,
) -> bool:
    worst, gap = 0, 0.0
    for output, a, b in zip(outputs, mine, other, strict=True):
        differ = (a.labels != b.labels).T
        worst = max(worst, int(differ.sum()))
        if differ.any():
            maps = output.mask_logits if isinstance(output, QueryOutput) else output.logits
            for some, columns in columns_of(maps, output.frame):
                best = values(output, columns).topk(2, dim=0).values
                gaps = (best[0] - best[1])[differ[some]]
                gap = max([gap, *gaps.amax(keepdim=True).tolist()] if len(gaps) else [gap])
    return _verdict(what, worst, gap < TIE, f"the best two values within {gap:.1g}")


def _same_masks(what: str, mine: Sequence[MaskStack], other: Sequence[MaskStack]) -> bool:
    worst = 0
    for a, b in zip(mine, other, strict=True):
        if a.found.labels.tolist() != b.found.labels.tolist():
            return _verdict(what, -1, False, "different segments")
        worst = max(worst, int((_masks(a) != _masks(b)).sum()))
    # A handful among some millions; each is a logit that rounds to either side of the threshold.
    return _verdict(what, worst, worst < 50, "at the threshold")


def _paired_masks(what: str, stack: MaskStack, labels: list[int], masks: np.ndarray) -> bool:
    """Theirs come in no certain order: each is paired with ours of its category that is nearest."""
    mine = _masks(stack)
    left = list(range(len(mine)))
    worst = 0
    for label, mask in zip(labels, masks, strict=True):
        same = [index for index in left if stack.found.labels[index] == label]
        if not same:
            return _verdict(what, -1, False, "a segment is missing")
        differ = {index: int((mine[index] != mask).sum()) for index in same}
        nearest = min(differ, key=differ.__getitem__)
        left.remove(nearest)
        worst = max(worst, differ[nearest])
    return _verdict(what, worst, worst < 50 and not left, "at the threshold")


def _check_strings(what: str, maps: Sequence[LabelMap | MaskStack]) -> bool:
    """Strings, areas and boxes against pycocotools; True without it."""
    try:
        from pycocotools import mask as coco_mask
    except ImportError:
        return True
    coco: Any = coco_mask
    wrong = 0
    for each, segments in zip(
        maps, segments_of(maps, category_ids=range(1, CATEGORIES + 1)), strict=True
    ):
        if isinstance(each, LabelMap):
            labels = each.labels.cpu().numpy()
            masks = [labels == number for number in np.unique(labels) if number]
        else:
            masks = list(_masks(each))
        wrong += abs(len(masks) - len(segments))
        for mask, segment in zip(masks, segments, strict=False):
            code = coco.encode(np.asfortranarray(mask.astype(np.uint8)))
            box = coco.toBbox(code).astype(int).tolist()
            same = (code["counts"], int(coco.area(code)), box)
            wrong += same != (segment.counts, segment.area, list(segment.bbox_xywh))
    print(
        f"{'FAIL' if wrong else 'PASS'} {what}: strings = pycocotools, {wrong} differ", flush=True
    )
    return not wrong


def _verdict(what: str, pixels: int, good: bool, why: str) -> bool:
    note = f" ({why})" if pixels else ""
    print(f"{'PASS' if good else 'FAIL'} {what}: {pixels} pixels differ at most{note}", flush=True)
    return good


def _masks(stack: MaskStack) -> np.ndarray:
    """n×H×W bool, from the buffer itself."""
    height, width = stack.picture_hw
    pixels = stack.pixels.cpu().numpy()
    found = np.zeros((len(stack.planes), height, width), np.bool_)
    for entry, plane in enumerate(stack.planes.tolist()):
        x, y, w, h = stack.boxes_xywh[plane].tolist()
        start, stride = int(stack.offsets[plane]), int(stack.strides[plane])
        columns = pixels[start : start + w * stride].reshape(w, stride)[:, :h]
        found[entry, y : y + h, x : x + w] = columns.T
    return found


def _resized(output: QueryOutput, hw: tuple[int, int]) -> QueryOutput:
    masks = interpolate(output.mask_logits[None], hw, mode="bilinear")[0]
    return QueryOutput(output.class_logits, masks, Frame(hw, hw, hw))


def _weighted(output: QueryOutput, columns: Tensor) -> Tensor:
    """What competes for pixels: score × mask probability of the queries that found something."""
    scores, labels = output.class_logits.softmax(-1).max(-1)
    kept = (labels != CATEGORIES) & (scores > LIMITS["threshold"])
    return columns[kept].sigmoid() * scores[kept][:, None, None]


def _bare(_: DenseOutput, columns: Tensor) -> Tensor:
    return columns
