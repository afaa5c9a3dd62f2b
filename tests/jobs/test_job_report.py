from __future__ import annotations

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.report import app
from pipeline import masks
from pipeline.ledger import write_dataset
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation


@pytest.fixture
def dataset(tmp_path) -> str:
    region = masks.regions(np.eye(8, dtype=int))[0]
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


def test_no_dataset_is_one_line_and_exit_2(tmp_path):
    result = CliRunner().invoke(app, ["--dataset", str(tmp_path)])
    assert result.exit_code == 2
    assert result.stderr.count("\n") == 1
    assert "holds no dataset of ours" in result.stderr
