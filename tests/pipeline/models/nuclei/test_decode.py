import numpy as np
import pytest

from pipeline.models.nuclei.decode import Decoding, decode_nuclei
from pipeline.tiling.grid import TileEdge


def disc_maps(centers, radius, shape=(80, 120)):
    """Maps as a perfect net would draw them."""
    y, x = np.mgrid[: shape[0], : shape[1]]
    depth = np.max([1 - np.hypot(y - cy, x - cx) / radius for cy, cx in centers], 0)
    interior = (depth > 0).astype(np.float32)
    distance = np.clip(depth, 0, 1)
    return np.stack([interior, np.zeros(shape), distance]).astype(np.float32)


def test_touching_discs_come_apart_at_the_line_between_them():
    label_map, scores = decode_nuclei(disc_maps([(40, 40), (40, 62)], 14), Decoding())
    assert label_map.max() == 2
    assert list(scores) == [1.0, 1.0]
    assert (label_map[:, :50][label_map[:, :50] > 0] == label_map[40, 40]).all()
    assert (label_map[:, 53:][label_map[:, 53:] > 0] == label_map[40, 62]).all()


def test_numbers_are_consecutive_and_cover_the_interior():
    maps = disc_maps([(15, 20), (60, 30), (40, 90)], 10)
    label_map, scores = decode_nuclei(maps, Decoding())
    assert sorted(np.unique(label_map)) == [0, 1, 2, 3]
    assert len(scores) == 3
    np.testing.assert_array_equal(label_map > 0, maps[0] > 0.5)


def test_a_blob_without_a_seed_is_one_nucleus():
    maps = disc_maps([(40, 40)], 12)
    maps[2] *= 0.2
    label_map, _ = decode_nuclei(maps, Decoding())
    assert label_map.max() == 1


def test_nothing_in_nothing_out():
    label_map, scores = decode_nuclei(np.zeros((3, 30, 1), np.float32), Decoding())
    assert not label_map.any()
    assert len(scores) == 0


@pytest.mark.parametrize("change", [{"min_area": 500}, {"min_score": 0.95}, {"interior": 0.95}])
def test_each_threshold_drops(change):
    maps = disc_maps([(40, 40)], 10)
    maps[0] *= 0.9
    assert decode_nuclei(maps, Decoding())[0].max() == 1
    assert decode_nuclei(maps, Decoding(**change))[0].max() == 0


def test_the_score_is_the_mean_probability():
    maps = disc_maps([(40, 40)], 10)
    maps[0] *= 0.87654
    _, scores = decode_nuclei(maps, Decoding())
    assert scores[0] == 0.8765


def test_of_a_picture_without_a_sure_nucleus_none_is_one():
    maps = disc_maps([(40, 25), (40, 70)], 10)
    maps[0, :, :50] *= 0.85
    asked = Decoding(min_best=0.9)
    label_map, scores = decode_nuclei(maps, asked)
    assert (label_map.max(), list(scores)) == (2, [0.85, 1.0])  # beside a sure one, both are
    maps[0, :, 50:] *= 0.89
    label_map, scores = decode_nuclei(maps, asked)
    assert not label_map.any()
    assert len(scores) == 0
    tile = TileEdge(right=True)  # the sure ones may be in the next one
    assert decode_nuclei(maps, asked, edge=tile)[0].max() == 2
