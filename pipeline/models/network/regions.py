"""Mask R-CNN of torchvision for a whole batch, without a loop over its pictures.

torchvision's own heads go picture by picture and wait for the GPU at each suppression. Here what
has fixed shapes, from pixels to the best proposals of each level, is one function that a graph can
record, and what follows is done for all pictures at once.
"""

from __future__ import annotations

from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import pad

from pipeline.models.grids.finite import finite
from pipeline.models.grids.geometry import Hw
from pipeline.models.postprocess.backend import path_for

_KEPT = 48
"""Sizes of inputs whose anchors are kept, 3 MB each. Those that are kept stay: a recorded graph
reads them."""

_LEAST_SIDE = 1e-2
"""Pixels; torchvision drops narrower detections."""


class LeanRegions:
    """Calls the parts of a torchvision Mask R-CNN.

    Args:
        net: Loaded, on its device, its batch normalisation folded (see `network.weights`).
            Weights may be cast later by whoever calls `propose`; boxes are float32 throughout.
    """

    def __init__(self, net: Any) -> None:
        self._backbone, self._rpn, self._heads = net.backbone, net.rpn, net.roi_heads
        self._names = [str(i) for i in range(len(net.backbone.fpn.inner_blocks))] + ["pool"]
        self._anchors: dict[tuple[Hw, ...], list[Tensor]] = {}

    def propose(self, pixels: Tensor) -> tuple[Tensor, ...]:
        """Features of each level, then B×L×K×4 float32 boxes and B×L×K logits, the best first.

        A level with fewer than K cells has logits of −∞ for what is no box.

        Args:
            pixels: B×3×h×w, of the precision of the weights.
        """
        features = list(self._backbone(pixels).values())
        anchors = self._anchors_of(pixels, features)
        most = self._rpn.pre_nms_top_n()
        boxes: list[Tensor] = []
        logits: list[Tensor] = []
        for own, level, shifts in zip(anchors, *self._rpn.head(features), strict=True):
            scores = level.permute(0, 2, 3, 1).flatten(1).float()
            deltas = shifts.unflatten(1, (-1, 4)).permute(0, 3, 4, 1, 2).flatten(1, 3).float()
            best, places = scores.topk(min(most, scores.shape[1]), dim=1)
            chosen = deltas.gather(1, places[..., None].expand(-1, -1, 4))
            found = moved_boxes(own[places], chosen, self._rpn.box_coder)
            short = most - best.shape[1]
            boxes.append(pad(found, (0, 0, 0, short)))
            logits.append(pad(best, (0, short), value=float("-inf")))
        return (*features, torch.stack(boxes, 1), torch.stack(logits, 1))

    def detect(
        self, proposed: Sequence[Tensor], sizes: Sequence[Hw]
    ) -> tuple[list[dict[str, Tensor]], Tensor]:
        """For each picture `boxes` n×4, `labels`, `scores` and `masks` n×1×28×28, best first.

        Args:
            proposed: What `propose` gave.
            sizes: height, width of each picture's content, from the corner of the input.

        Returns:
            Beside them one bool on the device, whether no answer of the batch was NaN or infinite.
        """
        *maps, boxes, logits = proposed
        features = dict(zip(self._names, maps, strict=True))
        edges = _edges(sizes, boxes.device)
        proposals, present = self._proposals(boxes, logits, edges)
        classes, deltas = self._looked_at(features, proposals, sizes)
        sound = finite(boxes, classes, deltas) & ~(logits.isnan() | logits.isposinf()).any()
        picture, found = self._detections(classes, deltas, proposals, present, edges)
        counts = torch.bincount(picture, minlength=len(sizes)).tolist()
        found["masks"], drawn = self._masks(features, found, counts, sizes)
        parts = {key: each.split(counts) for key, each in found.items()}
        answers = [{key: each[index] for key, each in parts.items()} for index in range(len(sizes))]
        return answers, sound & drawn

    def _anchors_of(self, pixels: Tensor, features: Sequence[Tensor]) -> list[Tensor]:
        """S×4 float32 of each level, computed once a size."""
        hw = (pixels.shape[2], pixels.shape[3])
        shapes = [(each.shape[2], each.shape[3]) for each in features]
        key = (hw, *shapes)
        found = self._anchors.get(key)
        if found is None:
            # Only the features' sizes are read, and the type in which to compute.
            like = [each[:1, :1].float() for each in features]
            whole = SimpleNamespace(tensors=pixels, image_sizes=[hw])
            (anchors,) = self._rpn.anchor_generator(whole, like)
            each = self._rpn.anchor_generator.num_anchors_per_location()
            counts = [n * h * w for n, (h, w) in zip(each, shapes, strict=True)]
            found = list(anchors.split(counts))
            if len(self._anchors) < _KEPT:
                self._anchors[key] = found
        return found

    def _proposals(self, boxes: Tensor, logits: Tensor, edges: Tensor) -> tuple[Tensor, Tensor]:
        """B×P×4, and which of them are any, B×P."""
        boxes = torch.minimum(boxes.clamp(min=0), edges[:, None, None])
        sides = boxes[..., 2:] - boxes[..., :2]
        chances = logits.sigmoid()
        present = (sides >= self._rpn.min_size).all(-1) & (chances >= self._rpn.score_thresh)
        present &= logits > float("-inf")
        kept = survivors(boxes.flatten(0, 1), present.flatten(0, 1), self._rpn.nms_thresh)
        ranked = chances.masked_fill(~kept.view_as(chances), -1).flatten(1)
        best, places = ranked.topk(min(self._rpn.post_nms_top_n(), ranked.shape[1]), dim=1)
        chosen = boxes.flatten(1, 2).gather(1, places[..., None].expand(-1, -1, 4))
        return chosen, best >= 0

    def _looked_at(
        self, features: dict[str, Tensor], proposals: Tensor, sizes: Sequence[Hw]
    ) -> tuple[Tensor, Tensor]:
        """Float32 logits (B·P)×C and deltas (B·P)×4C."""
        heads = self._heads
        parts = cut_from_levels(heads.box_roi_pool, features, list(proposals), sizes)
        seen = heads.box_head(parts.to(_type_of(heads.box_head)))
        classes, deltas = heads.box_predictor(seen.to(_type_of(heads.box_predictor)))
        return classes.float(), deltas.float()

    def _detections(
        self, classes: Tensor, deltas: Tensor, proposals: Tensor, present: Tensor, edges: Tensor
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Pictures of the detections, in order, and their boxes, labels and scores."""
        heads, per = self._heads, proposals.shape[1]
        chances = classes.softmax(-1)
        sure = (chances > heads.score_thresh) & present.flatten()[:, None]
        sure[:, 0] = False  # background
        row, label = sure.nonzero().unbind(1)
        score = chances[row, label]
        own = deltas.unflatten(1, (-1, 4))[row, label]
        boxes = moved_boxes(proposals.flatten(0, 1)[row], own, heads.box_coder)
        picture = row // per
        boxes = torch.minimum(boxes.clamp(min=0), edges[picture])
        wide = ((boxes[:, 2:] - boxes[:, :2]) >= _LEAST_SIDE).all(-1).nonzero()[:, 0]
        group = (picture * classes.shape[1] + label)[wide]
        kept = wide[_suppressed(boxes[wide], score[wide], group, heads.nms_thresh)]
        kept = kept[picture[kept].argsort(stable=True)]  # the best first in each picture
        starts = torch.bincount(picture[kept], minlength=len(edges)).cumsum(0)
        rank = torch.arange(len(kept), device=kept.device) - pad(starts, (1, 0))[picture[kept]]
        kept = kept[rank < heads.detections_per_img]
        found = {"boxes": boxes[kept], "labels": label[kept], "scores": score[kept]}
        return picture[kept], found

    def _masks(
        self,
        features: dict[str, Tensor],
        found: dict[str, Tensor],
        counts: list[int],
        sizes: Sequence[Hw],
    ) -> tuple[Tensor, Tensor]:
        """n×1×28×28 probabilities, and whether all logits were finite."""
        heads, labels = self._heads, found["labels"]
        parts = cut_from_levels(
            heads.mask_roi_pool, features, list(found["boxes"].split(counts)), sizes
        )
        parts = parts.to(_type_of(heads.mask_head)).contiguous(memory_format=torch.channels_last)
        logits = heads.mask_predictor(heads.mask_head(parts))
        own = logits[torch.arange(len(labels), device=labels.device), labels].float()
        return own.sigmoid().unsqueeze(1), finite(own)


def cut_from_levels(
    pool: Any, features: dict[str, Tensor], boxes: Sequence[Tensor], sizes: Sequence[Hw]
) -> Tensor:
    """N×C×side×side: what torchvision's pooling reads under each box, from the level of its size.

    Args:
        pool: torchvision's `MultiScaleRoIAlign`.
        features: Its levels by name.
        boxes: n×4 float32 left, top, right, bottom of each picture.
        sizes: height, width of each picture.
    """
    levels = [features[name] for name in pool.featmap_names]
    if path_for(levels[0].device) == "kernels" and _cuttable(pool, levels):
        from pipeline.models.kernels.regions import cut_regions

        counts = torch.tensor([len(each) for each in boxes])
        pictures = torch.repeat_interleave(torch.arange(len(boxes)), counts)
        return cut_regions(
            levels,
            torch.cat(list(boxes)),
            pictures.to(levels[0].device),
            side=pool.output_size[0],
            dtype=levels[0].dtype,
        )
    return pool({name: each.float() for name, each in features.items()}, list(boxes), list(sizes))


def _cuttable(pool: Any, levels: Sequence[Tensor]) -> bool:
    """Whether the kernel does the same: two samples a bin's side, levels from a quarter on."""
    channels = levels[0].shape[1]
    usual = (pool.sampling_ratio, pool.canonical_scale, pool.canonical_level) == (2, 224, 4)
    square = pool.output_size[0] == pool.output_size[1]
    return usual and square and len(levels) == 4 and channels >= 8 and not channels & channels - 1


def survivors(boxes: Tensor, present: Tensor, threshold: float) -> Tensor:
    """G×n bool: what greedy non-maximum suppression leaves of each group.

    Args:
        boxes: G×n×4 float32 left, top, right, bottom; the best of each group first.
        present: G×n bool, False for what is no box.
        threshold: Intersection over union above which the worse of two goes.
    """
    if path_for(boxes.device) == "kernels":
        from pipeline.models.kernels.suppress import suppress_boxes

        return suppress_boxes(boxes, present, threshold=threshold)
    from torchvision.ops import nms

    kept = torch.zeros_like(present)
    for own, there, answer in zip(boxes, present, kept, strict=True):
        places = there.nonzero()[:, 0]
        falling = torch.arange(len(places), 0, -1, dtype=own.dtype, device=own.device)
        answer[places[nms(own[places], falling, threshold)]] = True
    return kept


def moved_boxes(boxes: Tensor, deltas: Tensor, coder: Any) -> Tensor:
    """…×4 float32 left, top, right, bottom: boxes moved and scaled by what a head answered.

    As torchvision's `BoxCoder` (Girshick et al. 2014, R-CNN, appendix C).

    Args:
        boxes: …×4 left, top, right, bottom.
        deltas: …×4 float32.
        coder: Its weights and the largest logarithm of a scale.
    """
    parts = zip(deltas.unbind(-1), coder.weights, strict=True)
    dx, dy, dw, dh = (delta / weight for delta, weight in parts)
    left, top, right, bottom = boxes.unbind(-1)
    wide, tall = right - left, bottom - top
    x, y = dx * wide + (left + 0.5 * wide), dy * tall + (top + 0.5 * tall)
    half_wide = 0.5 * dw.clamp(max=coder.bbox_xform_clip).exp() * wide
    half_tall = 0.5 * dh.clamp(max=coder.bbox_xform_clip).exp() * tall
    corners = (x - half_wide, y - half_tall, x + half_wide, y + half_tall)
    return torch.stack(corners, -1)


def _suppressed(boxes: Tensor, scores: Tensor, groups: Tensor, threshold: float) -> Tensor:
    """Indices of what is left, the best first.

    Groups are moved apart, as torchvision does, but in float64: in float32 the boxes of a last
    group would lie on a grid of a sixteenth of a pixel.
    """
    from torchvision.ops import nms

    apart = groups.double() * (boxes.amax().double() + 1 if len(boxes) else 1)
    return nms(boxes.double() + apart[:, None], scores.double(), threshold)


def _edges(sizes: Sequence[Hw], device: torch.device) -> Tensor:
    """B×4: right, bottom, right, bottom of each picture."""
    return torch.tensor([(w, h, w, h) for h, w in sizes], dtype=torch.float32, device=device)


def _type_of(module: Any) -> torch.dtype:
    return next(module.parameters()).dtype
