import json
from collections import defaultdict

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_maps import box, compared, of_masks, pairs_of_maps

from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.metrics.panoptic_quality import PanopticQuality
from pipeline.evaluation.sources.categories import ScoredCategory
from pipeline.evaluation.sources.source import segments_of_map

TABLE = {
    1: ScoredCategory(1, "person"),
    2: ScoredCategory(2, "car"),
    3: ScoredCategory(3, "sky", isthing=False),
}


def pq_by_pixels(pictures):
    """{category: [sum of IoU, TP, FP, FN]} from (map, {id: (category, iscrowd)}) pairs."""
    totals = defaultdict(lambda: [0.0, 0, 0, 0])
    for (true_map, true_info), (map_, info) in pictures:
        void = ~np.isin(true_map, list(true_info))
        partners = {}
        for a, (category, crowd) in true_info.items():
            for b, (other, _) in info.items():
                both = np.sum((true_map == a) & (map_ == b))
                either = np.sum(((true_map == a) | (map_ == b)) & ~(void & (map_ == b)))
                if category == other and not crowd and both / either > 0.5:
                    partners[a] = b
                    totals[category][0] += both / either
                    totals[category][1] += 1
        for a, (category, crowd) in true_info.items():
            totals[category][3] += a not in partners and not crowd
        for b, (category, _) in info.items():
            if b in partners.values():
                continue
            crowds = [a for a, (other, crowd) in true_info.items() if crowd and other == category]
            excused = void | (true_map == crowds[-1]) if crowds else void
            totals[category][2] += np.sum(excused & (map_ == b)) <= np.sum(map_ == b) / 2
    return totals


def check(result, totals):
    """`result` is the metric's figures; compares every number and the means."""
    values = {}
    for id_, (iou, tp, fp, fn) in totals.items():
        row = result.per_category[id_]
        assert (row["tp"], row["fp"], row["fn"]) == (tp, fp, fn)
        if tp + fp + fn:
            values[id_] = iou / (tp + fp / 2 + fn / 2)
            assert row["pq"] == pytest.approx(values[id_])
            assert row["pq"] == pytest.approx(row["sq"] * row["rq"])
    assert result.overall["all"]["categories"] == len(values)
    if values:
        assert result.overall["all"]["pq"] == pytest.approx(np.mean(list(values.values())))


@given(pairs_of_maps(), st.integers(0, 2**32 - 1))
def test_equals_the_rules_applied_to_pixels(maps, seed):
    rng = np.random.default_rng(seed)
    sides = []
    for number, label_map in enumerate(maps):
        values = np.unique(label_map[label_map > 0]).tolist()
        crowds = rng.random(len(values)) < (0.3 if number == 0 else 0)
        info = {v: (int(rng.integers(1, 4)), bool(c)) for v, c in zip(values, crowds, strict=True)}
        sides.append((label_map, info))
    metric = PanopticQuality(TABLE)
    metric.add(
        compared(
            *(
                segments_of_map(
                    label_map,
                    {v: category for v, (category, _) in info.items()},
                    crowds=frozenset(v for v, (_, crowd) in info.items() if crowd),
                )
                for label_map, info in sides
            )
        )
    )
    check(metric.figures(), pq_by_pixels([sides]))


def quality(truth, predicted):
    metric = PanopticQuality(TABLE)
    metric.add(compared(truth, predicted))
    return metric.figures()


def test_by_hand():
    truth = of_masks([box(0, 0, 10, 10), box(10, 0, 10, 10), box(0, 10, 20, 10)], [1, 1, 3])
    predicted = of_masks(  # IoU 0.8; missed; IoU 1; and one too many where nothing is labelled
        [box(0, 0, 8, 10), box(0, 10, 20, 10), box(10, 0, 10, 10)], [1, 3, 2]
    )
    result = quality(truth, predicted)
    assert result.per_category[1] == {
        "pq": pytest.approx(0.8 / 1.5),
        "sq": pytest.approx(0.8),
        "rq": pytest.approx(1 / 1.5),
        **{"tp": 1, "fp": 0, "fn": 1},
    }
    assert result.per_category[2]["pq"] == 0
    assert result.overall["things"]["pq"] == pytest.approx(0.8 / 1.5 / 2)
    assert result.overall["stuff"] == {"pq": 1, "sq": 1, "rq": 1, "categories": 1}
    assert result.overall["all"]["pq"] == pytest.approx((0.8 / 1.5 + 0 + 1) / 3)


