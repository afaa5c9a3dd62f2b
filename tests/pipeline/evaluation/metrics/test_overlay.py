import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_maps import box, compared, objects, of_masks, pairs_of_maps

from pipeline.evaluation.metrics.overlay import compare_one
from pipeline.evaluation.sources.source import make_segments


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


@given(st.lists(pairs_of_maps(), min_size=1, max_size=4))
def test_many_images_at_once_are_as_each_alone(pairs):
    sides = [objects(label_map) for pair in pairs for label_map in pair]
    whole = compared(*sides)
    assert [image.key for image in whole.images] == [*range(1, len(pairs) + 1)]
    n = m = 0
    for number, pair in enumerate(pairs):
        one = compared(*map(objects, pair))
        of_image = whole.truth.image[whole.truth_index] == number
        assert np.array_equal(whole.truth_index[of_image], one.truth_index + n)
        assert np.array_equal(whole.predicted_index[of_image], one.predicted_index + m)
        assert np.array_equal(whole.shared[of_image], one.shared)
        assert np.array_equal(whole.iou()[of_image], one.iou())
        n, m = n + len(one.truth), m + len(one.predicted)
        here = whole.predicted.image == number
        assert np.array_equal(whole.outside[here], one.outside)
        assert np.array_equal(whole.predicted_areas[here], one.predicted_areas)
    assert (n, m) == (len(whole.truth), len(whole.predicted))


def test_one_image_of_two_sizes():
    square, flat = of_masks([box(0, 0, 1, 1)]), of_masks([box(0, 0, 1, 1, size=(10, 20))])
    assert compare_one("a.png", square, square).shared.tolist() == [1]
    with pytest.raises(ValueError, match=r"a\.png: one side is 20x10, the other 20x20 pixels"):
        compare_one("a.png", flat, square)
