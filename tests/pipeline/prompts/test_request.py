"""Exemplars are read before the first image, and say what is wrong with them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.naming.crops import square_around
from pipeline.prompts.request import Exemplar, absolute_exemplars, read_exemplars, window_of
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig


def exemplars(*texts: str, **more: Any) -> tuple[Exemplar, ...]:
    base = {"input": {"uri": "in"}, "output": "out", "model": {"name": "m"}}
    config = JobConfig.parse({**base, "prompts": {"exemplars": list(texts)}, **more})
    return read_exemplars(config, Storage())


def written(path: Path, hw: tuple[int, int], seed: int = 0) -> np.ndarray:
    pixels = np.random.default_rng(seed).integers(0, 256, (*hw, 3), np.uint8)
    cv2.imwrite(str(path), pixels[..., ::-1])
    return pixels


def test_the_window_holds_the_object(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = written(tmp_path / "a.png", (200, 300))
    monkeypatch.chdir(tmp_path)
    first, second = exemplars("a.png:100,80,20,10=nut", f"{tmp_path}/a.png:0,0,300,200=all")
    left, top, right, bottom = (round(value) for value in first.bbox_xyxy)
    assert (right - left, bottom - top) == (20, 10)
    np.testing.assert_array_equal(first.pixels[top:bottom, left:right], pixels[80:90, 100:120])
    np.testing.assert_array_equal(second.pixels, pixels)
    assert (first.category, first.name) == ("nut", "a.png:100,80,20,10")
    assert first.sha256 == second.sha256
    assert first.identity() != second.identity()


def test_a_large_one_is_made_smaller(tmp_path: Path) -> None:
    written(tmp_path / "a.png", (1300, 2600))
    (one,) = exemplars(f"{tmp_path}/a.png:500,200,1000,800=x")
    assert max(one.pixels.shape) == 1024
    scale = 1024 / 2600
    assert one.bbox_xyxy == pytest.approx(np.array([500, 200, 1500, 1000]) * scale, abs=0.5)


def test_identity_is_that_of_the_pixels_not_of_the_path(tmp_path: Path) -> None:
    written(tmp_path / "a.png", (40, 50))
    written(tmp_path / "moved.bmp", (40, 50))
    written(tmp_path / "other.png", (40, 50), seed=1)
    found = [
        exemplars(f"{tmp_path}/{name}:1,2,9,9=x")[0].identity()
        for name in ("a.png", "moved.bmp", "other.png")
    ]
    assert found[0] == found[1] != found[2]


def test_paths_become_absolute_and_uris_stay(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("a b.png:1,2,3,4=x=y", "s3://bucket/a.png:1,2,3,4=x", f"{tmp_path}/c.png:1,2,3,4=x")
    assert absolute_exemplars(given) == (f"{tmp_path}/a b.png:1,2,3,4=x=y", *given[1:])


def test_preprocessing_is_applied(tmp_path: Path) -> None:
    pixels = written(tmp_path / "a.png", (40, 50))
    steps = {"steps": [{"step": "gamma", "gamma": 2.0}]}
    (one,) = exemplars(f"{tmp_path}/a.png:1,2,30,30=x", preprocess=steps)
    assert one.pixels.mean() != pytest.approx(pixels.mean(), abs=5)


@pytest.mark.parametrize(
    ("name", "box", "message"),
    [
        ("gone.png", "1,2,3,4", r"--exemplar '.*gone\.png:1,2,3,4=x'"),
        ("text.png", "1,2,3,4", r"--exemplar '.*' *: .*text\.png is no picture"),
        ("a.png", "1,2,50,4", "the box leaves the picture, which has 50 × 40 pixels"),
        ("a.png", "-1,2,5,4", "the box leaves the picture"),
        ("a.png", "1,37,5,4", "the box leaves the picture"),
    ],
)
def test_what_is_wrong_is_said_with_the_flag(
    tmp_path: Path, name: str, box: str, message: str
) -> None:
    written(tmp_path / "a.png", (40, 50))
    (tmp_path / "text.png").write_text("no picture at all")
    with pytest.raises(ValueError, match=message):
        exemplars(f"{tmp_path}/{name}:{box}=x")


@given(st.integers(20, 200), st.integers(20, 200), st.sampled_from((0.0, 0.1, 0.5)), st.data())
def test_a_crop_of_the_window_is_that_of_the_whole_picture(
    height: int, width: int, margin: float, data: st.DataObject
) -> None:
    w, h = data.draw(st.integers(1, width)), data.draw(st.integers(1, height))
    x, y = data.draw(st.integers(0, width - w)), data.draw(st.integers(0, height - h))
    left, top, right, bottom = window_of((x, y, w, h), (height, width), margin=margin)
    whole = square_around((x, y, w, h), (height, width), margin=margin, side=32)
    part = square_around(
        (x - left, y - top, w, h), (bottom - top, right - left), margin=margin, side=32
    )
    moved = np.add(part.source_xyxy, (left, top, left, top))
    assert moved.tolist() == list(whole.source_xyxy)
