import numpy as np
import pytest
from hypothesis import given
from label_maps import compared, pairs_of_maps

from pipeline.evaluation.metrics.semantic import SemanticIou
from pipeline.evaluation.sources.categories import ScoredCategory
from pipeline.evaluation.sources.source import segments_of_map

TABLE = {i: ScoredCategory(i, str(i), isthing=False) for i in range(1, 6)}


def by_value(label_map):
    return segments_of_map(label_map, {value: value for value in range(1, 6)})


@given(pairs_of_maps())
def test_equals_the_formulas_on_pixels(maps):
    truth, predicted = maps
    metric = SemanticIou(TABLE)
    metric.add(compared(by_value(truth), by_value(predicted)))
    result = metric.figures()
    labelled = truth > 0
    ious, present = [], []
    for value in range(1, 6):
        a, b = truth == value, (predicted == value) & labelled
        expected = np.sum(a & b) / np.sum(a | b) if np.any(a | b) else None
        assert result.per_category[value]["iou"] == expected
        ious += [expected] if expected is not None else []
        present += [expected] if a.any() else []
    if not labelled.any():
        assert result.overall["mean_iou"] is result.overall["pixel_accuracy"] is None
        return
    assert result.overall["mean_iou"] == pytest.approx(np.mean(ious))
    assert result.overall["mean_iou_present"] == pytest.approx(np.mean(present))
    assert result.overall["pixel_accuracy"] == pytest.approx(
        np.mean(truth[labelled] == predicted[labelled])
    )
    assert result.overall["pixels"] == labelled.sum()


def test_by_hand_over_two_images():
    first = np.array([[1, 1, 2, 0]]), np.array([[1, 2, 2, 1]])
    second = np.array([[1, 2]]), np.array([[0, 2]])  # one pixel without a prediction
    metric = SemanticIou(TABLE)
    for truth, predicted in (first, second):
        metric.add(compared(by_value(truth), by_value(predicted)))
    result = metric.figures()
    assert result.per_category[1]["iou"] == 1 / 3
    assert result.per_category[2]["iou"] == 2 / 3
    assert result.overall["mean_iou"] == (1 / 3 + 2 / 3) / 2
    assert result.overall["pixel_accuracy"] == 3 / 5
    assert result.overall["mean_accuracy"] == (1 / 3 + 1) / 2


def test_a_category_that_only_the_prediction_has_counts_as_zero():
    metric = SemanticIou({})
    metric.add(compared(by_value(np.array([[1, 1]])), by_value(np.array([[1, 5]]))))
    overall = metric.figures().overall
    assert overall["mean_iou"] == 0.25
    assert overall["mean_iou_present"] == 0.5
