"""A model asked about one array: what a job finds in the same picture."""

from __future__ import annotations

import cv2
import numpy as np
import pytest

import maskmill


@pytest.fixture(scope="module")
def picture() -> np.ndarray:
    field = np.full((90, 120), 10, np.uint8)
    for x in (30, 80):
        cv2.circle(field, (x, 45), 14, 220, -1)
    return cv2.GaussianBlur(field, (0, 0), 1.5)


def test_one_array_gives_what_a_job_gives(picture: np.ndarray, tmp_path) -> None:
    with maskmill.load("unet-nuclei", device="cpu", task="instance") as model:
        answer = model(np.repeat(picture[..., None], 3, 2))
        grey = model(picture)
    assert answer.masks.shape == (len(answer), 90, 120)
    assert answer.names == ["nucleus"] * 2
    assert (answer.scores > 0.5).all()
    assert (grey.masks == answer.masks).all()
    (tmp_path / "in").mkdir()
    cv2.imwrite(str(tmp_path / "in" / "a.png"), picture)
    ds = maskmill.label(
        str(tmp_path / "in"),
        str(tmp_path / "out"),
        model="unet-nuclei",
        task="instance",
        **{"execution.inline": True},
    )
    assert (ds.masks("a.png") == answer.masks).all()


def test_settings_hold_as_in_a_job(picture: np.ndarray) -> None:
    with maskmill.load(
        "unet-nuclei", device="cpu", task="instance", **{"model.min_area": 5000}
    ) as m:
        assert len(m(picture)) == 0
        assert m(picture).masks.shape == (0, 90, 120)
    with pytest.raises(ValueError, match="task"):
        maskmill.load("otsu", task="panoptik")


@pytest.mark.parametrize(
    "bad", [np.zeros((4, 4), np.float32), np.zeros((4, 4, 4), np.uint8), np.zeros((0, 3), np.uint8)]
)
def test_what_is_no_picture_is_refused(bad: np.ndarray) -> None:
    with maskmill.load("otsu", device="cpu") as model, pytest.raises(ValueError, match="picture"):
        model(bad)
