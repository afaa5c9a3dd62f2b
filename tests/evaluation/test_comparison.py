import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_maps import box, compared, objects, of_masks, pairs_of_maps

from pipeline.evaluation.segments import make_segments


def as_matrix(image):
    matrix = np.zeros((len(image.truth), len(image.predicted)), np.int64)
    matrix[image.truth_index, image.predicted_index] = image.shared
    return matrix


@given(pairs_of_maps())
def test_counts_pixels_of_label_maps_like_numpy(maps):
    truth, predicted = maps
    image = compared(objects(truth), objects(predicted))
    true_values, values = (np.unique(m[m > 0]) for m in maps)
    expected = [[np.sum((truth == a) & (predicted == b)) for b in values] for a in true_values]
    assert np.array_equal(
        as_matrix(image), np.array(expected).reshape(len(true_values), len(values))
    )
    assert image.truth_areas.tolist() == [np.sum(truth == a) for a in true_values]
    assert image.predicted_areas.tolist() == [np.sum(predicted == b) for b in values]
    assert image.outside.tolist() == [np.sum((truth == 0) & (predicted == b)) for b in values]
    assert (image.shared > 0).all()


@given(st.integers(0, 2**32 - 1), st.integers(1, 4), st.integers(1, 4))
def test_counts_pixels_of_masks_that_overlap(seed, n, m):
    rng = np.random.default_rng(seed)
    masks = rng.random((n + m, 7, 5)) < rng.choice([0.1, 0.5, 0.9])
    truth, predicted = masks[:n], masks[n:]
    image = compared(of_masks(list(truth)), of_masks(list(predicted)))
    assert np.array_equal(as_matrix(image), [[np.sum(a & b) for b in predicted] for a in truth])
    assert image.outside.tolist() == [np.sum(b & ~truth.any(0)) for b in predicted]
    union = [[np.sum(a | b) for b in predicted] for a in truth]
    iou = np.zeros((n, m))
    iou[image.truth_index, image.predicted_index] = image.iou()
    assert np.array_equal(iou, as_matrix(image) / np.maximum(union, 1))


def test_either_side_may_be_empty():
    nothing = make_segments(20, 20)
    one = of_masks([box(1, 1, 3, 3)])
    assert len(compared(nothing, one).shared) == 0
    assert compared(nothing, one).outside.tolist() == [9]
    assert compared(one, nothing).truth_areas.tolist() == [9]
    assert len(compared(nothing, nothing).shared) == 0


def test_refuses_two_sizes():
    with pytest.raises(ValueError, match="picture: ground truth is 20x10, prediction 20x20"):
        compared(of_masks([box(0, 0, 1, 1, size=(10, 20))]), of_masks([box(0, 0, 1, 1)]))
