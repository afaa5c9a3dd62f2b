"""masks.py against pycocotools, byte for byte."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image
from pycocotools import mask as coco_mask

from pipeline.masks import codec

# pycocotools 2.0.11 decodes through an old numpy protocol.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

EMPTY_2X2 = b"4"


def peer(mask) -> dict:
    return coco_mask.encode(np.asfortranarray((np.asarray(mask) != 0).astype(np.uint8)))


def blobs(height: int, width: int, seed: int, share: float) -> np.ndarray:
    """Coarse random patches: runs of realistic length, some over column feet."""
    rng = np.random.default_rng(seed)
    coarse = rng.random((height // 5 + 1, width // 5 + 1)) < share
    return np.kron(coarse, np.ones((5, 5), bool))[:height, :width]


small_masks = hnp.arrays(np.bool_, hnp.array_shapes(min_dims=2, max_dims=2, max_side=20))
label_maps = hnp.arrays(
    np.int32,
    hnp.array_shapes(min_dims=2, max_dims=2, max_side=16),
    elements=st.sampled_from([0, 0, 1, 2, 3, 70_000, 2**31 - 1]),
)


@settings(max_examples=200, deadline=None)
@given(small_masks)
def test_encode_is_byte_equal_and_decode_inverts_it(mask):
    counts = codec.encode(mask)
    assert counts == peer(mask)["counts"]
    back = codec.decode(counts, *mask.shape)
    assert back.dtype == np.uint8
    assert back.flags.c_contiguous
    np.testing.assert_array_equal(back, mask)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(1, 130),
    st.integers(1, 130),
    st.integers(0, 2**31),
    st.sampled_from([0.0, 0.05, 0.5, 0.95, 1.0]),
)
def test_area_and_box_of_larger_masks(height, width, seed, share):
    mask = blobs(height, width, seed, share)
    code = peer(mask)
    counts = codec.encode(mask)
    assert counts == code["counts"]
    assert codec.area(counts, height, width) == mask.sum() == coco_mask.area(code)
    assert list(codec.bbox_xywh(counts, height, width)) == coco_mask.toBbox(code).tolist()


@pytest.mark.parametrize("shape", [(1, 1), (1, 7), (7, 1), (1, 64), (64, 1), (9, 8), (8, 9)])
@pytest.mark.parametrize("kind", ["empty", "full", "first", "last", "top right", "bottom left"])
def test_extreme_shapes_and_single_pixels(shape, kind):
    mask = np.zeros(shape, np.uint8)
    match kind:
        case "full":
            mask[:] = 1
        case "first":
            mask[0, 0] = 1
        case "last":
            mask[-1, -1] = 1
        case "top right":
            mask[0, -1] = 1
        case "bottom left":
            mask[-1, 0] = 1
    code = peer(mask)
    counts = codec.encode(mask)
    assert counts == code["counts"]
    np.testing.assert_array_equal(codec.decode(counts.decode(), *shape), mask)
    assert codec.area(counts, *shape) == mask.sum()
    assert list(codec.bbox_xywh(counts, *shape)) == coco_mask.toBbox(code).tolist()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.int8, np.uint16, np.int32, np.int64])
def test_every_nonzero_value_is_inside(dtype):
    mask = blobs(37, 53, 1, 0.4).astype(dtype)
    mask *= dtype(-1) if np.dtype(dtype).kind == "i" else dtype(1)
    assert codec.encode(mask) == peer(mask)["counts"]


def test_touching_values_are_one_mask():
    mask = np.zeros((20, 30), np.uint8)
    mask[2:12, 3:13] = 1
    mask[2:12, 13:23] = 2
    mask[12:18, 3:23] = 255
    assert codec.encode(mask) == peer(mask)["counts"]


@pytest.mark.parametrize(
    "view",
    [
        lambda m: np.asfortranarray(m),
        lambda m: m.T,
        lambda m: m[::2, 1::3],
        lambda m: m[::-1, ::-1],
        lambda m: np.asfortranarray(m).astype(np.int32, order="F"),
    ],
    ids=["fortran", "transposed", "strided", "reversed", "fortran int32"],
)
def test_memory_order_does_not_matter(view):
    mask = view(blobs(61, 83, 2, 0.3))
    assert codec.encode(mask) == peer(mask)["counts"]
    labels = view(blobs(61, 83, 3, 0.3).astype(np.int32) * 5)
    assert codec.regions(labels)[0].counts == peer(labels)["counts"]


@pytest.mark.parametrize("bad", [np.zeros((0, 5)), np.zeros(4), np.zeros((2, 2, 2))])
def test_encode_refuses_what_is_no_mask(bad):
    with pytest.raises(ValueError, match="HxW"):
        codec.encode(bad)


@settings(max_examples=150, deadline=None)
@given(label_maps)
def test_regions_equal_pycocotools_a_label(labels):
    found = codec.regions(labels)
    assert [region.label for region in found] == [v for v in np.unique(labels) if v]
    for region in found:
        code = peer(labels == region.label)
        assert region.counts == code["counts"]
        assert region.area == coco_mask.area(code)
        assert list(region.bbox_xywh) == coco_mask.toBbox(code).tolist()


@pytest.mark.parametrize("dtype", [np.bool_, np.uint8, np.uint16, np.int16, np.uint32, np.int64])
def test_regions_take_any_integer_type(dtype):
    labels = blobs(40, 30, 4, 0.3).astype(dtype)
    assert codec.regions(labels)[0].counts == peer(labels)["counts"]


def test_regions_of_nothing_and_bad_maps():
    assert codec.regions(np.zeros((5, 4), np.int32)) == []
    with pytest.raises(ValueError, match="negative"):
        codec.regions(np.full((3, 3), -1))
    with pytest.raises(ValueError, match="integers"):
        codec.regions(np.ones((3, 3), np.float32))


def test_regions_of_a_real_label_map(shared_data):
    path = sorted((shared_data / "nuclei-dsb2018" / "test" / "labels").glob("*.png"))[0]
    labels = np.array(Image.open(path)).astype(np.int32)
    found = codec.regions(labels)
    assert len(found) == len(np.unique(labels)) - 1 > 0
    for region in found:
        assert region.counts == peer(labels == region.label)["counts"]


def test_from_coco_reads_every_real_annotation(shared_data):
    data = json.loads((shared_data / "coco-photos" / "instances.json").read_text())
    sizes = {image["id"]: (image["height"], image["width"]) for image in data["images"]}
    crowds = 0
    for item in data["annotations"]:
        height, width = sizes[item["image_id"]]
        segmentation = item["segmentation"]
        crowds += isinstance(segmentation, dict)
        objects = coco_mask.frPyObjects(segmentation, height, width)
        code = coco_mask.merge(objects) if isinstance(objects, list) else objects
        counts = codec.from_coco(segmentation, height, width)
        np.testing.assert_array_equal(codec.decode(counts, height, width), coco_mask.decode(code))
        assert counts == peer(coco_mask.decode(code))["counts"]
    assert crowds == 4


def test_from_coco_takes_all_forms_of_a_mask():
    mask = blobs(25, 31, 5, 0.4)
    code = peer(mask)
    size = [25, 31]
    flat = mask.T.reshape(-1)
    edges = np.flatnonzero(np.diff(flat)) + 1
    lengths = np.diff(np.concatenate(([0], edges, [flat.size]))).tolist()
    lengths = [0, *lengths] if flat[0] else lengths
    for counts in (code["counts"], code["counts"].decode(), lengths):
        assert codec.from_coco({"size": size, "counts": counts}, 25, 31) == code["counts"]


def test_from_coco_takes_all_forms_of_a_polygon():
    corners = [[1, 1], [9, 1], [9, 7]]
    flat = [value for corner in corners for value in corner]
    due = codec.from_coco([flat], 10, 12)
    assert codec.decode(due, 10, 12).sum() > 10
    for form in (flat, corners, [corners]):
        assert codec.from_coco(form, 10, 12) == due
    assert codec.from_coco([corners, corners], 10, 12) == due


def test_from_coco_joins_empty_runs():
    # zeros 1, ones 1, zeros 0, ones 1, zeros 1, ones 0: two touching pixels
    code = {"size": [2, 2], "counts": [1, 1, 0, 1, 1, 0]}
    assert codec.from_coco(code, 2, 2) == codec.encode([[0, 1], [1, 0]])
    assert codec.from_coco({"size": [2, 2], "counts": [4, 0]}, 2, 2) == EMPTY_2X2


@pytest.mark.parametrize(
    "bad",
    [
        [],
        [[1, 2, 3, 4]],
        [[1, 2, 3, 4, 5, 6, 7]],
        [[1, 2], [3, 4]],
        [[[1, 2, 3], [4, 5, 6]]],
        [[0, 0, 5, 5, float("nan"), 3]],
        [[0, 0, 1e9, 0, 5, 5]],
        [["a", "b", "c", "d", "e", "f"]],
        "PYk0",
        None,
        {"counts": [4]},
        {"size": [2, 3], "counts": [4]},
        {"size": [2, 2]},
        {"size": [2, 2], "counts": []},
        {"size": [2, 2], "counts": [3]},
        {"size": [2, 2], "counts": [5, -1]},
        {"size": [2, 2], "counts": ["x"]},
        {"size": [2, 2], "counts": "not rle"},
    ],
    ids=str,
)
def test_from_coco_explains_in_one_line(bad):
    with pytest.raises(ValueError, match=r"^[^\n]+$"):
        codec.from_coco(bad, 2, 2)


@pytest.mark.parametrize("bad", ["", "5", "3", "P", "~", "é", "0" * 3 + "5", "o" * 40 + "0"])
def test_decode_refuses_malformed_strings(bad):
    with pytest.raises(ValueError, match="malformed RLE"):
        codec.decode(bad, 2, 2)


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=30))
def test_no_bytes_crash_the_decoder(data):
    try:
        mask = codec.decode(data, 6, 5)
    except ValueError:
        return
    assert mask.shape == (6, 5)
    assert codec.area(data, 6, 5) == mask.sum()
    assert list(codec.bbox_xywh(data, 6, 5)) == coco_mask.toBbox(peer(mask)).tolist()


def test_iou_and_the_crowd_rule():
    left, right = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    left[:, :4] = True
    right[:, 2:8] = True
    a, b = [codec.encode(left)], [codec.encode(right), codec.encode(left)]
    np.testing.assert_allclose(codec.iou(a, b, 10, 10), [[20 / 80, 1.0]])
    np.testing.assert_allclose(codec.iou(a, b, 10, 10, iscrowd=[1, 0]), [[20 / 40, 1.0]])
    assert codec.iou([], b, 10, 10).shape == (0, 2)
