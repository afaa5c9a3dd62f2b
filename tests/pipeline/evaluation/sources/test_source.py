import numpy as np
import pytest

from pipeline.evaluation.sources.source import make_segments, segments_of_map
from pipeline.masks import codec


def test_a_label_map_with_gaps_and_a_crowd():
    label_map = np.zeros((4, 6), np.int32)
    label_map[0, 0], label_map[1, 1:3], label_map[3] = 7, 900, 5
    found = segments_of_map(label_map, {7: 1, 900: 2}, crowds=frozenset([900]))
    assert found.category_ids.tolist() == [1, 2]
    assert found.iscrowd.tolist() == [False, True]
    assert np.array_equal(codec.decode(found.counts[1], 4, 6), label_map == 900)


def test_columns_of_different_length():
    with pytest.raises(ValueError, match="differ in length"):
        make_segments(2, 2, [b"04"], [1, 2])
