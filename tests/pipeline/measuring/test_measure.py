import json
import logging
from itertools import pairwise

import pyarrow.parquet as pq
import pytest
from picture_datasets import picture_dataset, scene

from pipeline.measuring.measure import images_uri, measure
from schemas.measurements import IMAGES, OBJECTS


@pytest.fixture
def folder(tmp_path):
    picture_dataset(tmp_path, {f"{n}.png": scene(n) for n in range(1, 8)})
    return tmp_path


def run(folder, name="out", **options):
    output = str(folder / f"{name}.parquet")
    options = {"save": False, **options}
    summary = measure(dataset=str(folder / "dataset"), output=output, **options)
    return summary, output


def test_bytes_do_not_depend_on_the_number_of_processes(folder):
    (one, first), (two, second) = run(folder, "one"), run(folder, "deep/two", workers=2)
    assert one == two
    for left, right in ((first, second), (images_uri(first), images_uri(second))):
        with open(left, "rb") as a, open(right, "rb") as b:
            assert a.read() == b.read()


def test_both_tables_cover_the_dataset(folder):
    told = []
    _, output = run(folder, progress=lambda *numbers: told.append(numbers))
    objects, images = pq.ParquetFile(output).read(), pq.ParquetFile(images_uri(output)).read()
    assert objects.schema == OBJECTS
    assert images.schema == IMAGES
    assert objects.num_rows == 7 * 4
    assert objects["intensity_mean"].null_count == 0
    names = [
        name
        for name, category in zip(
            *(images[key].to_pylist() for key in ("file_name", "category_id")), strict=True
        )
        if category is None
    ]
    assert names == [*(f"{n}.png" for n in range(1, 8)), "zz broken.jpg"]
    assert told == [(n, 4) for n in range(1, 5)]
    order = list(
        zip(objects["image_id"].to_pylist(), objects["segment_id"].to_pylist(), strict=True)
    )
    assert all(a < b for a, b in pairwise(order))


def test_the_summary_is_kept_for_the_report(folder, caplog):
    summary, _ = run(folder, save=True)
    kept = folder / "dataset" / "report" / "measurements.json"
    assert json.loads(kept.read_text("utf-8")) == json.loads(json.dumps(summary))
    kept.unlink()
    kept.mkdir()  # stands for a dataset that cannot be written
    with caplog.at_level(logging.WARNING):
        run(folder, save=True)
    assert "the report will not show the measurements" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pixel_size": "5 parsec"}, "nm, um, mm"),
        ({"neighbour_distance": -1}, "0…100"),
        ({"neighbour_distance": 101}, "0…100"),
        ({"workers": -1}, "0 or more"),
        ({"dataset": "nowhere"}, "no dataset of ours"),
        ({"output": "objects.ods"}, r"\.parquet, \.csv, \.xlsx"),
    ],
)
def test_bad_arguments(folder, options, message):
    given = {"dataset": str(folder / "dataset"), "output": str(folder / "out.parquet")}
    with pytest.raises(ValueError, match=message):
        measure(**given | options)
    assert not (folder / "out.parquet").exists()
