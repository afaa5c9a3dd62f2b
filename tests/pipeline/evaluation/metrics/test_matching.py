import itertools

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from label_maps import box, compared, objects, of_masks, pairs_of_maps

from pipeline.evaluation.metrics.matching import THRESHOLDS, MatchingAccuracy, assign
from pipeline.evaluation.sources.categories import ScoredCategory
from pipeline.evaluation.sources.source import make_segments

NUCLEI = {1: ScoredCategory(1, "nucleus")}
TWO = {1: ScoredCategory(1, "a"), 2: ScoredCategory(2, "b")}


def figures(*images, categories=NUCLEI, unlabelled=False):
    metric = MatchingAccuracy(categories, unlabelled=unlabelled)
    for image in images:
        metric.add(image)
    return metric.figures()


def counts(result, step=0):
    row = result.overall["thresholds"][step]
    return row["tp"], row["fp"], row["fn"]


def most_pairs(allowed):
    """Size of the largest matching, by trying every injection."""
    allowed = np.asarray(allowed)
    if allowed.shape[0] > allowed.shape[1]:
        allowed = allowed.T
    n, m = allowed.shape
    return max(
        sum(allowed[i, j] for i, j in enumerate(order))
        for order in itertools.permutations(range(m), n)
    )


@settings(max_examples=60)
@given(pairs_of_maps(), st.integers(1, 2))
def test_equals_trying_every_assignment(maps, categories):
    truth, predicted = maps
    image = compared(objects(truth, categories), objects(predicted, categories))
    result = figures(image, categories=TWO)
    for step, threshold in enumerate(THRESHOLDS):
        tp = 0
        for category in range(categories):
            a, b = (
                [m == v for v in np.unique(m[m > 0]) if (v - 1) % categories == category]
                for m in maps
            )
            iou = [[np.sum(x & y) / np.sum(x | y) for y in b] for x in a]
            tp += most_pairs(np.array(iou) >= threshold) if a and b else 0
        n, m = len(image.truth), len(image.predicted)
        assert counts(result, step) == (tp, m - tp, n - tp)


@given(st.integers(0, 2**32 - 1), st.integers(1, 5), st.integers(1, 5))
def test_assigns_as_many_as_possible_then_the_best(seed, n, m):
    rng = np.random.default_rng(seed)
    iou = np.where(rng.random((n, m)) < 0.5, rng.random((n, m)), 0)
    rows, columns = np.nonzero(iou)
    chosen = assign(rows, columns, iou[rows, columns])
    assert len(set(rows[chosen])) == len(set(columns[chosen])) == len(chosen)
    wide = iou if n <= m else iou.T
    ways = [
        wide[range(len(wide)), list(order)]
        for order in itertools.permutations(range(wide.shape[1]), len(wide))
    ]
    best = max((np.count_nonzero(way), way.sum()) for way in ways)
    assert (len(chosen), pytest.approx(iou[rows, columns][chosen].sum())) == best


def test_a_shifted_square_by_hand():
    # 10×10, shifted by d: IoU = (10 − d) / (10 + d): 0.818, 0.667, 0.538, 0.4286
    for shift, matched_up_to in ((0, 10), (1, 7), (2, 4), (3, 1), (4, 0)):
        image = compared(of_masks([box(2, 5, 10, 10)]), of_masks([box(2 + shift, 5, 10, 10)]))
        result = figures(image).overall
        assert [row["tp"] for row in result["thresholds"]] == [1] * matched_up_to + [0] * (
            10 - matched_up_to
        )
        assert result["accuracy_50_95"] == matched_up_to / 10
        if matched_up_to:
            iou = (10 - shift) / (10 + shift)
            assert result["thresholds"][0]["mean_matched_iou"] == pytest.approx(iou)


