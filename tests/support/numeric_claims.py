"""What two computations of the same masks share on every processor.

Float32 sums in another order, or with other vector instructions, differ in their last bits, so a
pixel whose logit lies within rounding of the threshold may fall either way. All other pixels may
not, and that is the claim: masks are equal but for such pixels, which are counted. Byte equality is
asked only of the same operations in the same order.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from pipeline.masks import codec
from pipeline.models.sam_core.masks import Enlarging
from pipeline.models.sam_core.net import Encoded, SamNet
from pipeline.models.sam_core.prompted import _asked as small_masks
from schemas.records import Prompt, Segment

Flags = NDArray[np.bool_]

ROUNDING = 1e-5
"""Of the largest logit: how far float32 sums in another order lie apart in the tiny networks."""

AMPLIFIED = 1e-3
"""The same in a network drawn to have sharp edges, which magnifies what it is given: up to 6e-4
were measured between instruction sets."""


@dataclass(frozen=True, slots=True)
class Judged:
    """A mask's logits, and which of its pixels rounding may turn.

    Attributes:
        logits: H×W float.
        rounding: How far two computations of a logit may lie apart, of the largest one.
    """

    logits: NDArray[np.floating]
    rounding: float = ROUNDING

    def unsure(self, threshold: float = 0.0) -> Flags:
        """H×W: pixels within rounding of a threshold."""
        reach = self.rounding * float(np.abs(self.logits).max())
        return np.abs(self.logits - threshold) <= reach


def assert_same_masks(
    found: NDArray, expected: NDArray, unsure: Flags, *, regions: bool = False
) -> int:
    """Masks equal but for the pixels that rounding may turn.

    Args:
        found: H×W, 0 or not.
        expected: The same of the other computation.
        unsure: H×W, pixels that may differ.
        regions: Small regions were removed or filled: an unsure pixel may decide over its region,
            so that a difference must only hold such a pixel.

    Returns:
        Pixels that differ.
    """
    differs = (found != 0) != (expected != 0)
    if regions and differs.any():
        _, parts = cv2.connectedComponents(differs.astype(np.uint8), connectivity=8)
        excused = np.isin(parts, np.unique(parts[differs & unsure]))
    else:
        excused = unsure
    wrong = int((differs & ~excused).sum())
    assert not wrong, f"{wrong} pixels differ beyond rounding, {int(unsure.sum())} may"
    return int(differs.sum())


def assert_same_share(found: float, expected: float, judged: Judged, offset: float) -> None:
    """Stability scores, shares of pixels above two thresholds, but for the unsure pixels."""
    turns = int(judged.unsure(offset).sum() + judged.unsure(-offset).sum())
    low = max(int((judged.logits > -offset).sum()) - turns, 1)
    assert found == pytest.approx(expected, abs=turns / low + 1e-6)


def logits_of_alternatives(
    net: SamNet, picture: Encoded, prompts: Tensor, enlarging: Enlarging
) -> tuple[NDArray[np.floating], NDArray[np.floating]]:
    """What the implementation's own decoder says: N×M×H×W logits, N×M estimates of quality."""
    with torch.inference_mode():
        small, quality = net.reference(picture, prompts)
        whole = [enlarging(each) for each in small]
    return torch.stack(whole).double().numpy(), quality.double().numpy()


def logits_of_prompt(
    net: SamNet, picture: Encoded, enlarging: Enlarging, prompt: Prompt, *, single: bool = False
) -> Judged:
    """The logits of the mask that a prompt is answered with."""
    with torch.inference_mode():
        small = small_masks(net, picture, enlarging, [prompt], single)
        return Judged(enlarging(small.logits)[0].double().numpy())


def assert_same_prompted(found: Segment, expected: Segment, judged: Judged) -> None:
    """One prompt's segments of two computations: all but rounding alike."""
    hw = judged.logits.shape
    mask, other = (codec.decode(one.counts, *hw) for one in (found, expected))
    turned = assert_same_masks(mask, other, judged.unsure())
    assert abs(found.area - expected.area) <= turned
    for one in (found, expected):
        assert one.bbox_xywh == codec.bbox_xywh(one.counts, *hw)
    assert found.score == pytest.approx(expected.score, abs=1e-4)
    for key in ("category_id", "prompt", "iscrowd", "task"):
        assert getattr(found, key) == getattr(expected, key)
    assert found.evidence is not None
    assert expected.evidence is not None
    quality = found.evidence.predicted_iou
    assert quality == pytest.approx(expected.evidence.predicted_iou, abs=1e-4)
    for key in ("source_id", "point_xy", "prompt_bbox_xywh", "crop_xywh"):
        assert getattr(found.evidence, key) == getattr(expected.evidence, key)


def nearest(
    quality: float, estimates: Sequence[float] | NDArray[np.floating], *, rounding: float
) -> int:
    """Which of a prompt's alternatives has this quality, of the order of 1."""
    gaps = np.abs(np.asarray(estimates, float) - quality)
    assert gaps.min() <= rounding, f"no alternative has the quality {quality}"
    return int(gaps.argmin())


def in_order_of(
    found: Sequence[Segment], keys: Sequence[tuple[object, float]], *, rounding: float
) -> list[int]:
    """Pairs segments with the other computation's, each with one and none left.

    Args:
        found: Segments with the point and crop that they come from.
        keys: (what they come from, quality) of the other's, in its order.
        rounding: How far two computations of a quality may lie apart.

    Returns:
        For each segment the place of its partner. Places differ from 0, 1, 2, … only among masks
        whose qualities lie within rounding of one another.
    """
    assert len(found) == len(keys)
    left, places = list(range(len(keys))), []
    for one in found:
        evidence = one.evidence
        assert evidence is not None
        assert evidence.predicted_iou is not None
        source = (evidence.point_xy, evidence.crop_xywh)
        same = [place for place in left if keys[place][0] == source]
        assert same, f"only one computation kept a mask of {source}"
        place = same[
            nearest(evidence.predicted_iou, [keys[each][1] for each in same], rounding=rounding)
        ]
        left.remove(place)
        places.append(place)
    mine = [keys[place][1] for place in places]
    assert mine == pytest.approx([quality for _, quality in keys], abs=rounding), "another order"
    return places
