"""The page of two versions side by side, as `jobs.diff --html` writes it."""

from __future__ import annotations

import base64
import re
from html import escape

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.diff import app
from pipeline.ledger.ledger import write_dataset
from pipeline.masks import codec
from pipeline.report.comparison import SHOWN
from schemas.categories import Categories, Category
from schemas.records import ImageRecord, Segment, Segmentation

TABLE = Categories((Category(1, "cell", True, "#4169e1"), Category(2, "debris", True, "#aa3333")))
NAME = "a<b>&.png"


def found(*boxes):
    """Squares: (category, left, top, side)."""
    segments = []
    for category, left, top, side in boxes:
        mask = np.zeros((60, 80), np.uint8)
        mask[top : top + side, left : left + side] = 1
        counts = codec.encode(mask)
        segments.append(Segment(category, counts, side * side, (left, top, side, side), 0.9))
    return Segmentation(60, 80, tuple(segments))


def dataset(folder, images):
    records = [
        (ImageRecord(name, "", image_id=number), answer)
        for number, (name, answer) in enumerate(images.items(), start=1)
    ]
    return write_dataset(str(folder), records, categories=TABLE, task="instance").uri


@pytest.fixture
def page(tmp_path):
    """Vanished, grown, matched and renamed in one picture, nothing in the other."""
    before = found((1, 2, 2, 10), (1, 20, 2, 10), (1, 40, 2, 10), (1, 60, 2, 10))
    after = found((1, 20, 2, 14), (1, 40, 2, 10), (2, 60, 2, 10), (1, 2, 40, 10))
    same = found((1, 5, 5, 8))
    a = dataset(tmp_path / "a", {NAME: before, "same.png": same})
    b = dataset(tmp_path / "b", {NAME: after, "same.png": same})
    done = CliRunner().invoke(app, [a, b, "--html", str(tmp_path / "page.html")])
    assert done.exit_code == 0, done.output
    return (tmp_path / "page.html").read_text("utf-8")


def test_counts_by_what_became_of_objects(page):
    for told in ("1 vanished", "1 appeared", "1 grown", "0 shrunk", "1 renamed", "2 matched"):
        assert f"{told}</li>" in page
    assert "<p>1 vanished, 1 appeared, 1 grown, 1 renamed, 1 matched</p>" in page
    assert "with objects: 2, with changes: 1." in page
    assert escape(NAME) in page
    assert NAME not in page
    assert "same.png" not in page


def test_objects_are_painted_where_they_are(page):
    before, after = (
        cv2.imdecode(np.frombuffer(base64.b64decode(code), np.uint8), cv2.IMREAD_COLOR)[..., ::-1]
        for code in re.findall('data:image/jpeg;base64,([^"]+)', page)
    )
    assert before.shape == after.shape == (60, 80, 3)
    grey = np.array((128, 128, 128))
    for picture, place, colour in (
        (before, (7, 7), (213, 94, 0)),
        (after, (45, 7), (0, 158, 115)),
        (before, (7, 25), (230, 159, 0)),
        (after, (7, 65), (204, 121, 167)),
    ):
        assert np.abs(picture[place] - (grey + colour) / 2).max() < 30
    assert np.abs(before[7, 45] - grey).max() < 20  # a matched one is an outline
    assert np.abs(before[45, 7] - grey).max() < 20


def test_the_pictures_with_the_most_changes_are_shown(tmp_path):
    names = [f"{number:02}.png" for number in range(SHOWN + 3)]
    a = dataset(tmp_path / "a", {name: found((1, 2, 2, 10)) for name in names})
    more = found((1, 40, 2, 10), (1, 40, 30, 10))
    b = dataset(tmp_path / "b", {name: more if name == names[-1] else found() for name in names})
    done = CliRunner().invoke(app, [a, b, "--html", str(tmp_path / "page.html"), "-q"])
    assert done.exit_code == 0, done.output
    text = (tmp_path / "page.html").read_text("utf-8")
    assert text.count("<section>") == SHOWN
    assert text.index(names[-1]) < text.index(names[0])
