"""Exemplars are read before the first image, and say what is wrong with them."""

from __future__ import annotations

import zlib
from io import BytesIO
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from pipeline.models.naming.crops import square_around
from pipeline.prompts.request import (
    Exemplar,
    MaskExemplar,
    absolute_exemplars,
    read_exemplars,
    read_mask_exemplars,
    window_of,
)
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


# Exemplars of a mask.


def masked(*texts: str, **more: Any) -> tuple[MaskExemplar, ...]:
    base = {"input": {"uri": "in"}, "output": "out", "model": {"name": "m"}}
    config = JobConfig.parse({**base, "prompts": {"exemplars": list(texts)}, **more})
    return read_mask_exemplars(config, Storage())


def blob(hw: tuple[int, int] = (40, 50)) -> np.ndarray:
    mask = np.zeros(hw, np.uint8)
    mask[5:20, 7:30] = 1
    return mask


def palette(mask: np.ndarray) -> Image.Image:
    """Index 0 is white, index 1 black: colours tell the opposite of what is marked."""
    image = Image.fromarray(mask, "P")
    image.putpalette([255, 255, 255, 0, 0, 0])
    return image


def with_alpha(mask: np.ndarray) -> Image.Image:
    return Image.fromarray(np.dstack([mask * 200] * 3 + [np.full_like(mask, 255)]))


@pytest.mark.parametrize(
    ("name", "made"),
    [
        ("m.png", lambda mask: Image.fromarray(mask)),
        ("m.png", lambda mask: Image.fromarray(mask * 255)),
        ("m.png", lambda mask: Image.fromarray(mask.astype(np.uint16) * 65535)),
        ("m.png", lambda mask: Image.fromarray(mask.astype(np.uint16))),
        ("m.png", lambda mask: Image.fromarray(mask > 0)),
        ("m.png", palette),
        ("m.png", with_alpha),
        ("m.png", lambda mask: Image.fromarray(np.dstack([mask * 0, mask * 90, mask * 0]))),
        ("m.tif", lambda mask: Image.fromarray(mask * 255)),
        ("m.bmp", lambda mask: Image.fromarray(mask * 255)),
        ("m.gif", palette),
    ],
)
def test_what_is_not_0_is_marked(name: str, made: Any, tmp_path: Path) -> None:
    """Of one bit, 8 and 16, palette indices, colours, and beside transparency."""
    pixels = written(tmp_path / "a.png", (40, 50))
    made(blob()).save(tmp_path / name)
    (one,) = masked(f"{tmp_path}/a.png:@{tmp_path}/{name}=nut")
    np.testing.assert_array_equal(one.mask, blob() > 0)
    np.testing.assert_array_equal(one.pixels, pixels)
    assert (one.category, one.name) == ("nut", f"a.png:@{name}")


def test_identity_is_that_of_picture_and_mask(tmp_path: Path) -> None:
    written(tmp_path / "a.png", (40, 50))
    for name, mask in (("m", blob()), ("moved", blob() * 9), ("other", blob() ^ 1)):
        Image.fromarray(mask).save(tmp_path / f"{name}.png")
    at = f"{tmp_path}/a.png:@{tmp_path}"
    same, moved, other = masked(f"{at}/m.png=x", f"{at}/moved.png=x", f"{at}/other.png=x")
    assert same.identity() == moved.identity() != other.identity()
    assert same.identity() != masked(f"{at}/m.png=y")[0].identity()


def test_a_mask_is_of_the_upright_picture(tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 256, (40, 50, 3), np.uint8)
    exif = Image.Exif()
    exif[0x0112] = 6
    Image.fromarray(pixels).save(tmp_path / "a.png", exif=exif)
    Image.fromarray(blob((50, 40))).save(tmp_path / "upright.png")
    Image.fromarray(blob()).save(tmp_path / "stored.png")
    (one,) = masked(f"{tmp_path}/a.png:@{tmp_path}/upright.png=x")
    assert one.mask.shape == one.pixels.shape[:2] == (50, 40)
    with pytest.raises(
        ValueError, match="50 × 40 pixels, the upright picture 40 × 50: it looks un"
    ):
        masked(f"{tmp_path}/a.png:@{tmp_path}/stored.png=x")


def bomb() -> bytes:
    """A PNG that says it has 60000 × 60000 pixels."""
    data = BytesIO()
    Image.fromarray(blob()).save(data, "PNG")
    head = bytearray(data.getvalue())
    head[16:24] = (60000).to_bytes(4, "big") * 2
    head[29:33] = zlib.crc32(bytes(head[12:29])).to_bytes(4, "big")
    return bytes(head)


@pytest.mark.parametrize(
    ("mask", "message"),
    [
        (None, r"--exemplar '.*m\.png=x'"),
        (b"no picture at all", r"is no mask that can be read; it may be PNG, TIFF"),
        (b"", "is no mask that can be read"),
        (bomb(), "is no mask"),
        (blob((40, 51)), "the mask has 51 × 40 pixels, the upright picture 50 × 40$"),
        (blob() * 0, "the mask marks nothing"),
        (blob() * 0 + 1, "the mask marks every pixel"),
    ],
)
def test_a_mask_that_cannot_be_is_said_with_the_flag(
    mask: np.ndarray | bytes | None, message: str, tmp_path: Path
) -> None:
    written(tmp_path / "a.png", (40, 50))
    if isinstance(mask, bytes):
        (tmp_path / "m.png").write_bytes(mask)
    elif mask is not None:
        Image.fromarray(mask).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match=message) as caught:
        masked(f"{tmp_path}/a.png:@{tmp_path}/m.png=x", images={"max_pixels": 10**6})
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 600


def test_boxes_and_masks_are_not_taken_for_one_another(tmp_path: Path) -> None:
    written(tmp_path / "a.png", (40, 50))
    Image.fromarray(blob()).save(tmp_path / "m.png")
    with pytest.raises(ValueError, match="an embedder is shown boxes"):
        exemplars(f"{tmp_path}/a.png:@{tmp_path}/m.png=x")
    with pytest.raises(ValueError, match="SegGPT is shown masks"):
        masked(f"{tmp_path}/a.png:1,2,3,4=x")


def test_paths_of_masks_become_absolute(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    given = ("a b.png:@m.png=x", "s3://bucket/a.png:@s3://bucket/m.png=x")
    assert absolute_exemplars(given) == (f"{tmp_path}/a b.png:@{tmp_path}/m.png=x", given[1])
