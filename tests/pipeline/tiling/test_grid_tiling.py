from itertools import pairwise

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.tiling.grid import alignment, map_tiles, tile_grid, tile_starts


@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(2, 8).map(lambda count: 32 * count),
    st.integers(0, 32),
    st.sampled_from([1, 8, 32]),
)
def test_inner_parts_cover_every_pixel_once(height, width, tile, overlap, align):
    count = np.zeros((height, width), int)
    grid = tile_grid(height, width, tile=tile, overlap=overlap, align=align)
    for one in grid:
        count[one.inner] += 1
        for span in (one.y, one.x):
            assert span.start <= span.low < span.high <= span.stop
            assert span.stop - span.start <= tile
            assert span.start % align == 0
        inner_y, inner_x = one.inner_in_outer
        assert one.y.start + inner_y.start == one.y.low
        assert one.x.start + inner_x.stop == one.x.high
    assert (count == 1).all()
    assert len(list(grid)) == len(grid)


@given(st.integers(65, 900), st.integers(0, 56), st.sampled_from([1, 8]))
def test_neighbours_share_at_least_the_overlap(length, overlap, align):
    starts = tile_starts(length, tile=64, overlap=overlap, align=align)
    assert starts[-1] + 64 >= length
    assert all(a + 64 - b >= overlap for a, b in pairwise(starts))


def test_tiles_come_column_by_column():
    places = [(one.row, one.column) for one in tile_grid(100, 60, tile=40, overlap=8)]
    assert places == [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1)]


def test_a_small_picture_is_one_tile():
    assert tile_starts(100, tile=128, overlap=32) == [0]
    (only,) = tile_grid(128, 1, tile=128, overlap=32)
    assert only.hw == (128, 1)
    assert only.outer == only.inner


@pytest.mark.parametrize(
    ("tile", "overlap", "align"),
    [(1024, 128, 32), (513, 64, 1), (520, 64, 8), (64, 48, 16), (64, 63, 1), (2, 0, 2)],
)
def test_tiles_start_on_the_grid_of_nets_where_they_can(tile, overlap, align):
    assert alignment(tile, overlap) == align
    tile_starts(5000, tile=tile, overlap=overlap, align=align)


def test_an_overlap_without_step_is_refused():
    with pytest.raises(ValueError, match="overlap"):
        tile_starts(500, tile=64, overlap=64)


def test_a_tile_off_the_grid_is_refused():
    with pytest.raises(ValueError, match="multiple of 8"):
        tile_starts(500, tile=65, overlap=0, align=8)


def test_a_local_function_gives_the_untiled_result():
    pixels = np.random.default_rng(0).integers(0, 256, (301, 517, 3)).astype(np.uint8)

    def blur(part):
        smooth = cv2.blur(part.astype(np.float32), (9, 9))
        return smooth.transpose(2, 0, 1)

    tiled = map_tiles(pixels, blur, planes=3, tile=128, overlap=16)
    np.testing.assert_allclose(tiled, blur(pixels), atol=1e-3)
