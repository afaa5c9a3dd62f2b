import numpy as np
import pytest

from pipeline.training.nuclei.validate import IOU_THRESHOLDS, Matches, match


def square(top, left, size, label=1, shape=(50, 50)):
    label_map = np.zeros(shape, np.int32)
    label_map[top : top + size, left : left + size] = label
    return label_map


def test_the_thresholds():
    assert IOU_THRESHOLDS == (0.5, 0.55, 0.6, 0.65, 0.7, 0.75, 0.8, 0.85, 0.9, 0.95)


def test_equal_maps_match_whatever_their_numbers():
    true = square(5, 5, 10) + square(30, 30, 10, label=2)
    found = square(5, 5, 10, label=9) + square(30, 30, 10, label=4)
    matches = match(found, true)
    assert (matches.found, matches.true) == (2, 2)
    assert matches.accuracy() == (1.0,) * 10


def test_iou_decides_by_threshold():
    matches = match(square(0, 0, 10), square(0, 2, 10))  # IoU 80 / 120
    assert matches.hits == (1, 1, 1, 1, 0, 0, 0, 0, 0, 0)


def test_a_tie_of_one_half_is_counted_once():
    halves = np.zeros((4, 4), np.int32)
    halves[:2], halves[2:] = 1, 2
    assert match(halves, np.ones((4, 4), np.int32)).hits[0] == 1


def test_pooling_adds_counts():
    one = match(square(0, 0, 10), square(0, 0, 10))
    none = match(square(0, 0, 10), np.zeros((50, 50), np.int32))
    pooled = one + none
    assert (pooled.hits[0], pooled.found, pooled.true) == (1, 2, 1)
    assert pooled.accuracy()[0] == pytest.approx(0.5)


def test_nothing_to_find_and_nothing_found_is_right():
    zeros = np.zeros((5, 5), np.int32)
    assert match(zeros, zeros) == Matches((0,) * 10, 0, 0)
    assert match(zeros, zeros).accuracy() == (1.0,) * 10