def test_unlabelled_pixels_neither_lower_iou_nor_make_false_positives():
    truth = of_masks([box(0, 0, 10, 10)])
    wide = quality(truth, of_masks([box(0, 0, 20, 10)]))
    assert wide.per_category[1]["pq"] == 1
    beside = quality(truth, of_masks([box(0, 0, 10, 10), box(9, 0, 5, 5), box(11, 11, 5, 5)]))
    assert (beside.per_category[1]["tp"], beside.per_category[1]["fp"]) == (1, 0)


def test_a_crowd_excuses_its_own_category_only():
    truth = of_masks([box(0, 0, 10, 10), box(10, 0, 10, 20)], [1, 1], iscrowd=[0, 1])
    same = quality(truth, of_masks([box(12, 2, 5, 5)], [1])).per_category
    assert (same[1]["fp"], same[1]["fn"]) == (0, 1)
    other = quality(truth, of_masks([box(12, 2, 5, 5)], [2])).per_category
    assert other[2]["fp"] == 1


def test_an_iou_of_one_half_is_not_enough():
    result = quality(of_masks([box(0, 0, 20, 20)]), of_masks([box(0, 0, 10, 20)]))
    assert (result.per_category[1]["tp"], result.per_category[1]["fn"]) == (0, 1)


def test_nothing_at_all_has_no_quality():
    assert PanopticQuality(TABLE).figures().overall["all"]["pq"] is None


def test_the_coco_example_against_itself(shared_data):
    truth = str(shared_data / "coco-panoptic" / "panoptic_examples.json")
    result = evaluate(ground_truth=truth, predictions=truth)
    assert result["overall"]["pq"]["all"] == {"pq": 1, "sq": 1, "rq": 1, "categories": 7}
    assert result["overall"]["miou"]["mean_iou"] == 1
    assert result["overall"]["matching"]["accuracy_50_95"] == 1
    assert result["overall"]["ap"]["max_dets_100"]["AP"] == pytest.approx(1)
    assert result["settings"]["ground_truth_kind"] == "coco-panoptic"


def read_panoptic(json_path):
    data = json.loads(json_path.read_text())
    (annotation,) = data["annotations"]
    pixels = cv2.imread(str(json_path.with_suffix("") / annotation["file_name"]))
    ids = pixels.astype(np.int64) @ [65536, 256, 1]
    info = {s["id"]: (s["category_id"], bool(s["iscrowd"])) for s in annotation["segments_info"]}
    return data, ids, info


def test_a_disturbed_coco_example_against_the_pixels(shared_data, tmp_path):
    source = shared_data / "coco-panoptic" / "panoptic_examples.json"
    data, ids, info = read_panoptic(source)
    rng = np.random.default_rng(0)
    changed = np.roll(ids, (3, 5), (0, 1))
    changed[rng.random(ids.shape) < 0.1] = 0
    crowds = [id_ for id_, (_, crowd) in info.items() if crowd]
    lost, wrong = [id_ for id_ in info if id_ not in crowds][:2]
    changed[changed == lost] = crowds[0]  # a crowd is labelled as one object
    changed[100:140, 300:400] = 4_000_000
    guess = {id_: (c, False) for id_, (c, _) in info.items() if (changed == id_).any()}
    guess[4_000_000] = (1, False)
    guess[wrong] = (8, False)

    data["annotations"][0]["segments_info"] = [
        {"id": id_, "category_id": category, "iscrowd": 0} for id_, (category, _) in guess.items()
    ]
    (tmp_path / "guess").mkdir()
    (tmp_path / "guess.json").write_text(json.dumps(data))
    bgr = np.stack([changed >> 16, changed >> 8 & 255, changed & 255], axis=2).astype(np.uint8)
    cv2.imwrite(str(tmp_path / "guess" / data["annotations"][0]["file_name"]), bgr)

    result = evaluate(ground_truth=str(source), predictions=str(tmp_path / "guess"))
    totals = pq_by_pixels([((ids, info), (changed, guess))])
    assert sum(row[2] for row in totals.values()) > 2
    assert sum(row[3] for row in totals.values()) > 2
    rows = {row["category_id"]: row["pq"] for row in result["per_category"]}
    for id_, (iou, tp, fp, fn) in totals.items():
        assert (rows[id_]["tp"], rows[id_]["fp"], rows[id_]["fn"]) == (tp, fp, fn)
        assert rows[id_]["pq"] == pytest.approx(iou / (tp + fp / 2 + fn / 2), rel=1e-12)
