import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.images.preprocess import place
from pipeline.masks import codec
from pipeline.masks.resample import to_original
from schemas.config.preprocess import Resize
from schemas.records import ErrorCode, Evidence, Failure, Placement, Segment, Segmentation


def found(stack, evidence=None):
    segments = tuple(
        Segment(3, codec.encode(mask), int(mask.sum()), (0, 0, 0, 0), 0.5, evidence=evidence)
        for mask in stack
    )
    return Segmentation(*stack[0].shape, segments)


def placements(height, width):
    for mode, size in (("stretch", (37, 80)), ("letterbox", (64, 50)), ("shortest", (45,))):
        yield place(height, width, Resize(step="resize", mode=mode, size=size))


@settings(max_examples=60)
@given(st.data())
def test_every_pixel_takes_the_value_where_its_centre_lies(data):
    height, width = data.draw(st.tuples(st.integers(1, 40), st.integers(1, 40)))
    mode = data.draw(st.sampled_from(["stretch", "letterbox", "shortest"]))
    size = data.draw(st.tuples(st.integers(8, 60), st.integers(8, 60)))
    step = Resize(step="resize", mode=mode, size=size[:1] if mode == "shortest" else size)
    placement = place(height, width, step)
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32)))
    stack = [rng.random(placement.input_hw) < rng.random() for _ in range(4)]
    stack = [mask for mask in stack if mask.any()] or [np.ones(placement.input_hw, bool)]
    (tall, wide), (top, left) = placement.content_hw, placement.offset_yx
    rows = np.floor((np.arange(height) + 0.5) * tall / height + 1e-9).astype(int) + top
    columns = np.floor((np.arange(width) + 0.5) * wide / width + 1e-9).astype(int) + left
    expected = [mask[np.ix_(rows, columns)] for mask in stack]
    result = to_original(found(stack), placement)
    assert (result.height, result.width) == (height, width)
    kept = [mask for mask in expected if mask.any()]
    assert [segment.counts for segment in result.segments] == [codec.encode(m) for m in kept]
    for segment, mask in zip(result.segments, kept, strict=True):
        assert segment.area == mask.sum()
        assert segment.bbox_xywh == codec.bbox_xywh(segment.counts, height, width)
        assert (segment.category_id, segment.score) == (3, 0.5)


@pytest.mark.parametrize("size", [(90, 130), (31, 47), (200, 80), (45, 65), (64, 64)])
def test_a_rectangle_comes_back_where_it_was(size):
    height, width = size
    for placement in placements(height, width):
        (tall, wide), (top, left) = placement.content_hw, placement.offset_yx
        mask = np.zeros(placement.input_hw, bool)
        y0, y1, x0, x1 = 0.2 * tall, 0.7 * tall, 0.3 * wide, 0.9 * wide
        mask[top + round(y0) : top + round(y1), left + round(x0) : left + round(x1)] = True
        (segment,) = to_original(found([mask]), placement).segments
        x, y, w, h = segment.bbox_xywh
        scale_y, scale_x = height / tall, width / wide
        assert abs(y - 0.2 * height) <= scale_y / 2 + 0.5
        assert abs(y + h - 0.7 * height) <= scale_y / 2 + 0.5
        assert abs(x - 0.3 * width) <= scale_x / 2 + 0.5
        assert abs(x + w - 0.9 * width) <= scale_x / 2 + 0.5
        assert segment.area == w * h


def test_what_lies_in_the_filled_rest_is_dropped():
    placement = Placement((10, 20), (8, 16), (16, 16), (4, 0))
    outside, across = np.zeros((16, 16), bool), np.zeros((16, 16), bool)
    outside[:4] = across[:6] = True
    (segment,) = to_original(found([outside, across]), placement).segments
    assert segment.bbox_xywh == (0, 0, 20, 2)


def test_positions_come_back_too():
    placement = Placement((10, 20), (20, 40), (60, 40), (20, 0))
    evidence = Evidence(
        predicted_iou=0.5,
        point_xy=(20.0, 30.0),
        crop_xywh=(0, 0, 40, 30),
        prompt_bbox_xywh=(4.0, 22.0, 8.0, 10.0),
    )
    (segment,) = to_original(found([np.ones((60, 40), bool)], evidence), placement).segments
    assert segment.evidence == Evidence(
        predicted_iou=0.5,
        point_xy=(10.0, 5.0),
        crop_xywh=(0, 0, 20, 5),
        prompt_bbox_xywh=(2.0, 1.0, 4.0, 5.0),
    )


def test_nothing_to_restore():
    answer = found([np.ones((4, 4), bool)])
    assert to_original(answer, None) is answer
    placement = Placement((8, 8), (4, 4), (4, 4))
    assert to_original(Segmentation(4, 4), placement) == Segmentation(8, 8)
    failure = Failure(ErrorCode.MODEL_ERROR, "no")
    assert to_original(Segmentation(4, 4, failure=failure), placement).failure == failure
    with pytest.raises(ValueError, match="5 × 5 for a picture of 4 × 4"):
        to_original(Segmentation(5, 5), placement)
