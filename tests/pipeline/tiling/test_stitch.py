"""A picture's objects come out of its tiles as they are in the picture."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import cv2
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy import ndimage

from pipeline.masks.codec import decode, encode, regions
from pipeline.tiling.grid import Tile, TileGrid, tile_grid
from pipeline.tiling.stitch import Stitcher
from schemas.categories import Categories, Category
from schemas.records import Evidence, Segment, Task

THING, OTHER, STUFF, GROUND = 1, 2, 3, 4
TABLE = Categories(
    (
        Category(THING, "cell", True, "#ff0000"),
        Category(OTHER, "dust", True, "#00ff00"),
        Category(STUFF, "membrane", False, "#0000ff"),
        Category(GROUND, "ground", False, "#000000", is_background=True),
    )
)
WITHOUT_GROUND = Categories(TABLE.items[:3])


def segment(mask: np.ndarray, category: int, score: float | None = None) -> Segment:
    (region,) = regions((mask > 0).astype(np.uint8))
    return Segment(category, region.counts, region.area, region.bbox_xywh, score)


def components(mask: np.ndarray, category: int, score: float | None = None) -> list[Segment]:
    """Every 4-connected part, as a tile shows it: a U without its bend is two."""
    _, parts = cv2.connectedComponents(mask.astype(np.uint8), connectivity=4)
    return [segment(parts == n, category, score) for n in range(1, parts.max() + 1)]


def stitched(
    grid: TileGrid,
    find: Sequence[Sequence[Segment]],
    task: Task = "instance",
    table: Categories = TABLE,
    **options: float,
) -> list[Segment]:
    stitcher = Stitcher(grid, table, task, **{"min_iou": 0.5, **options})
    for tile, segments in zip(grid, find, strict=True):
        stitcher.add(tile, segments)
    return stitcher.finish()


def answer(found: Sequence[Segment]) -> set[tuple[int, bytes]]:
    return {(one.category_id, one.counts) for one in found}


def blobs(height: int, width: int, seed: int) -> np.ndarray:
    """Smooth random shapes with holes, bays and bridges,."""
    rng = np.random.default_rng(seed)
    noise = ndimage.gaussian_filter(rng.normal(size=(height, width)), rng.uniform(0.6, 3))
    return noise > np.quantile(noise, rng.uniform(0.2, 0.95))


def scene(height: int, width: int, seed: int) -> np.ndarray:
    """A label map whose neighbours touch: 0 = nothing, 1…n = objects, some in several parts."""
    rng = np.random.default_rng(seed)
    count = int(rng.integers(1, 9))
    points = rng.uniform((0, 0), (height, width), (count, 2))
    y, x = np.mgrid[:height, :width] + 0.5
    distance = np.hypot(*(points.T[:, :, None, None] - np.stack((y, x))[:, None]))
    label_map = 1 + distance.argmin(0)
    label_map[distance.min(0) > rng.uniform(4, 44)] = 0
    label_map[rng.random((height, width)) < rng.choice([0, 0.05])] = 0
    return label_map


def disc(hw: tuple[int, int], centre_xy: tuple[int, int], radius: int) -> np.ndarray:
    out = np.zeros(hw, np.uint8)
    cv2.circle(out, centre_xy, radius, 1, -1)
    return out


GRID = tile_grid(64, 64, tile=40, overlap=16)
"""Two by two: columns and rows 0…40 and 24…64, cut at 32."""


@settings(max_examples=60)
@given(st.integers(1, 44), st.integers(1, 44), st.integers(4, 24), st.data())
def test_connected_parts_come_out_whole(height, width, tile, data):
    """Whatever they cross, and though a tile shows a U without its bend as two."""
    overlap = data.draw(st.integers(1, tile // 2))
    mask = blobs(height, width, data.draw(st.integers(0, 2**32)))
    grid = tile_grid(height, width, tile=tile, overlap=overlap)
    found = stitched(grid, [components(mask[one.outer], THING) for one in grid])
    assert answer(found) == answer(components(mask, THING))
    for one in found:
        (region,) = regions(decode(one.counts, height, width))
        assert (one.area, one.bbox_xywh) == (region.area, region.bbox_xywh)


@settings(max_examples=40)
@given(st.integers(1, 32), st.integers(1, 32), st.integers(4, 20), st.data())
def test_touching_objects_and_stuff_stay_apart(height, width, tile, data):
    """Panoptic: a perfect model's label map, tile by tile, gives the whole one."""
    overlap = data.draw(st.integers(1, tile // 2))
    label_map = scene(height, width, data.draw(st.integers(0, 2**32)))
    grid = tile_grid(height, width, tile=tile, overlap=overlap)
    category = np.array([GROUND, THING, OTHER, STUFF, THING, THING, STUFF, OTHER, OTHER])

    def found_in(part: np.ndarray) -> list[Segment]:
        kinds = category[part]
        things = [n for n in np.unique(part) if category[n] in (THING, OTHER)]
        found = [one for n in things for one in components(part == n, int(category[n]))]
        return found + [segment(kinds == k, k) for k in (STUFF, GROUND) if (kinds == k).any()]

    found = stitched(grid, [found_in(label_map[one.outer]) for one in grid], "panoptic")
    assert answer(found) == answer(found_in(label_map))
    assert [one.category_id for one in found if one.category_id > OTHER] == sorted(
        set(category[label_map].ravel()) & {STUFF, GROUND}
    )
    cover = sum(decode(one.counts, height, width).astype(int) for one in found)
    assert (cover == 1).all()
    semantic = [
        [segment(category[part] == k, int(k)) for k in np.unique(category[part])]
        for part in (label_map[one.outer] for one in grid)
    ]
    kinds = category[label_map]
    expected = [segment(kinds == k, int(k)) for k in np.unique(kinds)]
    assert answer(stitched(grid, semantic, "semantic")) == answer(expected)
    bare = [[one for one in part if one.category_id != GROUND] for part in semantic]
    found = stitched(grid, bare, "semantic", WITHOUT_GROUND)
    assert answer(found) == answer([one for one in expected if one.category_id != GROUND])


@pytest.mark.parametrize("task", ["instance", "panoptic", "semantic"])
@pytest.mark.parametrize(("centre", "radius"), [((32, 32), 14), ((32, 32), 3), ((32, 32), 30)])
def test_a_disc_across_four_tiles_is_one(task, centre, radius):
    mask = disc((64, 64), centre, radius)
    found = stitched(GRID, [components(mask[one.outer], THING) for one in GRID], task)
    assert (THING, encode(mask)) in answer(found)
    assert len(found) == (1 if task == "instance" else 2)
    if task != "instance":
        assert found[-1].counts == encode(1 - mask)


@pytest.mark.parametrize("ends", [((0, 0), (63, 63)), ((63, 2), (1, 60)), ((5, 31), (60, 33))])
@pytest.mark.parametrize("overlap", [1, 8, 16])
def test_a_thin_line_is_one(ends, overlap):
    mask = np.zeros((64, 64), np.uint8)
    cv2.line(mask, *ends, 1, 1)
    grid = tile_grid(64, 64, tile=32, overlap=overlap)
    parts = [[segment(mask[t.outer], THING)] if mask[t.outer].any() else [] for t in grid]
    assert answer(stitched(grid, parts)) == {(THING, encode(mask))}


@pytest.mark.parametrize("task", ["instance", "panoptic"])
@pytest.mark.parametrize("seam", [24, 28, 32, 36, 40])
def test_two_that_touch_at_a_seam_stay_two(task, seam):
    left, right = np.zeros((2, 64, 64), np.uint8)
    left[10:50, 5:seam] = 1
    right[10:50, seam:60] = 1
    parts = [
        [one for mask in (left, right) for one in components(mask[t.outer], THING)] for t in GRID
    ]
    found = stitched(GRID, parts, task, WITHOUT_GROUND)
    assert answer(found) == {(THING, encode(left)), (THING, encode(right))}


@pytest.mark.parametrize("columns", [(24, 40), (30, 34), (31, 32), (24, 25), (39, 40), (40, 50)])
def test_an_object_on_a_seam_is_one(columns):
    mask = np.zeros((64, 64), np.uint8)
    mask[20:45, slice(*columns)] = 1
    found = stitched(GRID, [components(mask[t.outer], THING) for t in GRID])
    assert answer(found) == {(THING, encode(mask))}


def test_without_overlap_stuff_is_one_and_objects_end_at_the_seam():
    mask = disc((64, 64), (32, 32), 20)
    grid = tile_grid(64, 64, tile=32, overlap=0)
    parts = [components(mask[t.outer], THING) for t in grid]
    assert len(stitched(grid, parts)) == 4
    assert answer(stitched(grid, parts, "semantic", WITHOUT_GROUND)) == {(THING, encode(mask))}


WIDE = tile_grid(20, 64, tile=40, overlap=16)
"""One by two: columns 0…40 and 24…64, cut at 32."""
LEFT, RIGHT = WIDE


def bar(left: int, right: int, top: int = 5, bottom: int = 15) -> np.ndarray:
    out = np.zeros((20, 64), np.uint8)
    out[top:bottom, left:right] = 1
    return out


def pieces(*shown: tuple[np.ndarray, ...], category: int = THING) -> list[list[Segment]]:
    """What each tile of WIDE shows: masks of the picture, cropped."""
    return [
        [segment(mask[t.outer], category) for mask in masks]
        for t, masks in zip(WIDE, shown, strict=True)
    ]


def test_an_uncertain_edge_does_not_tear_an_object():
    """IoU in the window, columns 24…40: 15/18 rows of 16 columns."""
    find = pieces((bar(5, 40, 1, 16),), (bar(24, 60, 4, 19),))
    assert len(stitched(WIDE, find, min_iou=12 / 18)) == 1
    assert len(stitched(WIDE, find, min_iou=12 / 18 + 0.01)) == 2
    union = bar(5, 40, 1, 16) | bar(24, 60, 4, 19)
    assert answer(stitched(WIDE, find)) == {(THING, encode(union))}
    # Panoptic: each tile's pixels on its own side of column 32.
    inner = bar(5, 32, 1, 16) | bar(32, 60, 4, 19)
    assert answer(stitched(WIDE, find, "panoptic", WITHOUT_GROUND)) == {(THING, encode(inner))}


def test_another_category_is_another_object():
    left, right = bar(5, 40), bar(24, 60)
    find = [pieces((left,), ())[0], pieces((), (right,), category=OTHER)[1]]
    assert answer(stitched(WIDE, find)) == {(THING, encode(left)), (OTHER, encode(right))}


def test_the_best_partner_is_taken():
    left = bar(5, 40)
    good, poor = bar(24, 60, 6, 15), bar(24, 60, 5, 11)
    found = stitched(WIDE, pieces((left,), (poor, good)))
    assert answer(found) == {(THING, encode(left | good)), (THING, encode(poor))}


def test_a_cut_piece_that_the_next_tile_does_not_confirm_is_dropped():
    """The second tile sees on where the first ends, and found nothing, or something else."""
    cut = bar(30, 40)
    assert stitched(WIDE, pieces((cut,), ())) == []
    whole = bar(22, 60, 1, 19)
    assert answer(stitched(WIDE, pieces((cut,), (whole,)))) == {(THING, encode(bar(24, 60, 1, 19)))}
    # What reaches beyond the window is more than a fragment.
    assert answer(stitched(WIDE, pieces((bar(20, 40),), ()))) == {(THING, encode(bar(20, 40)))}


def test_two_fragments_of_nothing_do_not_save_each_other():
    """Unlike pieces at the right edges of two tiles, where the tiles beyond see nothing."""
    upper, lower = np.zeros((2, 64, 64), np.uint8)
    upper[30:40, 35:40] = lower[24:36, 37:40] = 1
    shown = {(0, 0): upper, (1, 0): lower}
    find = []
    for tile in GRID:
        mask = shown.get((tile.row, tile.column), np.zeros((64, 64)))[tile.outer]
        find.append([segment(mask, THING, 0.9)] if mask.any() else [])
    assert [len(found) for found in find] == [1, 1, 0, 0]
    assert stitched(GRID, find) == []


def test_of_what_both_tiles_see_whole_the_nearer_one_decides():
    assert answer(stitched(WIDE, pieces((bar(26, 31),), ()))) == {(THING, encode(bar(26, 31)))}
    assert stitched(WIDE, pieces((bar(33, 38),), ())) == []
    assert stitched(WIDE, pieces((), (bar(26, 31),))) == []
    panoptic = stitched(WIDE, pieces((bar(33, 38),), ()), "panoptic")
    assert answer(panoptic) == {(GROUND, encode(np.ones((20, 64))))}


def test_an_object_that_each_tile_leaves_to_the_other_is_not_lost():
    """Two unlike finds of one thing, each with its middle on the other tile's side."""
    one, other = bar(28, 38, 5, 15), bar(26, 36, 8, 19)
    left = segment(one[LEFT.outer], THING, 0.6)
    right = segment(other[RIGHT.outer], THING, 0.7)
    assert answer(stitched(WIDE, [[left], [right]])) == {(THING, encode(other))}
    assert answer(stitched(WIDE, [[replace(left, score=None)], [right]])) == {(THING, encode(one))}


def test_a_common_speck_joins_nothing_large():
    speck = bar(31, 33, 0, 2)
    left, right = bar(5, 36, 4, 9) | speck, bar(26, 60, 10, 15) | speck
    assert len(stitched(WIDE, pieces((left,), (right,)))) == 2


def test_a_comb_is_one_through_its_teeth():
    """One tile shows the teeth apart, the next their back; none is half of the whole."""
    teeth = sum(bar(10, 62, row, row + 2) for row in (1, 5, 9, 13, 17))
    comb = teeth | bar(58, 62, 1, 19)
    found = stitched(WIDE, [components(comb[t.outer], THING) for t in WIDE])
    assert answer(found) == {(THING, encode(comb))}


def test_scores_are_means_by_pixels_and_the_rest_is_the_largest_piece_s():
    left, right = bar(10, 40), bar(24, 64)  # 300 and 400 pixels
    evidence = Evidence(0.9, 0.8, (3.0, 4.0), (0, 1, 9, 9), (1.0, 2.0, 5.0, 6.0), 7)
    (a,), (b,) = pieces((left,), (right,))
    find = [
        [replace(a, score=0.5, tta_agreement=1.0, prompt="small")],
        [replace(b, score=0.85, prompt="large", evidence=evidence)],
    ]
    (found,) = stitched(WIDE, find)
    assert found.score == round((300 * 0.5 + 400 * 0.85) / 700, 4)
    assert found.tta_agreement == 1.0
    assert found.prompt == "large"
    assert found.evidence == Evidence(
        0.9, 0.8, (27.0, 4.0), (24, 1, 9, 9), (25.0, 2.0, 5.0, 6.0), 7
    )
    (found,) = stitched(WIDE, [[replace(a, score=None)], find[1]])
    assert found.score == 0.85
    (found,) = stitched(WIDE, [[a], [b]])
    assert found.score is None


@pytest.mark.parametrize("task", ["instance", "panoptic"])
def test_who_sees_an_object_whole_says_how_sure_it_is(task):
    left, right = pieces((bar(30, 50),), (bar(30, 50),))
    find = [[replace(left[0], score=0.3)], [replace(right[0], score=0.9)]]
    assert stitched(WIDE, find, task)[0].score == 0.9
    find = [find[0], [replace(right[0], score=None)]]
    assert stitched(WIDE, find, task)[0].score == 0.3


def test_small_and_unsure_objects_go_once_they_are_whole():
    """200 pixels in each tile, 360 together; the ground takes what goes."""
    large, small = bar(20, 44, 0, 18), bar(5, 12, 15, 20)
    find = [
        [segment(m[t.outer], THING, s) for m, s in ((large, 0.6), (small, 0.4)) if m[t.outer].any()]
        for t in WIDE
    ]
    found = stitched(WIDE, find, "panoptic", min_area=36)
    assert answer(found) == {(THING, encode(large)), (GROUND, encode(1 - large))}
    assert len(stitched(WIDE, find, "panoptic", min_area=35)) == 3
    assert answer(stitched(WIDE, find, min_area=24 * 18)) == {(THING, encode(large))}
    assert stitched(WIDE, find, min_area=24 * 18 + 1) == []
    assert answer(stitched(WIDE, find, min_score=0.5)) == {(THING, encode(large))}
    assert len(stitched(WIDE, find, min_score=0.4)) == 2


def test_segments_are_in_order_objects_stuff_ground():
    def shown(tile: Tile) -> list[Segment]:
        masks = [
            (STUFF, bar(0, 64, 0, 2)),
            (GROUND, bar(0, 64, 19, 20)),
            (OTHER, bar(50, 60)),
            (THING, bar(2, 20)),
        ]
        return [segment(m[tile.outer], k) for k, m in masks if m[tile.outer].any()]

    found = stitched(WIDE, [shown(t) for t in WIDE], "panoptic")
    assert [one.category_id for one in found] == [THING, OTHER, STUFF, GROUND]


def test_the_ground_keeps_its_score_and_gains_what_nobody_has():
    ground = [replace(segment(np.ones((20, 40)), GROUND), score=s) for s in (0.5, 0.7)]
    (found,) = stitched(WIDE, [[ground[0]], [ground[1]]], "panoptic")
    assert (found.area, found.score) == (20 * 64, 0.6)
    (found,) = stitched(WIDE, [[], [ground[1]]], "semantic")
    assert (found.area, found.score) == (20 * 64, 0.7)
    (found,) = stitched(WIDE, [[], []], "semantic")
    assert (found.area, found.score, found.category_id) == (20 * 64, None, GROUND)


def test_nothing_found_is_nothing():
    assert stitched(WIDE, [[], []]) == []
    assert stitched(WIDE, [[], []], "panoptic", WITHOUT_GROUND) == []


def test_a_string_of_another_size_is_refused():
    with pytest.raises(ValueError, match="malformed RLE"):
        stitched(WIDE, [[], [segment(np.ones((3, 3)), THING)]])
