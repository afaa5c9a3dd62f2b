"""Rows of one part: what is joined to what, and what is null."""

import numpy as np
import pytest
from picture_datasets import empty_scene, picture_dataset, scene
from skimage.measure import regionprops

import pipeline.measuring.part as part_module
from pipeline.ledger.ledger import write_dataset
from pipeline.masks import codec
from pipeline.measuring.originals import Originals
from pipeline.measuring.part import MeasureSpec, measure_part
from pipeline.measuring.units import parse_pixel_size
from schemas.categories import Categories, Category
from schemas.config.job import ImagesConfig
from schemas.measurements import IMAGES, OBJECTS
from schemas.records import ImageRecord, Segment, Segmentation


def spec_of(ledger, originals=None, pixel_size="none", distance=1):
    return MeasureSpec(
        storage=ledger.storage,
        dataset=ledger.uri,
        reader=originals and originals.reader,
        tasks=ledger.manifest.tasks,
        background=frozenset(item.id for item in ledger.categories if item.is_background),
        intensity=originals is not None,
        choice=parse_pixel_size(pixel_size),
        images=ImagesConfig(),
        distance=distance,
    )


def measured(ledger, **options):
    originals = Originals(ledger) if options.pop("pictures", True) else None
    names = [name for table in ledger.images() for name in table["file_name"].to_pylist()]
    records = originals.find(names) if originals else {}
    (part,) = ledger.manifest.parts
    return measure_part(spec_of(ledger, originals, **options), part.name, records)


@pytest.mark.parametrize("characters", [1, 10**9])
def test_rows_follow_the_dataset_and_blocks_change_nothing(tmp_path, monkeypatch, characters):
    monkeypatch.setattr(part_module, "_CHARACTERS", characters)
    scenes = {"a.png": scene(1), "b.png": empty_scene(), "d.png": scene(3)}
    ledger = picture_dataset(tmp_path, scenes, broken=("c.jpg",), shard_size=9)
    found = measured(ledger)
    assert found.objects.schema == OBJECTS
    assert found.images.schema == IMAGES
    given = next(ledger.annotations()).to_pylist()
    rows = found.objects.to_pylist()
    for name in ("annotation_id", "segment_id", "category", "task", "score", "area", "bbox_xywh"):
        assert [row[name] for row in rows] == [row[name] for row in given]
    assert [row["file_name"] for row in rows] == ["a.png"] * 4 + ["b.png"] + ["d.png"] * 4
    labels = {1: 0, 2: 1, 3: 2, 9: 3}
    for name, first in (("a.png", 0), ("d.png", 5)):
        for region in regionprops(scenes[name][1], scenes[name][0]):
            row = rows[first + labels[region.label]]
            for key in ("mean", "std", "min", "max"):
                expected = getattr(region, f"intensity_{key}")
                assert row[f"intensity_{key}"] == pytest.approx(expected.tolist(), rel=1e-6)
            assert row["perimeter"] == pytest.approx(region.perimeter, rel=1e-6)


def test_neighbours_leave_background_out(tmp_path):
    ledger = picture_dataset(tmp_path, {"a.png": scene(1)}, broken=(), shard_size=9)
    rows = measured(ledger, pictures=False).objects.to_pylist()
    assert [row["neighbours"] for row in rows] == [1, 1, 0, None]
    assert [row["neighbour_ids"] for row in rows] == [[2], [1], [], None]
    assert [row["touches_border"] for row in rows] == [False, False, True, True]
    far = measured(ledger, pictures=False, distance=30).objects.to_pylist()
    assert [row["neighbour_ids"] for row in far] == [[2, 3], [1, 3], [1, 2], None]


def test_neighbours_are_of_the_same_task(tmp_path):
    text = codec.encode(np.ones((4, 4), bool))
    found = tuple(
        Segment(1, text, 16, (0, 0, 4, 4), task=task)
        for task in ("semantic", "instance", "instance")
    )
    ledger = write_dataset(
        str(tmp_path),
        [(ImageRecord("a.png", "a", image_id=1), Segmentation(4, 4, found))],
        categories=Categories((Category(1, "cell", True, "#ff0000"),)),
        task=("semantic", "instance"),
    )
    result = measured(ledger, pictures=False)
    assert [row["neighbour_ids"] for row in result.objects.to_pylist()] == [[], [3], [2]]
    counts = [(row["task"], row["category_id"], row["count"]) for row in result.images.to_pylist()]
    assert counts == [
        *(("semantic", None, 1), ("semantic", 1, 1)),
        *(("instance", None, 2), ("instance", 1, 2)),
    ]


