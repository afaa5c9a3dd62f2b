"""COCO's average precision without keeping masks: matches batch by batch, then adds them up.

The rules are those of `evaluateImg` and `accumulate` in `pycocotools/cocoeval.py`, and so is every
digit of the result. What differs is the work: a prediction only looks at the objects that it
overlaps enough for the lowest threshold, those without rivals are matched all at once, and of each
prediction 30 bytes are kept instead of its mask.

In short: within an image and a category predictions take their turns by falling score. Each takes
the free true object of highest IoU that reaches the threshold; crowds and objects outside of the
range of areas are taken only where no other fits, and make the prediction ignored. So does an area
outside of the range where nothing fits. A crowd can be taken again and again.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.sources.source import Flags, Floats, Ints

from .metric import AREA_RANGES, IOU_THRESHOLDS, MAX_DETS, RECALLS
from .overlay import Comparison

_STATES = len(AREA_RANGES) * len(IOU_THRESHOLDS)


@dataclass(frozen=True, slots=True)
class _Predictions:
    """Those of some images: m rows.

    Attributes:
        category: Index of the category.
        score: As it is, float64: what decides between two is their last bit.
        rank: Place by score among those of the same image and category, from 0.
        image: Index of the image, in the order in which they were added.
        right: m×_STATES bits, packed: matched, by range and threshold.
        wrong: Likewise: neither matched nor ignored.
    """

    category: npt.NDArray[np.int32]
    score: Floats
    rank: npt.NDArray[np.int32]
    image: npt.NDArray[np.int32]
    right: npt.NDArray[np.uint8]
    wrong: npt.NDArray[np.uint8]


class BuiltinAp:
    """Counts as COCO counts.

    Args:
        things: Category ids of objects, ascending.
    """

    def __init__(self, things: list[int]) -> None:
        self._things = np.array(things, np.int64)
        self._found: list[_Predictions] = []
        self._keys: list[int | str] = []
        self._present = np.zeros((len(things), len(AREA_RANGES)), np.int64)

    def add(self, images: Comparison, *, most: Floats | None = None) -> None:
        """Matches the objects of some images; a prediction without a score gets 1.

        Args:
            images: k images, of which p pairs of segments share something.
            most: p values that the IoU of the pairs is cut down to.
        """
        truth, predicted = images.truth, images.predicted
        true_row, is_object = _index(self._things, truth.category_ids)
        row, is_thing = _index(self._things, predicted.category_ids)
        stated = np.where(np.isnan(truth.coco_areas), images.truth_areas, truth.coco_areas)
        ignore = np.stack([_outside(stated, limits) | truth.iscrowd for limits in AREA_RANGES], 1)
        np.add.at(self._present, true_row[is_object], ~ignore[is_object])

        score = np.where(np.isnan(predicted.scores), 1.0, predicted.scores)
        order = np.lexsort((-score, row, predicted.image, ~is_thing))
        group = predicted.image * (len(self._things) + 1) + np.where(is_thing, row, -1)
        rank = np.empty(len(predicted), np.int64)
        first = np.append(True, np.diff(group[order]) != 0)[: len(order)]
        place = np.arange(len(order))
        rank[order] = place - np.maximum.accumulate(np.where(first, place, 0))
        turns = order[is_thing[order] & (rank[order] < MAX_DETS[-1])]
        taking_part = np.zeros(len(predicted), np.bool_)
        taking_part[turns] = True

        g, d = images.truth_index, images.predicted_index
        area, crowd = images.predicted_areas, truth.iscrowd
        union = images.truth_areas[g] + area[d] - images.shared
        iou = images.shared / np.where(crowd[g], area[d], union)
        if most is not None:
            iou = np.minimum(iou, most)
        pair = is_object[g] & taking_part[d] & (true_row[g] == row[d]) & (iou >= IOU_THRESHOLDS[0])
        g, d, iou = g[pair], d[pair], iou[pair]
        # 0 wrong, 1 right, 2 ignored; first as if nothing were matched
        beyond = np.stack([_outside(area, limits) for limits in AREA_RANGES], 1)
        state = np.repeat(2 * beyond[:, :, None].astype(np.uint8), len(IOU_THRESHOLDS), axis=2)
        rivals = np.bincount(d, minlength=len(predicted))[d] > 1
        rivals |= (np.bincount(g, minlength=len(truth))[g] > 1) & ~crowd[g]
        # Whoever wants an object that has rivals takes turns with them.
        contested = np.zeros(len(predicted), np.bool_)
        contested[d[rivals]] = True
        alone = ~contested[d]
        enough = (iou[alone, None] >= IOU_THRESHOLDS)[:, None, :]
        verdict = 1 + ignore[g[alone]].astype(np.uint8)[:, :, None]
        state[d[alone]] = np.where(enough, verdict, state[d[alone]])
        _take_turns(
            state, turns[contested[turns]], (g[~alone], d[~alone], iou[~alone]), ignore, crowd
        )

        kept = state[turns].reshape(len(turns), _STATES)
        self._found.append(
            _Predictions(
                row[turns].astype(np.int32),
                score[turns],
                rank[turns].astype(np.int32),
                (predicted.image[turns] + len(self._keys)).astype(np.int32),
                np.packbits(kept == 1, axis=1),
                np.packbits(kept == 0, axis=1),
            )
        )
        self._keys += [image.key for image in images.images]

    def merge(self, other: BuiltinAp) -> None:
        """Adds what `other` has seen of the images that follow."""
        before = np.int32(len(self._keys))
        self._found += [replace(part, image=part.image + before) for part in other._found]
        self._keys += other._keys
        self._present += other._present

    def curves(self) -> tuple[Floats, Floats]:
        """Precision and recall as `COCOeval.accumulate` gives them.

        Returns:
            Precision, thresholds × 101 recalls × categories × ranges × limits, and recall,
            thresholds × categories × ranges × limits; −1 where there is nothing to find.
        """
        shape = len(self._things), len(AREA_RANGES), len(MAX_DETS)
        precision = np.full((len(IOU_THRESHOLDS), len(RECALLS), *shape), -1.0)
        recall = np.full((len(IOU_THRESHOLDS), *shape), -1.0)
        for k, rank, right, wrong in self._by_category():
            for m, limit in enumerate(MAX_DETS):
                if m and not ((rank >= MAX_DETS[m - 1]) & (rank < limit)).any():
                    precision[:, :, k, :, m] = precision[:, :, k, :, m - 1]
                    recall[:, k, :, m] = recall[:, k, :, m - 1]
                    continue
                counts = rank < limit
                for a, present in enumerate(self._present[k]):
                    for t in range(len(IOU_THRESHOLDS)) if present else ():
                        bit = a * len(IOU_THRESHOLDS) + t
                        tp, fp = (
                            np.cumsum(_bit(side, bit)[counts]).astype(np.float64)
                            for side in (right, wrong)
                        )
                        recall[t, k, a, m], precision[t, :, k, a, m] = _curve(tp, fp, int(present))
        return precision, recall

    def _by_category(self) -> Iterator[tuple[int, Ints, np.ndarray, np.ndarray]]:
        """Index of each category; ranks, right and wrong of its predictions by falling score.

        Equal scores stand in the order of the images' ids, then in that of the ranks.
        """
        place = np.empty(len(self._keys), np.int64)
        by_key = sorted(range(len(self._keys)), key=lambda i: sortable(self._keys[i]))
        place[by_key] = np.arange(len(by_key))
        category, score, rank, image = (
            np.concatenate([getattr(part, name) for part in self._found])
            if self._found
            else np.zeros(0, np.int64)
            for name in ("category", "score", "rank", "image")
        )
        bits = np.zeros((0, -(-_STATES // 8)), np.uint8)
        right = np.concatenate([bits, *(part.right for part in self._found)])
        wrong = np.concatenate([bits, *(part.wrong for part in self._found)])
        order = np.lexsort((rank, place[image], -score, category))
        cuts = np.searchsorted(category[order], np.arange(len(self._things) + 1))
        for k in range(len(self._things)):
            of_category = order[cuts[k] : cuts[k + 1]]
            yield k, rank[of_category], right[of_category], wrong[of_category]


def _take_turns(
    state: npt.NDArray[np.uint8],
    turns: Ints,
    pairs: tuple[Ints, Ints, Floats],
    ignore: Flags,
    crowd: Flags,
) -> None:
    """Matches predictions that want the same objects, one after the other.

    Args:
        state: Of all predictions, by range and threshold; changed in place.
        turns: Predictions in the order of their turns.
        pairs: True object, prediction and IoU of candidates.
        ignore: Of all true objects, by range.
        crowd: Of all true objects.
    """
    if not len(turns):
        return
    thresholds = IOU_THRESHOLDS.tolist()
    for a in range(len(AREA_RANGES)):
        flags = ignore[:, a]
        g, d, iou = pairs
        order = np.lexsort((g, flags[g]))  # ignored ones last
        wanted: dict[int, list[tuple[int, float]]] = {}
        for i, j, value in zip(*(side[order].tolist() for side in (g, d, iou)), strict=True):
            wanted.setdefault(j, []).append((i, value))
        ignored, again = (dict(zip(g.tolist(), x[g].tolist(), strict=True)) for x in (flags, crowd))
        queue = [(j, wanted[j]) for j in turns.tolist()]
        for t, threshold in enumerate(thresholds):
            taken: set[int] = set()
            for j, candidates in queue:
                chosen, highest = -1, threshold
                for i, value in candidates:
                    if i in taken:
                        continue
                    if chosen >= 0 and ignored[i] and not ignored[chosen]:
                        break
                    if value >= highest:
                        chosen, highest = i, value
                if chosen >= 0:
                    state[j, a, t] = 1 + ignored[chosen]
                    if not again[chosen]:
                        taken.add(chosen)


def _curve(tp: Floats, fp: Floats, present: int) -> tuple[float, Floats]:
    """The last recall, and at each of `RECALLS` the highest precision from there on."""
    out = np.zeros(len(RECALLS))
    if not len(tp):
        return 0.0, out
    recall = tp / present
    precision = tp / (fp + tp + np.spacing(1))
    best = np.maximum.accumulate(precision[::-1])[::-1]
    at = np.searchsorted(recall, RECALLS, side="left")
    reached = at < len(best)
    out[reached] = best[at[reached]]
    return float(recall[-1]), out


def _index(things: Ints, category_ids: Ints) -> tuple[Ints, Flags]:
    """Index into the things, and whether it is one."""
    row = np.searchsorted(things, category_ids)
    row[row == len(things)] = 0
    return row, things[row] == category_ids if len(things) else np.zeros(len(row), np.bool_)


def _outside(areas: Floats | Ints, limits: tuple[float, float]) -> Flags:
    return (areas < limits[0]) | (areas > limits[1])


def _bit(packed: npt.NDArray[np.uint8], bit: int) -> npt.NDArray[np.uint8]:
    return (packed[:, bit // 8] >> np.uint8(7 - bit % 8)) & np.uint8(1)


def sortable(key: int | str) -> tuple[int, int | str]:
    """Ids of images in COCO's order: numbers, then names."""
    return (0, key) if isinstance(key, int) else (1, key)
