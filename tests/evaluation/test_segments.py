import numpy as np
import pytest
from hypothesis import given
from label_maps import box, objects, of_masks, pairs_of_maps

from pipeline import masks
from pipeline.evaluation.segments import make_segments, segments_of_map


@given(pairs_of_maps())
def test_the_rest_is_what_no_segment_covers(maps):
    label_map, _ = maps
    before = objects(label_map)
    after = before.with_rest(9)
    if (label_map > 0).all():
        assert after is before
        return
    rest = masks.decode(after.counts[-1], *label_map.shape)
    assert np.array_equal(rest, label_map == 0)
    assert after.category_ids.tolist() == [*before.category_ids.tolist(), 9]
    assert len(after.iscrowd) == len(after.scores) == len(after.coco_areas) == len(after)


def test_the_rest_of_overlapping_segments():
    whole = of_masks([box(0, 0, 20, 15), box(0, 5, 20, 15)])
    assert whole.with_rest(9) is whole


def test_other_categories_and_none():
    three = of_masks(
        [box(0, 0, 1, 1), box(1, 0, 1, 1), box(2, 0, 1, 1)],
        [4, 5, 6],
        scores=[0.1, None, 0.3],
        iscrowd=[0, 1, 0],
    )
    two = three.in_terms_of({4: 40, 5: 40})
    assert two.category_ids.tolist() == [40, 40]
    assert two.counts == three.counts[:2]
    assert two.iscrowd.tolist() == [False, True]
    assert two.scores[0] == 0.1
    assert np.isnan(two.scores[1])
    assert len(three.in_terms_of({})) == 0


def test_a_label_map_with_gaps_and_a_crowd():
    label_map = np.zeros((4, 6), np.int32)
    label_map[0, 0], label_map[1, 1:3], label_map[3] = 7, 900, 5
    found = segments_of_map(label_map, {7: 1, 900: 2}, crowds=frozenset([900]))
    assert found.category_ids.tolist() == [1, 2]
    assert found.iscrowd.tolist() == [False, True]
    assert np.array_equal(masks.decode(found.counts[1], 4, 6), label_map == 900)


def test_columns_of_different_length():
    with pytest.raises(ValueError, match="differ in length"):
        make_segments(2, 2, [b"04"], [1, 2])
