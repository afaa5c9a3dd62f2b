import contextlib
import io

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_maps import box, compared, of_masks
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.evaluation.metrics.boundary import BoundaryAp, boundary_iou
from pipeline.evaluation.sources.categories import ScoredCategory

TABLE = {1: ScoredCategory(1, "one"), 2: ScoredCategory(2, "two")}


def rim(mask, ratio=0.02):
    """The paper's own way, with OpenCV on the whole picture (boundary-iou-api)."""
    height, width = mask.shape
    reach = max(round(ratio * float(np.hypot(height, width))), 1)
    padded = cv2.copyMakeBorder(mask, 1, 1, 1, 1, cv2.BORDER_CONSTANT, value=0)
    inner = cv2.erode(padded, np.ones((3, 3), np.uint8), iterations=reach)
    return mask - inner[1:-1, 1:-1]


def blobs(rng, number, size=(90, 120)):
    found = []
    for _ in range(number):
        mask = np.zeros(size, np.uint8)
        center = (int(rng.integers(0, size[1])), int(rng.integers(0, size[0])))
        axes = (int(rng.integers(3, 40)), int(rng.integers(3, 30)))
        cv2.ellipse(mask, center, axes, float(rng.integers(0, 180)), 0, 360, 1, -1)
        if rng.random() < 0.3:
            mask[20:24, :] = 0  # in parts
        found.append(mask if mask.any() else box(3, 3, 5, 5, size=size))
    return found


def iou(a, b, crowd=False):
    shared = np.logical_and(a, b).sum()
    return shared / (b.sum() if crowd else np.logical_or(a, b).sum())


@settings(max_examples=30)
@given(st.integers(0, 2**32 - 1))
def test_equals_the_formula_on_whole_pictures(seed):
    rng = np.random.default_rng(seed)
    truth, found = blobs(rng, 4), blobs(rng, 3)
    images = compared(of_masks(truth), of_masks(found))
    values, of_crowd = boundary_iou(images)
    for g, d, value, crowd in zip(
        images.truth_index, images.predicted_index, values, of_crowd, strict=True
    ):
        assert value == iou(rim(truth[g]), rim(found[d]))
        assert crowd == iou(rim(truth[g]), rim(found[d]), crowd=True)


def test_ap_equals_cocoeval_with_the_lower_of_both():
    rng = np.random.default_rng(1)
    metric, images, truths, results = BoundaryAp(TABLE), [], [], []
    for key in range(1, 7):
        truth = blobs(rng, 6)
        found = [np.roll(mask, rng.integers(-3, 4, 2), (0, 1)) for mask in truth[:5]]
        ids, crowds = rng.integers(1, 3, 6).tolist(), [0, 0, 0, 0, 0, key % 2]
        scores = np.round(rng.random(5), 1).tolist()
        metric.add(
            compared(of_masks(truth, ids, iscrowd=crowds), of_masks(found, ids[:5], scores=scores))
        )
        images.append({"id": key, "height": 90, "width": 120})
        for masks, into, more in (
            (truth, truths, [{"iscrowd": flag} for flag in crowds]),
            (found, results, [{"score": score} for score in scores]),
        ):
            for mask, category, extra in zip(masks, ids, more, strict=False):
                code = coco_mask.encode(np.asfortranarray(mask))
                into.append(
                    {"id": len(into) + 1, "image_id": key, "category_id": category}
                    | {"segmentation": code, "area": int(mask.sum()), **extra}
                )
    official = COCO()
    official.dataset = {
        "images": images,
        "annotations": truths,
        "categories": [{"id": 1}, {"id": 2}],
        "info": {},
    }

    class Lower(COCOeval):
        def computeIoU(self, imgId, catId):  # noqa: N802, N803
            whole = super().computeIoU(imgId, catId)
            gt, dt = self._gts[imgId, catId], self._dts[imgId, catId]
            if not len(gt) or not len(dt):
                return whole
            dt = [dt[i] for i in np.argsort([-d["score"] for d in dt], kind="mergesort")]
            rims = [
                [coco_mask.encode(np.asfortranarray(rim(coco_mask.decode(a["segmentation"]))))
                 for a in side]
                for side in (dt, gt)
            ]  # fmt: skip
            return np.minimum(whole, coco_mask.iou(*rims, [int(g["iscrowd"]) for g in gt]))

    with contextlib.redirect_stdout(io.StringIO()):
        official.createIndex()
        done = Lower(official, official.loadRes(results), "segm")
        done.evaluate()
        done.accumulate()
        done.summarize()
    figures = metric.figures().overall
    expected = [None if value == -1 else round(float(value), 12) for value in done.stats]
    assert list(figures["max_dets_100"].values()) == expected
    assert 0.02 < expected[0] < 0.95
    assert figures["pairs"]["mean_boundary_iou"] < figures["pairs"]["mean_iou"]


def test_the_pictures_rim_is_contour():
    full = np.ones((50, 50), np.uint8)
    images = compared(of_masks([full]), of_masks([full]))
    assert boundary_iou(images)[0].tolist() == [1]
    smaller = full.copy()
    smaller[:, :1] = 0
    value = boundary_iou(compared(of_masks([full]), of_masks([smaller])))[0]
    assert value == pytest.approx(iou(rim(full), rim(smaller)))


def test_nothing_on_a_side():
    metric = BoundaryAp(TABLE)
    metric.add(compared(of_masks([box(1, 1, 5, 5)]), of_masks([box(12, 12, 5, 5)])))
    assert metric.figures().overall["pairs"] == {
        "count": 0, "mean_iou": None, "mean_boundary_iou": None
    }  # fmt: skip
    assert metric.figures().overall["max_dets_100"]["AP"] == 0
