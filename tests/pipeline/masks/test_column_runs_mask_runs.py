import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from mask_zoo import any_mask, drawn, runs_of

from pipeline.masks import rle
from pipeline.masks.column_runs import canvas_of_runs, mask_runs


def painted(runs, index):
    mask = np.zeros((runs.heights[index], runs.widths[index]), bool)
    for k in np.flatnonzero(runs.owner == index):
        assert not mask[runs.top[k] : runs.bottom[k], runs.column[k]].any()
        mask[runs.top[k] : runs.bottom[k], runs.column[k]] = True
    return mask


@given(st.lists(any_mask, min_size=1, max_size=4))
def test_runs_paint_the_masks_again(stack):
    runs = runs_of(stack)
    assert (runs.top < runs.bottom).all()
    for index, mask in enumerate(stack):
        assert (painted(runs, index) == mask).all()
        rows, columns = np.nonzero(mask)
        box = [columns.min(), rows.min(), np.ptp(columns) + 1, np.ptp(rows) + 1]
        assert runs.boxes_xywh()[index].tolist() == box
    assert runs.total(runs.lengths()).tolist() == [mask.sum() for mask in stack]


@given(st.lists(any_mask, min_size=1, max_size=4), st.data())
def test_choosing_masks_is_reading_only_those(stack, data):
    chosen = sorted(data.draw(st.sets(st.integers(0, len(stack) - 1), min_size=1)))
    ours, expected = runs_of(stack).choose(np.array(chosen)), runs_of([stack[i] for i in chosen])
    for name in ("owner", "column", "top", "bottom", "first", "heights", "widths"):
        assert getattr(ours, name).tolist() == getattr(expected, name).tolist()


def test_runs_that_touch_are_one():
    # 2 zeros, 3 ones, 0 zeros, 2 ones, 5 zeros: what a careless writer makes of one run
    text = rle.compress(np.array([2, 3, 0, 2, 5]), np.zeros(1, np.intp))[0].decode()
    runs = mask_runs(pa.array([text]), np.array([12]), np.array([1]))
    assert (runs.top.tolist(), runs.bottom.tolist()) == ([2], [7])


@given(st.lists(any_mask, min_size=1, max_size=3))
def test_neighbours_on_the_canvas_are_neighbours_in_the_picture(stack):
    runs = runs_of(stack)
    canvas = canvas_of_runs(runs)
    assert (canvas.ends[:-1] < canvas.starts[1:]).all()
    keys = {}
    for k in range(len(runs.owner)):
        for step in range(runs.bottom[k] - runs.top[k]):
            keys[canvas.starts[k] + step] = (runs.owner[k], runs.top[k] + step, runs.column[k])
    for key, (owner, y, x) in keys.items():
        assert canvas.base[owner] <= key < canvas.base[owner + 1]
        stride = canvas.stride[owner]
        for dy, dx in ((0, 1), (1, 0), (1, 1), (1, -1), (0, -1), (-1, -1)):
            beside = (owner, y + dy, x + dx)
            inside = (
                0 <= y + dy < runs.heights[owner]
                and 0 <= x + dx < runs.widths[owner]
                and stack[owner][y + dy, x + dx]
            )
            assert (keys.get(key + dy + dx * stride) == beside) == inside


@pytest.mark.parametrize(
    ("text", "message"),
    [("~~", "malformed"), ("11", "malformed"), ("<", "holds no pixel")],
)
def test_damaged_strings_are_named(text, message):
    good = "04"  # no zeros, 4 ones
    with pytest.raises(ValueError, match=rf"mask 1 .*{message}"):
        mask_runs(pa.array([good, text]), np.array([2, 3]), np.array([2, 4]))


def test_a_run_over_the_foot_of_columns_is_cut():
    runs = runs_of([drawn(".##", "###", "##.")])
    assert runs.column.tolist() == [0, 1, 2]
    assert runs.top.tolist() == [1, 0, 0]
    assert runs.bottom.tolist() == [3, 3, 2]
