"""Three lines of Python: label, look, ask; the same bytes and errors as the command line."""

from __future__ import annotations

import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from pictures import write_pictures

import maskmill
from pipeline.errors import OverBudgetError
from pipeline.masks import codec


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> maskmill.Dataset:
    folder = tmp_path_factory.mktemp("api")
    photos = folder / "photos"
    (photos / "sub").mkdir(parents=True)
    for number, name in enumerate(("a.png", "sub/b.png", "sub/a.png")):
        picture = np.zeros((60, 80, 3), np.uint8)
        cv2.circle(picture, (20 + 10 * number, 30), 12, (230, 230, 230), -1)
        cv2.imwrite(str(photos / name), picture)
    (photos / "broken.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    return maskmill.label(
        str(photos), str(folder / "out"), model="otsu", **{"execution.inline": True}
    )


def test_what_was_labelled_is_there_as_tables(dataset: maskmill.Dataset) -> None:
    assert dataset.counts["images"] == dataset.images.num_rows == 4
    assert dataset.annotations.num_rows == dataset.counts["annotations"]
    assert dataset.run is not None
    assert "nucleus" in dataset.categories or dataset.categories
    frame = dataset.to_pandas("images")
    assert list(frame["file_name"]) == dataset.images["file_name"].to_pylist()
    with pytest.raises(ValueError, match="'images' or 'annotations'"):
        dataset.to_pandas("segments")


def test_masks_are_the_rows(dataset: maskmill.Dataset) -> None:
    masks = dataset.masks("b.png")
    image = dataset.images.to_pylist()[dataset.images["file_name"].to_pylist().index("sub/b.png")][
        "image_id"
    ]
    rows = [row for row in dataset.annotations.to_pylist() if row["image_id"] == image]
    assert masks.shape == (len(rows), 60, 80)
    for mask, row in zip(masks, rows, strict=True):
        assert mask.sum() == row["area"]
        assert codec.encode(mask).decode() == row["rle"]["counts"]
    assert (dataset.masks(image) == masks).all()


def test_names_that_say_too_little_or_nothing(dataset: maskmill.Dataset) -> None:
    assert dataset.masks("a.png").shape[1:] == (60, 80)  # the whole name wins
    with pytest.raises(ValueError, match=r"no image 'c\.png'"):
        dataset.masks("c.png")
    with pytest.raises(ValueError, match=r"broken\.png has no masks"):
        dataset.masks("broken.png")


def test_a_picture_is_shown_with_its_masks(dataset: maskmill.Dataset) -> None:
    shown = np.asarray(dataset.show("b.png"))
    assert shown.shape == (60, 80, 3)
    assert np.ptp(shown[30, 30].astype(int)) > 20  # a colour lies over the grey disc
    text = dataset._repr_html_()
    assert text.count("<img") == 3
    assert "broken.png" in text
    assert "4 images" in repr(dataset)


def test_export_evaluate_and_open(dataset: maskmill.Dataset, tmp_path: Path) -> None:
    written = dataset.export("coco-instances", str(tmp_path / "coco"))
    coco = json.loads((tmp_path / "coco" / written[0]).read_text())
    assert len(coco["images"]) == 3
    figures = dataset.evaluate(str(tmp_path / "coco" / written[0]))
    assert figures["overall"]
    assert maskmill.open(dataset.uri).version == dataset.version


def test_the_checks_are_those_of_the_command_line(tmp_path: Path) -> None:
    with pytest.raises(ValueError, match="did you mean 'threshold'"):
        maskmill.label("in", str(tmp_path), model="otsu", **{"model.treshold": 0.4})
    with pytest.raises(ValueError, match="no dataset of ours"):
        maskmill.open(str(tmp_path))
    with pytest.raises(AttributeError, match="lable"):
        maskmill.lable  # noqa: B018


def test_too_many_failures_raise(tmp_path: Path) -> None:
    photos = tmp_path / "photos"
    photos.mkdir()
    (photos / "x.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    write_pictures(photos, 1)
    keys = {"execution.inline": True, "max_failures": "0"}
    with pytest.raises(OverBudgetError, match="1 images failed, 0 allowed"):
        maskmill.label(str(photos), str(tmp_path / "out"), model="otsu", **keys)
