"""The polygon forms of Label Studio and CVAT, image URLs, and world coordinates of GeoJSON."""

from __future__ import annotations

import json
import zipfile
from dataclasses import replace
from xml.etree import ElementTree

import numpy as np
import pytest
import shapely
import tifffile
from format_readers import decode_brush
from picture_datasets import picture_dataset, scene
from small_datasets import CATEGORIES, NAMES, small_dataset

from pipeline.exporters import export, geojson
from pipeline.exporters.cvat import mask_runs_in_box
from pipeline.exporters.geojson import geo_transform
from pipeline.exporters.label_studio import brush_rle
from pipeline.ledger.ledger import Ledger
from pipeline.masks import codec
from schemas.config.export import ExportConfig

POLYGON = ExportConfig(shapes="polygon")


def masks_due(ledger):
    return {
        item["annotation_id"]: codec.decode(item["rle"]["counts"], *item["rle"]["size"])
        for _, items in ledger.rows()
        for item in items
    }


def drawn(points: np.ndarray, size) -> np.ndarray:
    return codec.decode(codec.from_coco([points.reshape(-1).tolist()], *size), *size)


def test_label_studio_polygons_are_percent_and_give_the_masks_back(tmp_path):
    ledger = small_dataset(tmp_path / "d")
    export(ledger, "label-studio", str(tmp_path / "out"), config=POLYGON)
    found: dict[int, np.ndarray] = {}
    for task in json.loads((tmp_path / "out" / "tasks.json").read_bytes()):
        for item in task["predictions"][0]["result"]:
            assert item["type"] == "polygonlabels"
            size = item["original_height"], item["original_width"]
            points = np.array(item["value"]["points"]) / 100 * size[::-1]
            key = item["meta"]["annotation_id"]
            found[key] = found.get(key, 0) | drawn(points, size)
    due = masks_due(ledger)
    assert found.keys() == due.keys()
    assert all(np.array_equal(found[key], due[key]) for key in due)
    config = ElementTree.parse(tmp_path / "out" / "label_config.xml")
    assert len(list(config.iter("PolygonLabels"))) == 1


def test_cvat_polygons_give_the_masks_back_and_parts_have_a_group(tmp_path):
    ledger = small_dataset(tmp_path / "d")
    export(ledger, "cvat", str(tmp_path / "out"), config=POLYGON)
    with zipfile.ZipFile(tmp_path / "out" / "annotations.zip") as archive:
        root = ElementTree.fromstring(archive.read("annotations.xml"))
    names = {item.name: item.id for item in CATEGORIES}
    for image in root.iter("image"):
        number = NAMES[image.attrib["name"]]
        size = int(image.attrib["height"]), int(image.attrib["width"])
        unions: dict[int, np.ndarray] = {}
        for item in image.iter("polygon"):
            points = [pair.split(",") for pair in item.attrib["points"].split(";")]
            key = names[item.attrib["label"]]
            unions[key] = unions.get(key, 0) | drawn(np.array(points, float), size)
        for key, mask in masks_due(ledger).items():
            if key >> 21 == number:
                row = next(r for _, rs in ledger.rows() for r in rs if r["annotation_id"] == key)
                assert (unions[row["category_id"]] >= mask).all()
        assert any("group_id" in item.attrib for item in image.iter("polygon")) or number == 12


@pytest.mark.parametrize(
    ("source", "prefix", "url"),
    [
        ("/data/photos", "", "/data/local-files/?d=photos/sub/plain.png"),
        ("s3://bucket/photos", "", "s3://bucket/photos/sub/plain.png"),
        ("/data/photos", "https://h/p/", "https://h/p/sub/plain.png"),
    ],
)
def test_label_studio_finds_the_pictures(source, prefix, url, tmp_path):
    ledger = small_dataset(tmp_path / "d")
    ledger = Ledger(ledger.uri, replace(ledger.manifest, input=source), ledger.storage)
    config = ExportConfig(url_prefix=prefix)
    export(ledger, "label-studio", str(tmp_path / "out"), config=config)
    tasks = json.loads((tmp_path / "out" / "tasks.json").read_bytes())
    (task,) = [t for t in tasks if t["data"]["file_name"] == "sub/plain.png"]
    assert task["data"]["image"] == url
    assert task["predictions"][0]["model_version"] == "given"
    assert 0 < task["predictions"][0]["score"] <= 1


@pytest.mark.parametrize("seed", range(6))
def test_brush_and_cvat_codes_are_the_masks(seed):
    random = np.random.default_rng(seed)
    height, width = (1, 9) if seed == 0 else (300, 257) if seed == 1 else random.integers(2, 40, 2)
    mask = (random.random((height, width)) < random.choice([0.02, 0.5, 0.99])).astype(np.uint8)
    mask[-1, 0] = 1  # also a run that ends one row and begins the next
    if seed == 1:
        mask[:] = 1  # longer than the longest run of the code
    counts = codec.encode(mask)
    box = codec.bbox_xywh(counts, *mask.shape)
    rgba = decode_brush(brush_rle(counts, *mask.shape, box)).reshape(*mask.shape, 4)
    assert np.array_equal(rgba, np.repeat(mask[..., None] * 255, 4, axis=2))
    runs = mask_runs_in_box(counts, *mask.shape, box)
    x, y, w, h = box
    flat = np.repeat(np.arange(len(runs)) % 2, runs).reshape(h, w)
    assert np.array_equal(flat, mask[y : y + h, x : x + w])


