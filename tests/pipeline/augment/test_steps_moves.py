import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.augment.steps import MOVES, move_of
from schemas.config.augment import AugmentConfig

SIZES = st.tuples(st.integers(1, 200), st.integers(1, 200))


def step(**data):
    (one,) = AugmentConfig.parse({"steps": [data]}).steps
    return one


def drawn(hw, seed, boxes=(), **data):
    found = MOVES[data["step"]](
        np.random.default_rng(seed), step(**data), hw, np.array(boxes, float).reshape(-1, 4)
    )
    return found and {"step": data["step"], **found}


@given(size=SIZES, seed=st.integers(0, 10**6), name=st.sampled_from(["crop", "resized_crop"]))
def test_crops_lie_in_the_picture(size, seed, name):
    x, y, width, height = drawn(size, seed, step=name)["box_xywh"]
    assert 0 <= x <= x + width <= size[1]
    assert 0 <= y <= y + height <= size[0]
    assert min(width, height) >= 1


@given(size=SIZES, seed=st.integers(0, 10**6), data=st.data())
def test_an_object_crop_holds_its_object(size, seed, data):
    left = data.draw(st.integers(0, size[1] - 1))
    top = data.draw(st.integers(0, size[0] - 1))
    right = data.draw(st.integers(left + 1, size[1]))
    bottom = data.draw(st.integers(top + 1, size[0]))
    found = drawn(size, seed, [[left, top, right, bottom]], step="object_crop", least=1)
    x, y, width, height = found["box_xywh"]
    assert 0 <= x <= left < right <= x + width <= size[1]
    assert 0 <= y <= top < bottom <= y + height <= size[0]


def test_a_crop_of_a_given_size_is_never_larger_than_the_picture():
    assert drawn((50, 300), 0, step="crop", size=[100, 100])["box_xywh"][2:] == [100, 50]


@pytest.mark.parametrize("angle", [90, -90, 180, 270])
def test_quarter_turns_have_whole_numbers_only(angle):
    move, size = move_of({"step": "rotate", "angle": float(angle), "expand": True}, (30, 41))
    np.testing.assert_array_equal(move.matrix, np.round(move.matrix))
    assert size == ((41, 30) if angle % 180 else (30, 41))


def test_quarters_draws_quarters():
    angles = {
        (drawn((9, 9), s, step="rotate", quarters=True) or {"angle": 0})["angle"] for s in range(40)
    }
    assert angles == {-180.0, -90.0, 0, 90.0, 180.0}


@given(angle=st.floats(-360, 360), size=SIZES)
def test_an_expanded_frame_holds_every_corner(angle, size):
    move, out = move_of({"step": "rotate", "angle": angle, "expand": True}, size)
    height, width = size
    corners = np.array([[x, y, 1] for x in (-0.5, width - 0.5) for y in (-0.5, height - 0.5)])
    there = corners @ np.linalg.inv(move.matrix).T
    assert (there[:, :2] >= -0.5 - 1e-4).all()
    assert (there[:, 0] <= out[1] - 0.5 + 1e-4).all()
    assert (there[:, 1] <= out[0] - 0.5 + 1e-4).all()


def test_a_frame_beyond_all_measure_is_refused_but_never_the_pictures_own(monkeypatch):
    monkeypatch.setattr("pipeline.augment.steps._LARGEST", 100)
    whole = {"step": "resized_crop", "box_xywh": [0, 0, 20, 20], "size_hw": [20, 20]}
    assert move_of(whole, (20, 20))[1] == (20, 20)
    with pytest.raises(ValueError, match="40 x 20 pixels is too large"):
        move_of({**whole, "size_hw": [40, 20]}, (20, 20))
    with pytest.raises(ValueError, match="no geometric step"):
        move_of({"step": "blur"}, (20, 20))