def test_images_and_categories_are_counted(tmp_path):
    scenes = {"a.png": scene(1), "b.png": empty_scene()}
    ledger = picture_dataset(tmp_path, scenes, shard_size=9)
    rows = measured(ledger, pictures=False, pixel_size="2 um").images.to_pylist()
    areas = {label: int((scenes["a.png"][1] == label).sum()) for label in (1, 2, 3, 9)}
    assert [(row["file_name"], row["category"], row["count"], row["area"]) for row in rows] == [
        ("a.png", None, 3, areas[1] + areas[2] + areas[3]),
        ("a.png", "cell", 2, areas[1] + areas[2]),
        ("a.png", "debris", 1, areas[3]),
        ("a.png", "background", 1, areas[9]),
        ("b.png", None, 0, 0),
        ("b.png", "background", 1, 4800),
        ("zz broken.jpg", None, None, None),
    ]
    cells = rows[1]
    assert cells["mean_area"] == cells["area"] / 2
    assert cells["area_fraction"] == cells["area"] / 4800
    assert cells["density_per_mpx"] == pytest.approx(2 / 4800 * 1e6)
    assert cells["area_um2"] == cells["area"] * 4
    assert cells["density_per_mm2"] == pytest.approx(2 / (4800 * 4 / 1e6))
    assert rows[4]["mean_area"] is None
    assert rows[4]["density_per_mpx"] == 0
    assert {row["pixel_size_source"] for row in rows} == {"given"}
    assert rows[-1]["status"] == "failed"


def test_units_of_each_file(tmp_path):
    pixels, labels = scene(1, "uint16")
    ledger = picture_dataset(
        tmp_path,
        {"a.tif": (pixels, labels), "b.png": scene(2)},
        broken=(),
        resolution=20_000,
        shard_size=9,
    )
    found = measured(ledger, pixel_size="auto")
    rows = found.objects.to_pylist()
    for row in rows[:4]:
        assert row["pixel_size_um"] == pytest.approx(0.5)
        assert row["area_um2"] == pytest.approx(row["area"] / 4)
        assert row["area_convex_um2"] == pytest.approx(row["area_convex"] / 4)
        assert row["perimeter_um"] == pytest.approx(row["perimeter"] / 2)
        assert row["feret_diameter_max_um"] == pytest.approx(row["feret_diameter_max"] / 2)
        mask = labels == {1: 1, 2: 2, 3: 3, 4: 9}[row["segment_id"]]
        assert row["intensity_mean"] == pytest.approx([pixels[mask].mean()])
        assert row["intensity_max"] == [pixels[mask].max()]
    assert {row["area_um2"] for row in rows[4:]} == {None}
    sources = {(row["file_name"], row["pixel_size_source"]) for row in found.images.to_pylist()}
    assert sources == {("a.tif", "tiff"), ("b.png", None)}


def test_a_picture_that_is_gone_gives_nulls_and_a_note(tmp_path):
    scenes = {"a.png": scene(1), "b.png": scene(2)}
    ledger = picture_dataset(tmp_path, scenes, broken=(), shard_size=9)
    (tmp_path / "input" / "a.png").unlink()
    found = measured(ledger)
    rows = found.objects.to_pylist()
    assert [row["intensity_mean"] is None for row in rows] == [True] * 4 + [False] * 4
    notes = {row["file_name"]: row["note"] for row in found.images.to_pylist()}
    assert notes == {"a.png": "the picture is gone", "b.png": None}


def test_a_damaged_mask_is_named(tmp_path):
    ledger = write_dataset(
        str(tmp_path),
        [
            (
                ImageRecord("a.png", "a", image_id=1),
                Segmentation(4, 4, (Segment(1, b"~", 16, (0, 0, 4, 4)),)),
            )
        ],
        categories=Categories((Category(1, "cell", True, "#ff0000"),)),
    )
    with pytest.raises(ValueError, match=r"part .*mask 0 is a malformed RLE"):
        measured(ledger, pictures=False)
