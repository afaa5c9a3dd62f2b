"""Many RLE strings at once, held against pycocotools one by one."""

from __future__ import annotations

from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from pycocotools import mask as _mask

from pipeline.masks.rle import paint_runs, read_runs

coco: Any = _mask


def text(mask: np.ndarray) -> str:
    return coco.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()


def table(texts: list[str], pixels: list[int]):
    return read_runs(pa.array(texts, pa.string()), np.array(pixels, np.int64))


masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, min_side=1, max_side=40))


@given(st.lists(masks, max_size=6))
def test_areas_boxes_and_runs_are_pycocotools(found):
    texts = [text(mask) for mask in found]
    runs = table(texts, [mask.size for mask in found])
    assert runs.wellformed.all()
    assert runs.canonical.all()
    codes = [
        {"size": list(mask.shape), "counts": code} for mask, code in zip(found, texts, strict=True)
    ]
    assert runs.areas().tolist() == [int(coco.area(code)) for code in codes]
    heights = np.array([mask.shape[0] for mask in found], np.int64)
    assert runs.boxes_xywh(heights).tolist() == [coco.toBbox(code).tolist() for code in codes]
    for index, mask in enumerate(found):
        flat = np.zeros(mask.size, np.bool_)
        own = runs.mask == index
        for start, end in zip(runs.starts[own], runs.ends[own], strict=True):
            assert not flat[start:end].any()
            flat[start:end] = True
        assert np.array_equal(flat, mask.ravel(order="F"))


@given(masks, st.data())
def test_canonical_means_that_pycocotools_writes_the_same(mask, data):
    code = text(mask)
    place = data.draw(st.integers(0, len(code)))
    changed = code[:place] + data.draw(st.text("0P1o0@`", max_size=2)) + code[place + 1 :]
    runs = table([changed, code], [mask.size, mask.size])
    assert runs.canonical[1]
    if runs.wellformed[0]:  # safe to give to pycocotools
        again = coco.decode({"size": list(mask.shape), "counts": changed})
        assert runs.areas()[0] == again.sum()
        assert runs.canonical[0] == (text(again) == changed)
    else:
        assert runs.areas()[0] == 0
        assert not runs.canonical[0]


@pytest.mark.parametrize(
    "damaged",
    ["", "P", "0P", "a b", "é", '"', "p0", "o" * 30 + "0", "51", "9", "O"],
)
def test_damaged_strings_are_told_from_sound_neighbours(damaged):
    good = text(np.eye(5))
    runs = table([good, damaged, good], [25, 25, 25])
    assert runs.wellformed.tolist() == [True, False, True]
    assert runs.areas().tolist() == [5, 0, 5]


def test_a_string_of_another_picture_is_not_wellformed():
    assert not table([text(np.eye(5))], [24]).wellformed[0]


def test_spare_digits_and_empty_runs_are_not_canonical():
    plain = text(np.array([[0, 1, 1, 0]]))
    spelled = {"size": [1, 4], "counts": [1, 1, 0, 1, 1]}
    assert plain == "121"
    for other in ("Q021", "1R01"):
        runs = table([other], [4])
        assert (runs.wellformed[0], runs.canonical[0]) == (True, False)
        assert runs.areas()[0] == 2
    split = coco.frPyObjects(spelled, 1, 4)["counts"].decode()
    runs = table([split], [4])
    assert (runs.wellformed[0], runs.canonical[0], runs.areas()[0]) == (True, False, 2)


def test_slices_of_a_column_are_read_where_they_begin():
    texts = pa.array([text(np.eye(n)) for n in range(1, 9)])
    runs = read_runs(texts.slice(3, 2), np.array([16, 25]))
    assert runs.areas().tolist() == [4, 5]
    assert read_runs(texts.slice(8), np.zeros(0, np.int64)).areas().tolist() == []


@given(hnp.arrays(np.int32, st.tuples(st.integers(1, 30), st.integers(1, 30)),
                  elements=st.integers(0, 4)))  # fmt: skip
def test_paint_inverts_a_label_map(labels):
    ids = np.array([label for label in np.unique(labels) if label], np.int64)
    texts = pa.array([text(labels == label) for label in ids], pa.string())
    painted = paint_runs(texts, ids * 70_000, *labels.shape)
    assert painted.dtype == np.int32
    assert painted.flags.c_contiguous
    assert np.array_equal(painted, labels.astype(np.int32) * 70_000)


def test_paint_refuses_overlap_and_damage():
    left, both = np.eye(4), np.ones((4, 4))
    with pytest.raises(ValueError, match="overlap"):
        paint_runs(pa.array([text(left), text(both)]), [1, 2], 4, 4)
    with pytest.raises(ValueError, match="segment 2 has a malformed RLE for 4x4"):
        paint_runs(pa.array([text(left), "~"]), [1, 2], 4, 4)


@given(st.lists(masks.filter(lambda mask: mask.any()), min_size=1, max_size=5), st.data())
def test_overlap_is_found_where_masks_of_one_picture_share_a_pixel(shapes, data):
    side = 40
    found, group = [], []
    for mask in shapes:
        canvas = np.zeros((side, side), np.bool_)
        canvas[: mask.shape[0], : mask.shape[1]] = mask
        found.append(canvas)
        group.append(data.draw(st.integers(0, 2)))
    runs = table([text(mask) for mask in found], [side * side] * len(found))
    flags = runs.overlapping(np.array(group, np.int64), side * side)
    expected = [
        any(
            group[i] == group[j] and i != j and (found[i] & found[j]).any()
            for j in range(len(found))
        )
        for i in range(len(found))
    ]
    # Of several that lie in one heap some may go unnamed, but never a picture, and never wrongly.
    assert not (flags & ~np.array(expected)).any()
    for picture in set(group):
        inside = [k for k, own in enumerate(group) if own == picture]
        assert flags[inside].any() == any(expected[k] for k in inside)
