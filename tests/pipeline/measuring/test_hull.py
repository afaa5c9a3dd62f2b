import numpy as np
import pytest
from hypothesis import given, settings
from mask_zoo import ZOO, any_mask, band, disc, runs_of
from scipy.spatial import ConvexHull
from skimage.measure import regionprops

import pipeline.measuring.hull as hull_module
from pipeline.measuring.hull import measure_hulls


def narrowest(mask):
    """Least width over all edges of the hull of skimage's convex pixels, in plain Python."""
    region = regionprops(mask.astype(np.uint8))[0]
    rows, columns = np.nonzero(region.image_convex)
    offsets = ((0.5, 0), (-0.5, 0), (0, 0.5), (0, -0.5))
    points = np.array(
        [(y + a, x + b) for y, x in zip(rows, columns, strict=True) for a, b in offsets]
    )
    corners = points[ConvexHull(points).vertices]
    widths = []
    for here, there in zip(corners, np.roll(corners, -1, axis=0), strict=True):
        (dy, dx), away = there - here, corners - here
        widths.append(np.abs(dy * away[:, 1] - dx * away[:, 0]).max() / np.hypot(dy, dx))
    return min(widths)


@pytest.mark.parametrize("name", ZOO)
def test_feret_diameter_min(name):
    ours = measure_hulls(runs_of([ZOO[name]])).feret_diameter_min[0]
    assert ours == pytest.approx(narrowest(ZOO[name]), abs=1e-9)


@settings(max_examples=60)
@given(any_mask)
def test_feret_diameter_min_of_random_masks(mask):
    found = measure_hulls(runs_of([mask]))
    assert found.feret_diameter_min[0] == pytest.approx(narrowest(mask), abs=1e-9)
    assert found.feret_diameter_min[0] <= found.feret_diameter_max[0] + 1e-9


def stubborn():
    """An arc with a high spike at its end: each pass takes one more point off the arc."""
    mask = disc(60, 140, 59, 60, 55)
    mask[:, 135] = True
    return mask


@pytest.mark.parametrize("passes", [0, 1, 3, 100])
def test_hulls_do_not_depend_on_when_the_slow_way_takes_over(monkeypatch, passes):
    stack = [*ZOO.values(), stubborn(), band(80, 80, 0.7, 9)]
    expected = measure_hulls(runs_of(stack))
    monkeypatch.setattr(hull_module, "_PASSES", passes)
    found = measure_hulls(runs_of(stack))
    for name in ("area_convex", "feret_diameter_max", "feret_diameter_min"):
        assert getattr(found, name).tolist() == getattr(expected, name).tolist()
    for index, mask in enumerate(stack):
        assert found.area_convex[index] == regionprops(mask.astype(np.uint8))[0].area_convex


def test_pairs_are_looked_at_in_pieces(monkeypatch):
    stack = [disc(90, 90, 44, 45, 40), ZOO["parts"], ZOO["one pixel"]]
    expected = measure_hulls(runs_of(stack))
    monkeypatch.setattr(hull_module, "_PAIRS", 7)
    found = measure_hulls(runs_of(stack))
    assert found.feret_diameter_max.tolist() == expected.feret_diameter_max.tolist()
    assert found.feret_diameter_min.tolist() == expected.feret_diameter_min.tolist()
