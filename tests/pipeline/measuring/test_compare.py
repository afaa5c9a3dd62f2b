from dataclasses import replace

import pyarrow.parquet as pq
import pytest
from picture_datasets import empty_scene, picture_dataset, scene

from pipeline.measuring.compare import compare
from schemas.measurements import CHANGES


def moved(number):
    """A scene whose first cell is gone and whose debris has grown."""
    pixels, labels = scene(number)
    labels[labels == 1] = 9
    labels[40:53, 0:21] = 3
    return pixels, labels


@pytest.fixture
def sides(tmp_path):
    a = {"a.png": scene(1), "b.png": scene(2), "c.png": scene(3), "d.png": scene(4)}
    b = {"b.png": moved(2), "c.png": scene(3), "d.png": (scene(4)[0][:50], scene(4)[1][:50])}
    picture_dataset(tmp_path / "a", a, broken=("x.jpg",))
    picture_dataset(tmp_path / "b", {**b, "x.jpg": scene(5), "z.png": empty_scene()}, broken=())
    return str(tmp_path / "a" / "dataset"), str(tmp_path / "b" / "dataset")


def test_objects_of_common_images_are_compared(sides, tmp_path):
    output = tmp_path / "deep" / "changes.parquet"
    told = []
    found = compare(*sides, output=str(output), progress=lambda *numbers: told.append(numbers))
    assert found["images"] == {
        "compared": 2,
        "only_in_a": 1,
        "only_in_b": 1,
        "failed": 1,
        "size_differs": 1,
    }
    assert found["names"] == {
        "only_in_a": ["a.png"],
        "only_in_b": ["z.png"],
        "failed": ["x.jpg"],
        "size_differs": ["d.png"],
    }
    overall = found["overall"]
    numbers = {key: overall[key] for key in ("matched", "grown", "shrunk", "appeared", "vanished")}
    assert numbers == {"matched": 4, "grown": 1, "shrunk": 0, "appeared": 0, "vanished": 1}
    assert (overall["in_a"], overall["in_b"]) == (6, 5)
    assert 0.5 < overall["mean_iou"] < 1
    cells, debris = found["categories"]
    assert (cells["category"], cells["matched"], cells["vanished"]) == ("cell", 3, 1)
    assert (debris["category"], debris["grown"]) == ("debris", 1)
    table = pq.ParquetFile(output).read()
    assert table.schema == CHANGES
    rows = table.to_pylist()
    assert [row["change"] for row in rows] == ["vanished", "matched", "grown", *["matched"] * 3]
    assert {row["category_a"] for row in rows} == {"cell", "debris"}  # background is no object
    assert told == [(1, 5), (2, 5)]


def test_versions_of_one_dataset(tmp_path):
    ledger = picture_dataset(tmp_path, {"a.png": scene(1)}, broken=())
    later = replace(ledger.manifest, version=2, input="elsewhere")
    (tmp_path / "dataset" / "manifest.json").write_text(later.to_json())
    first = str(tmp_path / "dataset" / "versions" / "000001.json")
    found = compare(first, ledger.uri)
    assert (found["a"]["version"], found["b"]["version"]) == (1, 2)
    assert found["overall"]["matched"] == 3
    assert found["overall"]["mean_iou"] == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"min_iou": 0}, "above 0"),
        ({"min_iou": 1.5}, "above 0"),
        ({"tolerance": -0.1}, "0 or more"),
        ({"tolerance": float("nan")}, "0 or more"),
        ({"output": "x.csv"}, r"\.parquet"),
    ],
)
def test_bad_arguments(sides, options, message):
    with pytest.raises(ValueError, match=message):
        compare(*sides, **options)


def test_sides_without_anything_in_common(sides, tmp_path):
    picture_dataset(tmp_path / "other", {"other.png": scene(1)}, broken=())
    with pytest.raises(ValueError, match="no image of"):
        compare(sides[0], str(tmp_path / "other" / "dataset"))
    picture_dataset(tmp_path / "things", {"a.png": scene(1)}, task="instance")
    with pytest.raises(ValueError, match=r"panoptic segments, .* instance"):
        compare(sides[0], str(tmp_path / "things" / "dataset"))
