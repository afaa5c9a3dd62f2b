"""SAM "everything": masks of all that a grid of points finds, as SamAutomaticMaskGenerator does it.

The reference mode takes the package's steps in the package's order with the implementation's own
decoder. The fast mode comes to the same set: it decodes many points at once, looks at the estimated
quality before a mask is enlarged, at boxes and stability before a mask is painted, and writes only
those that survive.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from torch import Tensor

from pipeline.models.grids.transfer import fetch
from pipeline.models.network.fit import Fitter
from pipeline.models.postprocess.backend import Path
from schemas.config.prompts import EverythingConfig
from schemas.records import Evidence, Sample, Segment

from .grid import Crop, box_nms, crops, without_small_regions
from .masks import Enlarging, SmallMasks, alternatives, judge, numbered_segments
from .net import Encoded, SamNet

_EDGE = 20
"""Pixels within which a box counts as touching an edge."""

_POINT_BYTES = 24 << 20
"""What decoding a point takes at SAM's real size, with what is left of the points before it."""


@dataclass(frozen=True, slots=True)
class Candidates:
    """Masks of one crop that are worth keeping, still as small logits.

    Attributes:
        crop: The part of the picture.
        enlarging: To the crop's pixels.
        small: M×h×w logits.
        boxes: M×4 int64, of the crop; see `sam_judge.judge`.
        predicted_iou: M float32.
        stability: M float32.
        points: M int64, index of the point in the crop's grid.
    """

    crop: Crop
    enlarging: Enlarging
    small: Tensor
    boxes: Tensor
    predicted_iou: Tensor
    stability: Tensor
    points: Tensor

    def take(self, which: Tensor) -> Candidates:
        """Some of them: a mask of flags, or indices in a new order."""
        return replace(
            self,
            small=self.small[which],
            boxes=self.boxes[which],
            predicted_iou=self.predicted_iou[which],
            stability=self.stability[which],
            points=self.points[which],
        )


