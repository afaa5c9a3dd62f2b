import numpy as np
import pytest
from picture_datasets import empty_scene, picture_dataset, scene

from pipeline.measuring import summary as summary_module
from pipeline.measuring.measure import measure


@pytest.fixture
def dataset(tmp_path):
    scenes = {"a.png": scene(1), "b.png": scene(2), "c.png": empty_scene()}
    picture_dataset(tmp_path, scenes)
    return tmp_path


def summary_of(folder, **options):
    options = {"workers": 1, "save": False, **options}
    return measure(dataset=str(folder / "dataset"), output=str(folder / "out.parquet"), **options)


def test_counts_and_distributions(dataset):
    found = summary_of(dataset)
    assert found["counts"] == {
        "objects": 9,
        "images": 4,
        "failed_images": 1,
        "images_with_pixel_size": 0,
    }
    names = [(row["category"], row["category_id"], row["count"]) for row in found["categories"]]
    assert names == [(None, None, 6), ("cell", 1, 4), ("debris", 5, 2)]
    units = {item["name"]: item["unit"] for item in found["properties"]}
    assert (units["area"], units["density"], units["solidity"]) == ("px", "per megapixel", "")
    labels = [scene(n)[1] for n in (1, 2)]
    cells = found["categories"][1]["distributions"]
    areas = [int((plane == label).sum()) for plane in labels for label in (1, 2)]
    assert cells["area"]["spread"]["mean"] == pytest.approx(np.mean(areas), rel=1e-4)
    assert sum(cells["area"]["log"]["counts"]) == sum(cells["area"]["linear"]["counts"]) == 4
    means = [scene(n)[0][labels[n - 1] == label].mean() for n in (1, 2) for label in (1, 2)]
    assert cells["intensity_mean"]["spread"]["mean"] == pytest.approx(np.mean(means), rel=1e-4)


def test_density_counts_images_without_the_category(dataset):
    found = summary_of(dataset, intensity=False)
    for row, number in zip(found["categories"], (6, 4, 2), strict=True):
        density = row["distributions"]["density"]
        assert density["spread"]["count"] == sum(density["linear"]["counts"]) == 3
        assert density["spread"]["low"] == 0
        assert density["spread"]["mean"] == pytest.approx(number / 3 / 4800 * 1e6, rel=1e-4)
        assert row["distributions"]["intensity_mean"]["spread"] is None


def test_physical_units_where_every_pixel_has_a_size(dataset):
    plain, sized = summary_of(dataset), summary_of(dataset, pixel_size="2 um")
    assert sized["properties"][0]["unit"] == "µm²"
    assert sized["properties"][-1]["unit"] == "per mm²"
    for key, factor in (("area", 4), ("feret_diameter_max", 2), ("density", 1 / 4)):
        ours, theirs = (
            item["categories"][0]["distributions"][key]["spread"]["mean"] for item in (sized, plain)
        )
        assert ours == pytest.approx(theirs * factor, rel=1e-4)


@pytest.mark.parametrize(
    ("size", "unit", "density"),
    [("50 um", "µm", "mm²"), ("2 mm", "mm", "m²"), ("30 m", "m", "km²")],
)
def test_the_unit_suits_the_pixels(dataset, size, unit, density):
    found = summary_of(dataset, pixel_size=size, intensity=False)
    units = {item["name"]: item["unit"] for item in found["properties"]}
    assert units["area"] == f"{unit}²"
    assert units["feret_diameter_max"] == unit
    assert units["density"] == f"per {density}"
    plain = summary_of(dataset, intensity=False)
    pixel, metres = float(size.split()[0]), {"µm": 1e-6, "mm": 1e-3, "m": 1.0}[unit]
    ground = {"mm²": 1e-6, "m²": 1.0, "km²": 1e6}[density]
    for key, factor in (("area", pixel**2), ("density", ground / (pixel * metres) ** 2 / 1e6)):
        ours, theirs = (
            item["categories"][0]["distributions"][key]["spread"]["mean"] for item in (found, plain)
        )
        assert ours == pytest.approx(theirs * factor, rel=1e-4)


def test_rare_categories_have_no_distribution_of_their_own(dataset, monkeypatch):
    monkeypatch.setattr(summary_module, "SHOWN_CATEGORIES", 1)
    assert [row["category"] for row in summary_of(dataset)["categories"]] == [None, "cell"]


def test_notes_count_images(dataset):
    (dataset / "input" / "a.png").unlink()
    (dataset / "input" / "b.png").unlink()
    assert summary_of(dataset)["notes"] == {"the picture is gone": 2}


def test_an_empty_dataset_has_a_summary(tmp_path):
    picture_dataset(tmp_path, {})
    found = summary_of(tmp_path)
    assert found["counts"]["failed_images"] == 1
    assert found["categories"][0]["distributions"]["area"]["spread"] is None
