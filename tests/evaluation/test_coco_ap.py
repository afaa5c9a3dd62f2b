import contextlib
import copy
import io
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_maps import box, compared, of_masks
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.evaluate import evaluate
from pipeline.evaluation.categories import ScoredCategory
from pipeline.evaluation.coco_ap import CocoAp
from pipeline.evaluation.coco_eval import SparseCocoEval

ONE = {1: ScoredCategory(1, "nucleus")}


def run(truth, results, *, evaluation=COCOeval, max_dets=(1, 10, 100)):
    """COCOeval after `accumulate`; `truth` and `results` are plain data or a file's path."""
    with contextlib.redirect_stdout(io.StringIO()):
        if isinstance(truth, dict):
            coco = COCO()
            coco.dataset = copy.deepcopy(truth)
            coco.createIndex()
        else:
            coco = COCO(truth)
        done = evaluation(coco, coco.loadRes(copy.deepcopy(results)), "segm")
        done.params.maxDets = list(max_dets)
        done.evaluate()
        done.accumulate()
        if max_dets[-1] == 100:
            done.summarize()
    return done


def jittered(truth_file, seed=0):
    """Detections from ground truth: shifted, lost, doubled, of another category, invented."""
    rng = np.random.default_rng(seed)
    truth = COCO(truth_file)
    results = []
    for annotation in truth.dataset["annotations"]:
        mask = truth.annToMask(annotation)
        for _ in range(rng.integers(0, 3)):
            moved = np.roll(mask, rng.integers(-6, 7, 2), (0, 1))
            if not moved.any():
                continue
            rle = coco_mask.encode(np.asfortranarray(moved))
            category = annotation["category_id"] if rng.random() < 0.9 else 1
            results.append(
                {
                    "image_id": annotation["image_id"],
                    "category_id": category,
                    "segmentation": {"size": rle["size"], "counts": rle["counts"].decode()},
                    "score": round(float(rng.random()), 2),  # some are equal
                }
            )
    return results


def or_none(values):
    return [None if value == -1 else float(value) for value in values]


def test_equals_pycocotools_on_real_photos(shared_data, tmp_path):
    truth = str(shared_data / "coco-photos" / "instances.json")
    with contextlib.redirect_stdout(io.StringIO()):
        results = jittered(truth)
    (tmp_path / "results.json").write_text(json.dumps(results))
    ours = evaluate(ground_truth=truth, predictions=str(tmp_path / "results.json"), metrics=["ap"])
    theirs = run(truth, results)
    figures = ours["overall"]["ap"]
    assert list(figures["max_dets_100"].values()) == or_none(theirs.stats)
    assert 0.1 < figures["max_dets_100"]["AP"] < 0.9
    wide = run(truth, results, max_dets=(1, 10, 1000)).eval
    everything = wide["precision"][:, :, :, 0, 2]
    assert figures["max_dets_1000"]["AP"] == everything[everything > -1].mean()
    assert len(ours["per_category"]) == 80
    for row, k in zip(ours["per_category"], range(80), strict=True):
        of_category = theirs.eval["precision"][:, :, k, 0, 2]
        expected = of_category.mean() if of_category.max() > -1 else None
        assert row["ap"]["max_dets_100"]["AP"] == expected


def test_more_than_a_hundred_objects_in_a_picture():
    masks = [box(x, y, 2, 2, size=(40, 40)) for x in range(0, 40, 3) for y in range(0, 40, 3)]
    assert len(masks) == 196
    metric = CocoAp(ONE)
    scores = np.linspace(1, 0.1, len(masks)).tolist()
    metric.add(compared(of_masks(masks), of_masks(masks, scores=scores)))
    figures = metric.figures().overall
    assert figures["max_dets_1000"]["AP"] == pytest.approx(1)
    assert figures["max_dets_1000"]["AR_max"] == 1
    assert figures["max_dets_100"]["AR_max"] == pytest.approx(100 / 196)
    assert figures["max_dets_100"]["AP"] == pytest.approx(52 / 101)  # recall 0.00 … 0.51


def test_shifted_squares_by_hand():
    # IoU 0.818, 0.538 and 0: right at 7 thresholds, right at 1, wrong.
    truth = [box(0, 0, 10, 10), box(0, 10, 10, 10), box(10, 10, 10, 10)]
    found = [box(1, 0, 10, 10), box(3, 10, 10, 10), box(10, 0, 10, 10)]
    metric = CocoAp(ONE)
    metric.add(compared(of_masks(truth), of_masks(found, scores=[0.9, 0.8, 0.7])))
    ap = metric.figures().overall["max_dets_100"]
    # Two thirds are found at 0.5, one third at 0.55 … 0.8: recall steps 0 … 0.66 and 0 … 0.33.
    assert ap["AP50"] == pytest.approx(67 / 101)
    assert ap["AP75"] == pytest.approx(34 / 101)
    assert ap["AP"] == pytest.approx((67 + 6 * 34) / 101 / 10)


def test_predictions_without_a_score_count_as_one():
    metric = CocoAp(ONE)
    metric.add(compared(of_masks([box(0, 0, 9, 9)]), of_masks([box(0, 0, 9, 9)])))
    assert metric.figures().overall["max_dets_100"]["AP"] == pytest.approx(1)


def test_a_stated_area_decides_small_medium_large():
    metric = CocoAp(ONE)
    truth = of_masks([box(0, 0, 9, 9)], coco_areas=[5000.5])
    metric.add(compared(truth, of_masks([box(0, 0, 9, 9)])))
    figures = metric.figures().overall["max_dets_100"]
    assert figures["AP_small"] is None
    assert figures["AP_medium"] == pytest.approx(1)


def test_only_crowds_leave_nothing_to_measure():
    metric = CocoAp(ONE)
    metric.add(compared(of_masks([box(0, 0, 9, 9)], iscrowd=[1]), of_masks([box(0, 0, 9, 9)])))
    assert metric.figures().overall["max_dets_100"]["AP"] is None


@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_the_sparse_matching_is_pycocotools_own(seed):
    rng = np.random.default_rng(seed)
    images = [{"id": i, "height": 24, "width": 24} for i in (1, 2)]
    truth, results = [], []
    for number in range(rng.integers(1, 14)):
        x, y = rng.integers(0, 16, 2)
        w, h = rng.integers(2, 9, 2)
        image, category = int(rng.integers(1, 3)), int(rng.integers(1, 3))
        for shift in [0, *rng.integers(0, 4, rng.integers(0, 3)).tolist()]:
            mask = np.asfortranarray(box(min(x + shift, 22), y, w, h, size=(24, 24)))
            rle = coco_mask.encode(mask)
            entry = {"image_id": image, "category_id": category, "segmentation": rle}
            if shift == 0 and number % 4:
                crowd = int(rng.random() < 0.25)
                area = float(rng.choice([10, 2000, 20000]))
                truth.append({**entry, "id": len(truth) + 1, "area": area, "iscrowd": crowd})
            else:
                results.append({**entry, "score": float(rng.integers(0, 4)) / 4})
    if not results:
        return
    data = {"images": images, "annotations": truth, "categories": [{"id": 1}, {"id": 2}]}
    theirs, ours = (run(data, results, evaluation=e) for e in (COCOeval, SparseCocoEval))
    for name in ("precision", "recall", "scores"):
        assert np.array_equal(theirs.eval[name], ours.eval[name])
    for a, b in zip(theirs.evalImgs, ours.evalImgs, strict=True):
        assert (a is None) == (b is None)
        for key in a or ():
            assert np.array_equal(a[key], b[key]), key
