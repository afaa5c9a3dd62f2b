"""Maps of tiles become one map: where tiles agree nothing shows, where they differ they mix."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from pipeline.masks.codec import decode
from pipeline.models.grids.geometry import Frame
from pipeline.models.grids.outputs import DenseOutput
from pipeline.models.tiling import blend as module
from pipeline.models.tiling.blend import Blender
from pipeline.tiling.grid import Tile, TileGrid, tile_grid
from schemas.records import Segment


def output(logits: Tensor, hw: tuple[int, int], **more: object) -> DenseOutput:
    """Maps of a picture that fills its input."""
    return DenseOutput(logits, Frame(hw, hw, hw), **more)  # pyright: ignore[reportArgumentType]


def blended(
    grid: TileGrid,
    find: Callable[[Tile], DenseOutput],
    *,
    overlap: int,
    category_ids: Sequence[int] = (1, 2, 3),
) -> list[Segment]:
    blender = Blender(grid, overlap=overlap, category_ids=category_ids, prompts={})
    for tile in grid:
        blender.add(tile, find(tile))
    return blender.finish()


def label_map(found: Sequence[Segment], height: int, width: int) -> np.ndarray:
    out = np.zeros((height, width), int)
    for one in found:
        mask = decode(one.counts, height, width) > 0
        assert (out[mask] == 0).all(), "segments overlap"
        assert one.area == mask.sum()
        out[mask] = one.category_id
    return out


def smooth(count: int, height: int, width: int, seed: int) -> Tensor:
    noise = torch.randn((1, count, height, width), generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.avg_pool2d(noise, 5, 1, 2)[0] * 5


@settings(max_examples=40)
@given(st.integers(1, 90), st.integers(1, 90), st.integers(33, 60), st.integers(0, 32), st.data())
def test_tiles_that_agree_show_no_seam(height, width, tile, overlap, data):
    logits = smooth(3, height, width, data.draw(st.integers(0, 999)))
    grid = tile_grid(height, width, tile=tile, overlap=overlap)
    found = blended(grid, lambda t: output(logits[:, *t.outer], t.hw), overlap=overlap)
    np.testing.assert_array_equal(label_map(found, height, width), logits.argmax(0) + 1)
    shares = logits.softmax(0).amax(0)
    for one in found:
        mean = shares[logits.argmax(0) == one.category_id - 1].mean()
        assert one.score == pytest.approx(float(mean), abs=1e-4)
        assert one.tta_agreement is None


@pytest.mark.parametrize("rows", [1, 7, 1 << 20])
def test_some_rows_at_once_are_as_good_as_all(monkeypatch, rows):
    monkeypatch.setattr(module, "_AT_ONCE_CPU", rows * 3 * 40)
    logits = smooth(3, 100, 80, 0)
    grid = tile_grid(100, 80, tile=48, overlap=16)
    found = blended(grid, lambda t: output(logits[:, *t.outer], t.hw), overlap=16)
    np.testing.assert_array_equal(label_map(found, 100, 80), logits.argmax(0) + 1)


WIDE = tile_grid(20, 64, tile=40, overlap=16)
"""Columns 0…40 and 24…64; they are mixed from 28 to 36."""


@pytest.mark.parametrize(("left", "right", "seam"), [(1, 1, 32), (3, 1, 34), (1, 3, 30)])
@pytest.mark.parametrize("across", [False, True])
def test_tiles_that_differ_are_mixed_linearly(left, right, seam, across):
    """One is for the first category by `left`, the other for the second by `right`."""
    grid = tile_grid(64, 20, tile=40, overlap=16) if across else WIDE

    def find(tile: Tile) -> DenseOutput:
        logits = torch.zeros(3, *tile.hw)
        first = tile.row + tile.column == 0
        logits[0 if first else 1] = left if first else right
        return output(logits, tile.hw)

    found = blended(grid, find, overlap=16)
    label = label_map(found, 64, 20).T if across else label_map(found, 20, 64)
    np.testing.assert_array_equal(label[:, :seam], 1)
    np.testing.assert_array_equal(label[:, seam:], 2)


def test_a_coarse_grid_is_read_by_its_frame():
    """Padded, scaled tiles: as `merge_semantic` reads them, where one tile decides alone."""
    from pipeline.models.postprocess.semantic import merge_semantic

    outputs = {}
    for tile in WIDE:
        height, width = tile.hw
        frame = Frame((height, width), (height * 2, width * 2), (64, 96), (0, 7))
        outputs[tile.column] = DenseOutput(smooth(3, 8, 12, tile.column), frame)
    found = blended(WIDE, lambda t: outputs[t.column], overlap=16)
    label = label_map(found, 20, 64)
    for tile, kept in zip(WIDE, (slice(0, 28), slice(36, 64)), strict=True):
        (expected,) = merge_semantic([outputs[tile.column]])
        start = tile.x.start
        alone = expected.labels[:, kept.start - start : kept.stop - start]
        np.testing.assert_array_equal(label[:, kept], alone.numpy())


def test_a_net_that_sees_no_further_than_a_quarter_of_the_overlap_has_no_seam():
    """Convolutions that reach 4 pixels, zeros around every tile: as of the whole picture."""
    picture = smooth(3, 90, 110, 3)
    kernel = torch.randn(3, 3, 9, 9, generator=torch.Generator().manual_seed(1))

    def net(part: Tensor) -> Tensor:
        return torch.nn.functional.conv2d(part[None], kernel, padding=4)[0]

    grid = tile_grid(90, 110, tile=48, overlap=16)
    found = blended(grid, lambda t: output(net(picture[:, *t.outer]), t.hw), overlap=16)
    np.testing.assert_array_equal(label_map(found, 90, 110), net(picture).argmax(0) + 1)


def test_categories_are_the_data_set_s_and_none_is_dropped():
    logits = torch.full((4, 20, 64), -5.0)
    for number, columns in enumerate(((0, 10), (10, 31), (31, 50), (50, 64))):
        logits[number, :, slice(*columns)] = 5
    found = blended(
        WIDE, lambda t: output(logits[:, *t.outer], t.hw), overlap=16, category_ids=(7, 0, 3, 7)
    )
    assert [(one.category_id, one.area, one.bbox_xywh) for one in found] == [
        (3, 19 * 20, (31, 0, 19, 20)),
        (7, 24 * 20, (0, 0, 64, 20)),
    ]


def test_agreement_is_the_mean_over_the_segment():
    logits = torch.zeros(3, 20, 64)
    logits[0, :, :20] = logits[1, :, 20:] = 9
    agreement = torch.ones(20, 64)
    agreement[:, 42:] = 0.5
    found = blended(
        WIDE,
        lambda t: output(logits[:, *t.outer], t.hw, agreement=agreement[t.outer]),
        overlap=16,
    )
    assert [one.tta_agreement for one in found] == [1.0, 0.75]


def test_probabilities_stay_probabilities():
    maps = torch.zeros(3, 20, 64)
    maps[0], maps[1] = 0.7, 0.3
    (found,) = blended(
        WIDE, lambda t: output(maps[:, *t.outer], t.hw, probabilities=True), overlap=16
    )
    assert (found.category_id, found.area, found.score) == (1, 20 * 64, 0.7)
