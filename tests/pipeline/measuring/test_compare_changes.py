import numpy as np
import pytest

from pipeline.masks import codec
from pipeline.measuring.compare import SideImage, find_changes


def side(*boxes, size=(30, 40), looked_at=True):
    """An image with rectangles (y, x, height, width, category)."""
    rows = []
    for number, (y, x, h, w, category) in enumerate(boxes, 1):
        mask = np.zeros(size, bool)
        mask[y : y + h, x : x + w] = True
        rows.append(
            {
                "annotation_id": number,
                "task": "instance",
                "category": category,
                "area": int(mask.sum()),
                "rle": {"size": list(size), "counts": codec.encode(mask).decode()},
            }
        )
    return SideImage("a.png", looked_at, size, tuple(rows))


def changes(a, b, **options):
    options = {"min_iou": 0.3, "tolerance": 0.1, **options}
    rows = find_changes(a, b, "instance", **options)
    return [(row["annotation_id_a"], row["annotation_id_b"], row["change"]) for row in rows]


def test_every_kind_of_change():
    a = side(
        (0, 0, 10, 10, "cell"),
        (0, 20, 10, 10, "cell"),
        (15, 0, 10, 10, "cell"),
        (15, 20, 5, 5, "cell"),
    )
    b = side(
        (0, 20, 10, 5, "cell"),
        (1, 0, 10, 10, "cell"),
        (15, 0, 13, 13, "debris"),
        (25, 30, 5, 5, "cell"),
    )
    assert changes(a, b) == [
        (1, 2, "matched"),
        (2, 1, "shrunk"),
        (3, 3, "grown"),
        (4, None, "vanished"),
        (None, 4, "appeared"),
    ]
    rows = find_changes(a, b, "instance", min_iou=0.3, tolerance=0.1)
    assert rows[0]["iou"] == pytest.approx(90 / 110)
    assert (rows[0]["area_change"], rows[0]["category_changed"]) == (0, False)
    assert (rows[1]["area_a"], rows[1]["area_b"], rows[1]["area_change"]) == (100, 50, -50)
    assert rows[1]["area_ratio"] == 0.5
    assert (rows[2]["category_a"], rows[2]["category_b"]) == ("cell", "debris")
    assert rows[2]["category_changed"] is True
    assert "iou" not in rows[3]


def test_the_tolerance_is_inclusive():
    a, b = side((0, 0, 10, 10, "cell")), side((0, 0, 10, 11, "cell"))
    assert changes(a, b, tolerance=0.1) == [(1, 1, "matched")]
    assert changes(a, b, tolerance=0.09) == [(1, 1, "grown")]
    assert changes(b, a, tolerance=0.09) == [(1, 1, "shrunk")]


def test_too_little_overlap_is_another_object():
    a, b = side((0, 0, 10, 10, "cell")), side((0, 5, 10, 10, "cell"))
    assert changes(a, b, min_iou=1 / 3) == [(1, 1, "matched")]
    assert changes(a, b, min_iou=0.34) == [(1, None, "vanished"), (None, 1, "appeared")]


def test_one_object_is_matched_once():
    a = side((0, 0, 10, 20, "cell"))
    b = side((0, 0, 10, 10, "cell"), (0, 10, 10, 10, "cell"))
    assert changes(a, b) == [(1, 1, "shrunk"), (None, 2, "appeared")]


def test_nothing_on_either_side():
    assert changes(side(), side()) == []
    assert changes(side((0, 0, 2, 2, "cell")), side()) == [(1, None, "vanished")]
    assert changes(side(), side((0, 0, 2, 2, "cell"))) == [(None, 1, "appeared")]


def test_a_damaged_mask_is_named():
    bad = side((0, 0, 2, 2, "cell"))
    bad.segments[0]["rle"]["counts"] = "~"
    with pytest.raises(ValueError, match=r"a\.png: segment 1 has a malformed RLE"):
        changes(bad, side())
