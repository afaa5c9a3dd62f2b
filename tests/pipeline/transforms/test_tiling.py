import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.transforms.tiling import map_tiles, tile_starts, tiles


@given(
    st.integers(1, 700),
    st.integers(1, 700),
    st.integers(2, 8).map(lambda count: 32 * count),
    st.integers(0, 32),
    st.sampled_from([1, 8, 32]),
)
def test_inner_parts_cover_every_pixel_once(height, width, tile, overlap, align):
    count = np.zeros((height, width), int)
    for (outer_y, outer_x), (inner_y, inner_x) in tiles(
        height, width, tile=tile, overlap=overlap, align=align
    ):
        count[inner_y, inner_x] += 1
        for outer, inner in ((outer_y, inner_y), (outer_x, inner_x)):
            assert outer.start <= inner.start <= inner.stop <= outer.stop
            assert outer.stop - outer.start <= tile
            assert outer.start % align == 0
    assert (count == 1).all()


def test_a_small_picture_is_one_tile():
    assert tile_starts(100, tile=128, overlap=32) == [0]


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
