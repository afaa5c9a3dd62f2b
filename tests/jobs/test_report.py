from __future__ import annotations

import numpy as np
import pytest
from small_datasets import small_dataset
from typer.testing import CliRunner

from jobs.report import app
from pipeline.ledger.ledger import write_dataset
from pipeline.masks import codec
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation

SWAPPED = ("semantic", "panoptic")


@pytest.fixture
def dataset(tmp_path) -> str:
    region = codec.regions(np.eye(8, dtype=int))[0]
    segment = Segment(1, region.counts, region.area, region.bbox_xywh, 0.5)
    rows = [
        (ImageRecord(f"{n}.png", "", image_id=n), Segmentation(8, 8, (segment,))) for n in (1, 2)
    ]
    categories = Categories((Category(1, "cell", True, "#1f9e89"),))
    return write_dataset(str(tmp_path / "out"), rows, categories=categories).uri


def test_prints_where_the_page_is(dataset, tmp_path):
    result = CliRunner().invoke(app, ["--dataset", dataset])
    assert result.exit_code == 0
    assert result.stdout.strip() == str(tmp_path / "out" / "report" / "index.html")
    assert (tmp_path / "out" / "report" / "full" / "1.js").is_file()


def test_output_and_number_of_pictures(dataset, tmp_path):
    words = ["--dataset", dataset, "--output", str(tmp_path / "page"), "--max-images", "1", "-q"]
    assert CliRunner().invoke(app, words).exit_code == 0
    assert len(list((tmp_path / "page" / "full").iterdir())) == 1


def test_one_of_several_tasks(tmp_path):
    several = small_dataset(tmp_path / "data", ("semantic", "panoptic")).uri
    page = tmp_path / "data" / "report" / "index.html"
    for words, shown, other in (([], "panoptic", "semantic"), (["--task", "semantic"], *SWAPPED)):
        assert CliRunner().invoke(app, ["--dataset", several, "-q", *words]).exit_code == 0
        text = page.read_text()
        assert f"{shown} segmentation by" in text
        assert f"The dataset also holds {other} labels" in text
    result = CliRunner().invoke(app, ["--dataset", several, "--task", "instance"])
    assert result.exit_code == 2
    assert "the dataset holds no instance labels" in result.stderr


def test_no_dataset_is_one_line_and_exit_2(tmp_path):
    result = CliRunner().invoke(app, ["--dataset", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "holds no dataset of ours" in result.stderr
