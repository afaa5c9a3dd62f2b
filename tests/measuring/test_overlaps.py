import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import pipeline.measuring.overlaps as overlaps_module
from pipeline import masks
from pipeline.measuring.overlaps import find_overlaps
from pipeline.rle_batch import read_runs


def table(stack, pixels):
    texts = pa.array([masks.encode(mask).decode() for mask in stack], pa.string())
    return read_runs(texts, np.full(len(stack), pixels))


@settings(max_examples=80)
@given(st.data())
def test_shared_pixels_of_all_pairs(data):
    height, width = data.draw(st.tuples(st.integers(1, 12), st.integers(1, 12)))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    sides = [
        [mask for _ in range(n) if (mask := rng.random((height, width)) < rng.random()).any()]
        for n in data.draw(st.tuples(st.integers(0, 4), st.integers(0, 4)))
    ]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(overlaps_module, "_PAIRS", data.draw(st.sampled_from([1, 9, 2_000_000])))
        found = find_overlaps(*(table(stack, height * width) for stack in sides))
    expected = [
        (i, j, int((a & b).sum()))
        for i, a in enumerate(sides[0])
        for j, b in enumerate(sides[1])
        if (a & b).any()
    ]
    assert list(zip(*(part.tolist() for part in found), strict=True)) == expected