class Everything:
    """Segments everything in a picture.

    Args:
        net: A loaded SAM.
        fitter: Its input rule.
        config: Grid and thresholds.
        two_steps: How its logits are enlarged, see `sam_judge.Enlarging`.
        threshold: Logits above are inside.
    """

    def __init__(
        self,
        net: SamNet,
        fitter: Fitter,
        config: EverythingConfig,
        *,
        two_steps: bool,
        threshold: float = 0.0,
    ) -> None:
        self._net = net
        self._fitter = fitter
        self._config = config
        self._two_steps = two_steps
        self._threshold = threshold
        self._path: Path | None = "plain" if config.reference else None

    def segments(
        self, sample: Sample, *, category_id: int, whole: Encoded | None = None
    ) -> list[Segment]:
        """Labels one picture.

        Args:
            sample: The picture.
            category_id: Of all segments.
            whole: The picture's embedding, where it is there already.
        """
        found = self._generate(sample, whole)
        segments = [one for part in found for one in self._painted(part, sample, category_id)]
        if self._config.min_mask_region_area:
            limit = max(self._config.box_nms_thresh, self._config.crop_nms_thresh)
            segments = without_small_regions(
                segments,
                *sample.original_hw,
                min_area=self._config.min_mask_region_area,
                nms_thresh=limit,
            )
        return segments

    def _generate(self, sample: Sample, whole: Encoded | None) -> list[Candidates]:
        height, width = sample.original_hw
        parts = [
            self._of_crop(sample, crop, whole if crop.layer == 0 else None)
            for crop in crops(height, width, self._config)
        ]
        if len(parts) == 1:
            return parts
        # Masks of smaller crops go before, here and in the answer.
        offsets = [parts[0].boxes.new_tensor(part.crop.box_xyxy[:2] * 2) for part in parts]
        boxes = torch.cat([part.boxes + at for part, at in zip(parts, offsets, strict=True)])
        owner = torch.cat([torch.full_like(part.points, index) for index, part in enumerate(parts)])
        sizes = [part.crop.size_hw[0] * part.crop.size_hw[1] for part in parts]
        scores = (1 / torch.tensor(sizes, device=boxes.device))[owner]
        kept = box_nms(boxes, scores, self._config.crop_nms_thresh)
        first = torch.cumsum(torch.tensor([0, *(len(part.boxes) for part in parts)]), 0).tolist()
        chosen = owner[kept]
        order = sorted(range(len(parts)), key=sizes.__getitem__)
        return [parts[index].take(kept[chosen == index] - first[index]) for index in order]

    def _of_crop(self, sample: Sample, crop: Crop, picture: Encoded | None) -> Candidates:
        part = _cut(sample, crop)
        if picture is None:
            pixels, (frame,) = self._fitter.batch([part])
            picture = self._net.encode(pixels.to(self._net.dtype))[0]
        else:
            (frame,) = self._fitter.frames([part.original_hw])
        enlarging = Enlarging(frame, self._two_steps, self._net.cubic)
        scale = np.array(frame.content_hw[::-1]) / np.array(crop.size_hw[::-1])
        # As float64 into the model, as the package hands them over.
        points = torch.as_tensor(crop.points_xy * scale, device=picture.raw.device)
        found = [
            self._judged(small, enlarging, crop, sample.original_hw)
            for small in self._small(picture, points[:, None])
        ]
        whole = _joined(found)
        return whole.take(box_nms(whole.boxes, whole.predicted_iou, self._config.box_nms_thresh))

    def _small(self, picture: Encoded, points: Tensor) -> Iterator[SmallMasks]:
        """Masks of some points at a time whose estimated quality suffices."""
        step = self._config.points_per_batch
        if points.is_cuda and not self._config.reference:
            room = torch.cuda.get_device_properties(points.device).total_memory
            step = max(step, min(room // 2 // _POINT_BYTES, 1024))
        for start in range(0, len(points), step):
            some = points[start : start + step]
            prompts = self._net.points(some, torch.ones(len(some), 1, device=some.device))
            small = alternatives(
                self._net,
                picture,
                prompts,
                least=self._config.pred_iou_thresh,
                reference=self._config.reference,
            )
            yield replace(small, prompt=small.prompt + start)

    def _judged(
        self, small: SmallMasks, enlarging: Enlarging, crop: Crop, picture_hw: tuple[int, int]
    ) -> Candidates:
        config = self._config
        stability, boxes = judge(
            small.logits,
            enlarging,
            threshold=self._threshold,
            offset=config.stability_score_offset,
            path=self._path,
        )
        keep = ~_near_edge(boxes, crop, picture_hw)
        if config.stability_score_thresh > 0:
            keep &= stability >= config.stability_score_thresh
        every = Candidates(
            crop, enlarging, small.logits, boxes, small.predicted_iou, stability, small.prompt
        )
        return every.take(keep)

    def _painted(self, part: Candidates, sample: Sample, category_id: int) -> list[Segment]:
        """Segments of a crop's masks, in the picture's pixels and in the order of the masks."""
        left, top, _, _ = part.crop.box_xyxy
        height, width = part.crop.size_hw
        crop_xywh = (left, top, width, height)
        kept = fetch(torch.stack((part.predicted_iou, part.stability, part.points.float()), 1))
        points = part.crop.points_xy[kept[:, 2].astype(int)] + (left, top)
        found = []
        for index, one in numbered_segments(
            part.small,
            part.enlarging,
            threshold=self._threshold,
            boxes=part.boxes,
            picture_hw=sample.original_hw,
            corner_xy=(left, top),
            path=self._path,
        ):
            quality = float(kept[index, 0])
            evidence = Evidence(
                predicted_iou=quality,
                stability_score=float(kept[index, 1]),
                point_xy=(float(points[index, 0]), float(points[index, 1])),
                crop_xywh=crop_xywh,
            )
            score = min(max(quality, 0.0), 1.0)
            found.append(replace(one, category_id=category_id, score=score, evidence=evidence))
        return found


def _cut(sample: Sample, crop: Crop) -> Sample:
    left, top, right, bottom = crop.box_xyxy
    if crop.layer == 0:
        return sample
    pixels = sample.pixels[top:bottom, left:right]
    return replace(sample, pixels=pixels, original_hw=crop.size_hw)


def _near_edge(boxes: Tensor, crop: Crop, picture_hw: tuple[int, int]) -> Tensor:
    """Whether a box nearly touches an edge of the crop that is none of the picture."""
    left, top, _, _ = crop.box_xyxy
    height, width = picture_hw
    at = boxes.new_tensor((left, top, left, top))
    inner, outer = (boxes.new_tensor(box) for box in (crop.box_xyxy, (0, 0, width, height)))
    near, rim = (((boxes + at) - edge).abs() <= _EDGE for edge in (inner, outer))
    return (near & ~rim).any(1)


def _joined(parts: list[Candidates]) -> Candidates:
    first = parts[0]
    return replace(
        first,
        small=torch.cat([part.small for part in parts]),
        boxes=torch.cat([part.boxes for part in parts]),
        predicted_iou=torch.cat([part.predicted_iou for part in parts]),
        stability=torch.cat([part.stability for part in parts]),
        points=torch.cat([part.points for part in parts]),
    )