def test_pooled_figures_and_the_mean_by_image():
    good = compared(of_masks([box(0, 0, 4, 4)]), of_masks([box(0, 0, 4, 4)]))
    bad = compared(  # 1 TP, 1 FP, 2 FN
        of_masks([box(0, 0, 4, 4), box(6, 0, 4, 4), box(12, 0, 4, 4)]),
        of_masks([box(0, 0, 4, 4), box(0, 10, 4, 4)]),
    )
    nothing = compared(make_segments(5, 5), make_segments(5, 5))
    result = figures(good, bad, nothing)
    row = result.overall["thresholds"][0]
    assert (row["tp"], row["fp"], row["fn"]) == (2, 1, 2)
    assert row["accuracy"] == 2 / 5
    assert row["precision"] == 2 / 3
    assert row["recall"] == 2 / 4
    assert row["f1"] == 4 / 7
    assert result.overall["by_image"] == {
        "accuracy_50": (1 + 1 / 4) / 2,
        "accuracy_50_95": (1 + 1 / 4) / 2,
        "images": 2,
    }
    assert [row["accuracy_50"] for row in result.images] == [1 / 4, 1]  # the worst first
    assert [row["fn"] for row in result.images] == [2, 0]
    assert figures(nothing).overall["accuracy_50"] is None


def test_an_iou_of_exactly_the_threshold_matches():
    image = compared(of_masks([box(0, 0, 20, 10)]), of_masks([box(0, 0, 13, 10)]))  # 0.65
    assert [row["tp"] for row in figures(image).overall["thresholds"]] == [1] * 4 + [0] * 6


def test_two_halves_are_one_match_and_one_too_many():
    image = compared(of_masks([box(0, 0, 10, 10)]), of_masks([box(0, 0, 5, 10), box(5, 0, 5, 10)]))
    assert counts(figures(image)) == (1, 1, 0)


def test_rivals_give_way_so_that_both_find_a_partner():
    # a overlaps both truths by ≥ 0.5, b only the first: greedy by IoU would waste the first on a.
    truth = of_masks([box(0, 0, 10, 10), box(4, 0, 10, 10)])
    predicted = of_masks([box(1, 0, 10, 10), box(0, 0, 9, 7)])
    image = compared(truth, predicted)
    assert counts(figures(image)) == (2, 0, 0)


def test_categories_are_matched_apart_and_stuff_not_at_all():
    table = {**TWO, 3: ScoredCategory(3, "sky", isthing=False)}
    truth = of_masks([box(0, 0, 5, 5), box(10, 10, 5, 5), box(0, 10, 5, 5)], [1, 2, 3])
    predicted = of_masks([box(0, 0, 5, 5), box(10, 10, 5, 5), box(0, 15, 5, 5)], [1, 1, 3])
    result = figures(compared(truth, predicted), categories=table)
    assert counts(result) == (1, 1, 1)
    assert set(result.per_category) == {1, 2}
    assert result.per_category[1]["accuracy_50"] == 1 / 2
    assert result.per_category[2]["accuracy_50"] == 0


def test_a_crowd_is_neither_missed_nor_matched_and_hides_what_lies_in_it():
    truth = of_masks([box(0, 0, 5, 5), box(10, 0, 10, 10)], iscrowd=[0, 1])
    inside, half_out, outside = box(12, 2, 4, 4), box(8, 0, 4, 4), box(7, 0, 4, 4)
    assert counts(figures(compared(truth, of_masks([inside])))) == (0, 0, 1)
    assert counts(figures(compared(truth, of_masks([half_out])))) == (0, 1, 1)  # half is not more
    assert counts(figures(compared(truth, of_masks([outside])))) == (0, 1, 1)
    assert counts(figures(compared(truth, of_masks([box(0, 0, 5, 5)])))) == (1, 0, 0)
    other = compared(truth, of_masks([inside], [2]))
    assert counts(figures(other, categories=TWO)) == (0, 1, 1)


def test_unlabelled_pixels_hide_predictions_only_where_there_are_any():
    image = compared(of_masks([box(0, 0, 5, 5)]), of_masks([box(10, 0, 5, 5), box(0, 0, 5, 5)]))
    assert counts(figures(image, unlabelled=False)) == (1, 1, 0)
    assert counts(figures(image, unlabelled=True)) == (1, 0, 0)


def test_no_things_at_all():
    sky = {3: ScoredCategory(3, "sky", isthing=False)}
    image = compared(of_masks([box(0, 0, 5, 5)], [3]), of_masks([box(0, 0, 5, 5)], [3]))
    assert counts(figures(image, categories=sky)) == (0, 0, 0)
