import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.images.preprocess import place, resize
from schemas.config.preprocess import Resize
from schemas.records import Placement

sides = st.integers(1, 3000)


def step(mode, *size):
    return Resize(step="resize", mode=mode, size=size, fill=7)


def test_the_three_modes():
    assert place(100, 200, step("stretch", 64)) == Placement((100, 200), (64, 64), (64, 64))
    assert place(100, 200, step("shortest", 64)) == Placement((100, 200), (64, 128), (64, 128))
    assert place(100, 200, step("letterbox", 64)) == Placement(
        (100, 200), (32, 64), (64, 64), (16, 0)
    )
    assert place(200, 100, step("letterbox", 40, 80)) == Placement(
        (200, 100), (40, 20), (40, 80), (0, 30)
    )


@given(sides, sides, st.integers(8, 2000), st.integers(8, 2000))
def test_a_letterbox_holds_the_whole_picture(height, width, tall, wide):
    found = place(height, width, step("letterbox", tall, wide))
    assert found.input_hw == (tall, wide)
    for content, offset, whole in zip(
        found.content_hw, found.offset_yx, found.input_hw, strict=True
    ):
        assert 1 <= content <= whole
        assert 0 <= whole - content - 2 * offset <= 1  # in the middle
    assert tall == found.content_hw[0] or wide == found.content_hw[1]


@given(sides, sides, st.integers(8, 2000))
def test_shortest(height, width, size):
    found = place(height, width, step("shortest", size))
    assert min(found.content_hw) == size
    assert found.content_hw == found.input_hw


@pytest.mark.parametrize("size", [(20, 30), (90, 70), (60, 90)])
def test_pixels_lie_where_the_placement_says(size):
    pixels = np.zeros((60, 90, 3), np.uint8)
    pixels[:30, :45] = 200
    found = place(60, 90, step("letterbox", *size))
    canvas = resize(pixels, found, fill=7)
    assert canvas.shape == (*size, 3)
    (top, left), (height, width) = found.offset_yx, found.content_hw
    inside = np.zeros(size, bool)
    inside[top : top + height, left : left + width] = True
    assert (canvas[~inside] == 7).all()
    content = canvas[top : top + height, left : left + width, 0]
    assert content[: height // 2 - 1, : width // 2 - 1].min() == 200
    assert content[height // 2 + 1 :].max() == 0


def test_a_size_that_fits_changes_nothing():
    pixels = np.random.default_rng(0).integers(0, 255, (12, 12, 3)).astype(np.uint8)
    for mode in ("stretch", "letterbox", "shortest"):
        assert (resize(pixels, place(12, 12, step(mode, 12)), fill=0) == pixels).all()
