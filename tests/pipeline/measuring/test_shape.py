"""Every measure of shape against scikit-image's regionprops."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from mask_zoo import ZOO, any_mask, disc, runs_of
from PIL import Image
from skimage.measure import regionprops

from pipeline.masks import codec
from pipeline.masks.column_runs import mask_runs
from pipeline.measuring.shape import measure_shapes
from schemas.measurements import OBJECTS

REFERENCE = {
    "area": lambda region: region.area,
    "centroid_y": lambda region: region.centroid[0],
    "centroid_x": lambda region: region.centroid[1],
    "equivalent_diameter": lambda region: region.equivalent_diameter_area,
    "perimeter": lambda region: region.perimeter,
    "perimeter_crofton": lambda region: region.perimeter_crofton,
    "axis_major_length": lambda region: region.axis_major_length,
    "axis_minor_length": lambda region: region.axis_minor_length,
    "eccentricity": lambda region: region.eccentricity,
    "area_convex": lambda region: region.area_convex,
    "solidity": lambda region: region.solidity,
    "extent": lambda region: region.extent,
    "feret_diameter_max": lambda region: region.feret_diameter_max,
    "euler_number": lambda region: region.euler_number,
}
TOLERANCE = 1e-6


def check(ours, index, region):
    """One row against the reference, to 1e-6 of the value or of 1."""
    for name, reference in REFERENCE.items():
        expected, found = reference(region), ours[name][index]
        assert abs(found - expected) <= TOLERANCE * max(1, abs(expected)), (name, found, expected)
    top, left, bottom, right = region.bbox
    assert ours["bbox_xywh"][index].tolist() == [left, top, right - left, bottom - top]
    # A line's axis points both ways, and a round mask has none.
    major, minor = region.inertia_tensor_eigvals
    if major - minor > 1e-9 * max(major, 1):
        turn = abs(ours["orientation"][index] - region.orientation)
        assert min(turn, abs(turn - np.pi)) <= TOLERANCE
    if region.perimeter:
        roundness = 4 * np.pi * region.area / region.perimeter**2
        assert ours["circularity"][index] == pytest.approx(roundness, rel=TOLERANCE)
    else:
        assert np.isnan(ours["circularity"][index])


def region_of(mask):
    return regionprops(mask.astype(np.uint8))[0]


@pytest.mark.parametrize("name", ZOO)
def test_awkward_masks_equal_skimage(name):
    check(measure_shapes(runs_of([ZOO[name]])), 0, region_of(ZOO[name]))


def test_masks_do_not_disturb_one_another():
    stack = list(ZOO.values())
    ours = measure_shapes(runs_of(stack))
    for index, mask in enumerate(stack):
        check(ours, index, region_of(mask))


@settings(max_examples=120)
@given(st.lists(any_mask, min_size=1, max_size=4))
def test_random_masks_equal_skimage(stack):
    ours = measure_shapes(runs_of(stack))
    for index, mask in enumerate(stack):
        check(ours, index, region_of(mask))


def test_exactly_round_masks_have_skimages_orientation():
    for mask in (np.ones((5, 5), bool), np.ones((6, 6), bool), disc(31, 31, 15, 15, 12.5)):
        assert measure_shapes(runs_of([mask]))["orientation"][0] == region_of(mask).orientation


def test_a_large_ring_is_measured_without_painting_it():
    mask = disc(1500, 1500, 749.5, 749.5, 700) & ~disc(1500, 1500, 749.5, 749.5, 500)
    ours = measure_shapes(runs_of([mask]))
    assert ours["euler_number"][0] == 0
    assert ours["circularity"][0] < 0.5
    assert ours["feret_diameter_max"][0] == pytest.approx(1400, abs=2)
    assert ours["feret_diameter_min"][0] == pytest.approx(1400, abs=2)
    assert ours["solidity"][0] == pytest.approx(1 - (500 / 700) ** 2, abs=1e-3)


@pytest.mark.parametrize("shift", [(0, 0), (0, 9), (9, 0), (9, 9), (4, 5)])
def test_touching_the_border(shift):
    mask = np.zeros((12, 12), bool)
    mask[shift[0] : shift[0] + 3, shift[1] : shift[1] + 3] = True
    assert measure_shapes(runs_of([mask]))["touches_border"].tolist() == [shift != (4, 5)]


def test_every_column_has_its_place_in_the_schema():
    assert set(measure_shapes(runs_of([ZOO["ring"]]))) <= set(OBJECTS.names)


def test_real_nuclei_equal_skimage(shared_data):
    folder = shared_data / "nuclei-dsb2018"
    index = json.loads((folder / "index.json").read_text())["images"]
    chosen = [row for row in index if row["split"] == "val"][::6]
    checked = 0
    for row in chosen:
        label_map = np.array(Image.open(folder / row["label"])).astype(np.int32)
        regions = codec.regions(label_map)
        heights = np.full(len(regions), label_map.shape[0])
        widths = np.full(len(regions), label_map.shape[1])
        ours = measure_shapes(
            mask_runs(pa.array([item.counts.decode() for item in regions]), heights, widths)
        )
        for number, region in enumerate(regionprops(label_map)):
            check(ours, number, region)
            checked += 1
    assert checked > 100
