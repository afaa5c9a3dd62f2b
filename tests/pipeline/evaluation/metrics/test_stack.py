from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from label_maps import box, objects, of_masks, pairs_of_maps, pixels_of

from pipeline.evaluation.metrics.stack import parted, stack, with_rest
from pipeline.evaluation.sources.source import make_segments


@given(st.lists(pairs_of_maps(), max_size=3))
def test_images_lie_end_to_end(pairs):
    maps = [label_map for pair in pairs for label_map in pair]
    found = stack([objects(m) for m in maps], [""] * len(maps))
    canvases = pixels_of(found, [m.shape for m in maps], values=1 + np.arange(len(found)))
    values = 0
    for label_map, canvas in zip(maps, canvases, strict=True):
        present = np.unique(label_map[label_map > 0])
        expected = np.searchsorted(present, label_map) + 1 + values
        assert np.array_equal(canvas, np.where(label_map > 0, expected, 0))
        values += len(present)
    assert found.areas().sum() == sum(np.count_nonzero(m) for m in maps)
    assert not found.overlap()


def test_other_categories_and_none():
    first = of_masks([box(0, 0, 1, 1)], [4], scores=[0.1])
    second = of_masks([box(1, 0, 2, 1), box(2, 0, 3, 1)], [5, 6], iscrowd=[1, 0])
    three = stack([first, second], ["a", "b"])
    assert three.overlap()
    two = three.in_terms_of({4: 40, 5: 0})
    assert two.category_ids.tolist() == [40, 0]
    assert two.image.tolist() == [0, 1]
    assert two.counts == three.counts[:2]
    assert two.iscrowd.tolist() == [False, True]
    assert two.scores[0] == 0.1
    assert np.isnan(two.scores[1])
    assert two.areas().tolist() == [1, 2]
    assert not two.overlap()
    assert len(three.in_terms_of({})) == 0
    assert three.in_terms_of({4: 1}, others=7).category_ids.tolist() == [1, 7, 7]


def test_a_damaged_string_is_named():
    good, bad = of_masks([box(0, 0, 1, 1)]), make_segments(20, 20, [b"`6", b"04"], [1, 1])
    with pytest.raises(ValueError, match=r"^b: segment 2: malformed RLE: the runs cover"):
        stack([good, replace(bad, counts=(good.counts[0], b"04"))], ["a", "b"])


@given(st.integers(0, 2**32 - 1), st.integers(0, 6), st.integers(0, 6))
def test_parted_is_painting_one_after_the_other(seed, n, m):
    rng = np.random.default_rng(seed)
    shapes = [(7, 5), (3, 9)]
    pictures = [rng.random((k, *shape)) < 0.5 for k, shape in zip((n, m), shapes, strict=True)]
    sides = [
        of_masks(list(p)) if len(p) else make_segments(*shape)
        for p, shape in zip(pictures, shapes, strict=True)
    ]
    side = stack(sides, ["", ""])
    priority = rng.integers(0, 4, n + m)
    marked = replace(side, category_ids=np.arange(n + m) + 1)
    canvases = pixels_of(parted(marked, priority), shapes)
    first = 0
    for picture, canvas in zip(pictures, canvases, strict=True):
        expected = np.zeros(picture.shape[1:], int)
        for i in sorted(range(len(picture)), key=lambda i: priority[first + i]):
            expected[picture[i]] = first + i + 1
        assert np.array_equal(canvas, expected)
        first += len(picture)
    assert not parted(side, priority).overlap()


@given(st.lists(pairs_of_maps(), min_size=1, max_size=3))
def test_the_rest_is_what_no_segment_covers(pairs):
    maps = [label_map for pair in pairs for label_map in pair]
    sides = [objects(m) for m in maps]
    sides[-1] = make_segments(*maps[-1].shape, answered=False)
    before = stack(sides, [""] * len(maps))
    after = with_rest(before, 99)
    canvases = pixels_of(after, [m.shape for m in maps])
    for label_map, canvas in zip(maps[:-1], canvases, strict=False):
        assert np.array_equal(canvas == 99, label_map == 0)
    assert not canvases[-1].any()  # nobody looked
    whole = sum((m == 0).any() for m in maps[:-1])
    assert len(after) == len(before) + whole
    assert len(after.iscrowd) == len(after.scores) == len(after.coco_areas) == len(after)
    assert np.array_equal(after.areas()[: len(before)], before.areas())