def geotiff(path, *, point: bool = False, code: int = 32633) -> None:
    """0.5 m a pixel, its top left corner at (500000, 5600000) of UTM 33N."""
    half = 0.25 if point else 0.0
    keys = (1, 1, 0, 2, 1025, 0, 1, 2 if point else 1, 3072, 0, 1, code)
    tags = [
        (33550, "d", 3, (0.5, 0.5, 0.0), True),
        (33922, "d", 6, (0, 0, 0, 500_000 + half, 5_600_000 - half, 0), True),
        (34735, "H", len(keys), keys, True),
    ]
    pixels = tifffile.imread(path)
    tifffile.imwrite(path, pixels, photometric="rgb", extratags=tags)


def as_labelled(ledger):
    """The images table says TIFF, as labelling writes it."""
    import pyarrow as pa
    import pyarrow.parquet as pq

    for part in ledger.manifest.parts:
        path = f"{ledger.uri}/images/{part.name}.parquet"
        table = pq.ParquetFile(path).read()
        place = table.schema.get_field_index("image_format")
        kinds = ["TIFF" if n.endswith(".tif") else "PNG" for n in table["file_name"].to_pylist()]
        field = table.schema.field(place)
        pq.write_table(table.set_column(place, field, pa.array(kinds)), path)


@pytest.mark.parametrize("point", [False, True])
def test_a_geotiff_has_world_coordinates_and_others_pixels(point, tmp_path):
    ledger = picture_dataset(tmp_path, {"a.tif": scene(1), "b.png": scene(2)}, broken=())
    as_labelled(ledger)
    geotiff(tmp_path / "input" / "a.tif", point=point)
    export(ledger, "geojson", str(tmp_path / "out"))
    world, plain = (
        json.loads(p.read_bytes()) for p in sorted((tmp_path / "out").glob("*.geojson"))
    )
    assert world["crs"]["properties"]["name"] == "urn:ogc:def:crs:EPSG::32633"
    assert "crs" not in plain
    boxes = {}
    for _, items in ledger.rows():
        boxes |= {item["annotation_id"]: item["bbox_xywh"] for item in items}
    for feature in world["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        assert shape.area == pytest.approx(feature["properties"]["area"] * 0.25)
        x, y, w, h = boxes[feature["id"]]
        left, bottom, right, top = shape.bounds
        assert (left, top) == pytest.approx((500_000 + x / 2, 5_600_000 - y / 2))
        assert (right, bottom) == pytest.approx((left + w / 2, top - h / 2))
        assert shapely.geometry.polygon.orient(shape, 1).equals_exact(shape, 0) or shape.interiors
    for feature in plain["features"]:
        x, y, w, h = boxes[feature["id"]]
        assert shapely.geometry.shape(feature["geometry"]).bounds == (x, y, x + w, y + h)


def test_longitude_and_latitude_are_where_the_world_says(tmp_path):
    ledger = picture_dataset(tmp_path, {"a.tif": scene(1)}, broken=())
    as_labelled(ledger)
    geotiff(tmp_path / "input" / "a.tif")
    config = ExportConfig(geojson_crs="wgs84")
    export(ledger, "geojson", str(tmp_path / "out"), config=config)
    (path,) = (tmp_path / "out").glob("*.geojson")
    data = json.loads(path.read_bytes())
    assert "crs" not in data  # RFC 7946 knows no other
    for feature in data["features"]:
        shape = shapely.geometry.shape(feature["geometry"])
        assert shape.is_valid
        # The central meridian of UTM 33 is 15° east; 5600 km are 50.55° north of the equator.
        assert shape.centroid.x == pytest.approx(15, abs=0.001)
        assert shape.centroid.y == pytest.approx(50.55, abs=0.01)
        metres = shape.area * (111_229 * 111_229 * np.cos(np.radians(shape.centroid.y)))
        assert metres == pytest.approx(feature["properties"]["area"] * 0.25, rel=0.01)


def test_without_pyproj_the_extra_is_named(monkeypatch):
    monkeypatch.setattr(geojson, "find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"install maskmill\[geo\]"):
        geojson.GeoJson("wgs84")


def test_a_plain_or_damaged_tiff_has_no_place(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((4, 4), np.uint8))
    assert geo_transform(path.read_bytes()) is None
    assert geo_transform(b"II*\x00") is None
    assert geo_transform(b"") is None


@pytest.mark.parametrize("point", [False, True])
def test_pixels_of_a_level_lie_where_the_picture_lies(point, tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, np.zeros((40, 60, 3), np.uint8))
    geotiff(path, point=point)
    full, level = geo_transform(path.read_bytes()), geo_transform(path.read_bytes(), (10, 15))
    assert full is not None
    assert level is not None
    np.testing.assert_array_equal(level[0][:, 2], full[0][:, 2])
    np.testing.assert_array_equal(level[0] @ (15, 10, 1), full[0] @ (60, 40, 1))
