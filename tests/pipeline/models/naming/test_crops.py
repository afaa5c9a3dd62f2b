"""Crops of masks are what the embedders' processors make of the same squares."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
import transformers
from hypothesis import given
from hypothesis import strategies as st
from tiny_embedders import SIDE, embedder_checkpoint
from tiny_text import picture

from pipeline.masks.codec import bbox_xywh, encode
from pipeline.models.checkpoints.hf_preprocessor import EmbedderInput, read_embedder_input
from pipeline.models.naming.crops import MaskCrops, blurred, square_around
from schemas.config.model import NamingConfig
from schemas.records import Sample, Segment

RULE = EmbedderInput(SIDE, "bicubic", (0.5, 0.4, 0.3), (0.2, 0.3, 0.4))


def segment_of(mask: np.ndarray) -> Segment:
    counts = encode(mask)
    return Segment(1, counts, int(mask.sum()), bbox_xywh(counts, *mask.shape))


def box_segment(hw: tuple[int, int], box_xywh: tuple[int, int, int, int]) -> Segment:
    mask = np.zeros(hw, np.uint8)
    x, y, width, height = box_xywh
    mask[y : y + height, x : x + width] = 1
    return segment_of(mask)


def crops(rule: EmbedderInput = RULE, **config: Any) -> MaskCrops:
    return MaskCrops(rule, NamingConfig(**config), "cpu")


def plain(values: torch.Tensor) -> torch.Tensor:
    """3×h×w in 0…255 again."""
    mean, std = (torch.tensor(each)[:, None, None] for each in (RULE.mean, RULE.std))
    return (values * std + mean) * 255


@pytest.mark.parametrize("name", ["clip", "siglip", "dinov2"])
@pytest.mark.parametrize("box", [(30, 20, 64, 40), (5, 0, 80, 83), (70, 60, 9, 7)])
def test_a_square_goes_in_as_the_processor_puts_it(
    name: str, box: tuple[int, int, int, int]
) -> None:
    folder = str(embedder_checkpoint(name))
    processor: Any = transformers.AutoImageProcessor.from_pretrained(folder)
    if name == "dinov2":  # whose cut is smaller than what it resizes to: our margin does that
        processor.size = {"shortest_edge": SIDE}
    sample = picture((100, 120))
    segment = box_segment((100, 120), box)
    left, top, right, bottom = square_around(
        box, sample.original_hw, margin=0.1, side=SIDE
    ).source_xyxy
    assert right - left == bottom - top
    square = sample.pixels[top:bottom, left:right]
    theirs = processor(square, return_tensors="pt", input_data_format="channels_last").pixel_values
    ours = crops(read_embedder_input(folder), views=["keep"], margin=0.1)([(sample, segment)])
    torch.testing.assert_close(ours[0], theirs, rtol=0, atol=1e-5)


@given(
    st.tuples(st.integers(1, 60), st.integers(1, 60)),
    st.data(),
    st.sampled_from((0.0, 0.1, 0.5, 2.0)),
)
def test_a_square_holds_its_box_and_stays_in_the_picture(
    hw: tuple[int, int], data: st.DataObject, margin: float
) -> None:
    height, width = hw
    w, h = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    x, y = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    square = square_around((x, y, w, h), hw, margin=margin, side=SIDE)
    left, top, right, bottom = square.source_xyxy
    assert 0 <= left <= x < x + w <= right <= width
    assert 0 <= top <= y < y + h <= bottom <= height
    x0, y0, x1, y1 = square.place_xyxy
    assert 0 <= x0 < x1 <= SIDE
    assert 0 <= y0 < y1 <= SIDE
    side = round(max(w, h) * (1 + 2 * margin))
    if side <= min(hw):
        assert (x0, y0, x1, y1) == (0, 0, SIDE, SIDE)
        assert right - left == bottom - top == max(side, 1)


def test_what_lies_beyond_the_picture_has_the_mean_colour() -> None:
    sample = picture((20, 80))
    (views,) = crops(views=["keep"], margin=0)([(sample, box_segment((20, 80), (0, 0, 80, 20)))])
    found = views[0]
    assert found.shape == (3, SIDE, SIDE)
    assert found[:, : SIDE * 3 // 8].abs().max() < 0.01
    assert found[:, SIDE * 5 // 8 :].abs().max() < 0.01
    assert found[:, SIDE * 3 // 8 : SIDE * 5 // 8].abs().max() > 0.1


def test_views_differ_outside_the_mask_alone() -> None:
    hw = (64, 64)
    rng = np.random.default_rng(0)
    sample = Sample(picture(hw).record, rng.integers(0, 256, (*hw, 3), np.uint8), hw)
    segment = box_segment(hw, (16, 16, 32, 32))
    names = ["keep", "grey", "blur"]
    (views,) = crops(views=names, margin=0.5)([(sample, segment)])
    keep, grey, blur = views
    inside = (..., slice(9, 23), slice(9, 23))
    torch.testing.assert_close(grey[inside], keep[inside])
    torch.testing.assert_close(blur[inside], keep[inside])
    rim = (..., slice(0, 7))
    assert grey[rim].abs().max() < 1e-5
    assert 0 < plain(blur)[rim].std() < plain(keep)[rim].std() / 2
    for name, expected in zip(names, views, strict=True):
        (alone,) = crops(views=[name], margin=0.5)([(sample, segment)])
        torch.testing.assert_close(alone[0], expected)


def test_a_picture_scaled_in_decoding_shows_the_same_place() -> None:
    hw = (128, 160)
    small = np.zeros((64, 80, 3), np.uint8)
    small[20:40, 30:50] = 255
    whole = small.repeat(2, 0).repeat(2, 1)
    record = picture((1, 1)).record
    segment = box_segment(hw, (60, 40, 40, 40))
    pair = [(Sample(record, pixels, hw), segment) for pixels in (whole, small)]
    full, half = crops(views=["grey"], margin=0.1)(pair)
    assert (plain(full) - plain(half)).abs().mean() < 4


def test_crops_of_several_pictures_come_in_their_order() -> None:
    pairs = [
        (picture((40, 50), seed), box_segment((40, 50), (seed, 3, 20, 9))) for seed in (0, 1, 2, 0)
    ]
    cut = crops()
    together = cut(pairs)
    assert together.shape == (4, 2, 3, SIDE, SIDE)
    for pair, views in zip(pairs, together, strict=True):
        torch.testing.assert_close(cut([pair])[0], views, rtol=0, atol=0)
    cut.forget()


def test_the_blur_keeps_brightness_and_is_symmetric() -> None:
    spot = torch.zeros(1, 3, 33, 33)
    spot[..., 16, 16] = 1
    found = blurred(spot, 3.0)
    assert found.sum().item() == pytest.approx(3, abs=1e-4)
    torch.testing.assert_close(found, found.flip(-1))
    torch.testing.assert_close(found, found.transpose(-1, -2))
    torch.testing.assert_close(blurred(torch.ones(2, 3, 5, 5), 9.0), torch.ones(2, 3, 5, 5))
