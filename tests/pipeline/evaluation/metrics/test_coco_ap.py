import contextlib
import copy
import io
import json
import sys
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_maps import box, compared, of_masks
from pycocotools import mask as coco_mask
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.metrics.ap_builtin import BuiltinAp
from pipeline.evaluation.metrics.ap_official import LIBRARIES, OfficialAp
from pipeline.evaluation.metrics.coco_ap import AP_BACKENDS, CocoAp
from pipeline.evaluation.sources.categories import ScoredCategory
from pipeline.evaluation.sources.source import make_segments

ONE = {1: ScoredCategory(1, "nucleus")}


def run(truth, results, *, max_dets=(1, 10, 100)):
    """pycocotools' own COCOeval after `accumulate`, of a file and a list of results."""
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO(truth)
        done = COCOeval(coco, coco.loadRes(copy.deepcopy(results)), "segm")
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
    return [None if value == -1 else round(float(value), 12) for value in values]


@pytest.mark.parametrize("backend", AP_BACKENDS)
def test_equals_pycocotools_on_real_photos(shared_data, tmp_path, backend):
    if backend == "faster-coco-eval":
        pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval")
    truth = str(shared_data / "coco-photos" / "instances.json")
    with contextlib.redirect_stdout(io.StringIO()):
        results = jittered(truth)
    (tmp_path / "results.json").write_text(json.dumps(results))
    ours = evaluate(
        ground_truth=truth,
        predictions=str(tmp_path / "results.json"),
        metrics=["ap"],
        ap_backend=backend,
    )
    theirs = run(truth, results)
    figures = ours["overall"]["ap"]
    assert list(figures["max_dets_100"].values()) == or_none(theirs.stats)
    assert 0.1 < figures["max_dets_100"]["AP"] < 0.9
    wide = run(truth, results, max_dets=(1, 10, 1000)).eval
    everything = wide["precision"][:, :, :, 0, 2]
    assert figures["max_dets_1000"]["AP"] == round(everything[everything > -1].mean(), 12)
    assert len(ours["per_category"]) == 80
    for row, k in zip(ours["per_category"], range(80), strict=True):
        of_category = theirs.eval["precision"][:, :, k, 0, 2]
        expected = round(of_category.mean(), 12) if of_category.max() > -1 else None
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


def random_images(rng):
    """Two images of 24×24 with objects, crowds, double finds and equal scores, in two batches."""
    batches = []
    for _ in range(2):
        sides = []
        for _ in range(2):
            found, ids, areas = [], [], []
            for _ in range(rng.integers(0, 9)):
                (x, y), (w, h) = rng.integers(0, 10, 2), rng.integers(2, 9, 2)
                for shift in [0, *rng.integers(0, 3, rng.integers(0, 3)).tolist()]:
                    found.append(box(2 * (x // 2) + shift, 2 * (y // 2), w, h, size=(24, 24)))
                    ids.append(int(rng.integers(1, 4)))
                    areas.append(float(rng.choice([10, 1024, 2000, 9216, 20000])))
            n = len(found)
            crowds = rng.random(n) < 0.25 * (len(sides) % 2 == 0)
            scores = rng.integers(0, 4, n) / 4
            more = {"iscrowd": crowds, "scores": scores, "coco_areas": areas}
            sides.append(of_masks(found, ids, **more) if n else make_segments(24, 24))
        batches.append(sides)
    return batches


@pytest.mark.parametrize("library", LIBRARIES)
@settings(max_examples=40)
@given(st.integers(0, 2**32 - 1))
def test_equals_other_peoples_code_to_all_digits(library, seed):
    if library != "pycocotools":
        pytest.importorskip("faster_coco_eval", reason="needs faster-coco-eval")
    table = {id_: ScoredCategory(id_, str(id_), isthing=id_ < 3) for id_ in (1, 2, 3)}
    ours, theirs = BuiltinAp([1, 2]), OfficialAp([1, 2], library)
    metrics = [CocoAp(table, backend=name) for name in ("builtin", library)]
    for key, sides in zip((20, 3), random_images(np.random.default_rng(seed)), strict=True):
        image = compared(*sides)
        image = replace(image, images=(replace(image.images[0], key=key),))
        for side in (ours, theirs, *metrics):
            side.add(image)
    for mine, other in zip(ours.curves(), theirs.curves(), strict=True):
        assert mine.shape == other.shape
        if library == "pycocotools":
            assert np.array_equal(mine, other)
        else:
            assert np.abs(mine - other).max() <= np.spacing(1)  # which it leaves out
    first, second = (metric.figures() for metric in metrics)
    assert (first.overall, first.per_category) == (second.overall, second.per_category)
    assert first.more == second.more


def test_a_library_that_is_missing_is_named_with_the_command(monkeypatch):
    monkeypatch.setitem(sys.modules, "faster_coco_eval", None)
    monkeypatch.setitem(sys.modules, "faster_coco_eval.core.coco", None)
    with pytest.raises(
        ValueError, match=r"not installed .*: python -m pip install faster-coco-eval"
    ):
        CocoAp(ONE, backend="faster-coco-eval")


def test_precision_recall_curves():
    metric = CocoAp(ONE)
    truth, found = [box(0, 0, 10, 10), box(0, 10, 10, 10)], [box(0, 0, 10, 10), box(3, 10, 10, 10)]
    metric.add(compared(of_masks(truth), of_masks(found, scores=[0.9, 0.8])))
    curves = metric.figures().more["precision_recall"]
    assert curves["recall"][::50] == [0, 0.5, 1]
    assert curves["precision_50"] == pytest.approx([1] * 101)
    assert curves["precision_75"] == pytest.approx([1] * 51 + [0] * 50)
    assert curves["precision_50_95"] == pytest.approx([1] * 51 + [0.1] * 50)
