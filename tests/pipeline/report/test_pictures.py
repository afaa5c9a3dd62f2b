from __future__ import annotations

import base64
import hashlib
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.masks import codec
from pipeline.report.pictures import FULL_SIDE, THUMB_SIDE, ShownImage, render
from schemas.config.job import ImagesConfig
from schemas.records import ImageRecord

HEIGHT, WIDTH = 1200, 1800


@pytest.fixture(scope="module")
def photo() -> bytes:
    pixels = np.zeros((HEIGHT, WIDTH, 3), np.uint8)
    pixels[:, WIDTH // 2 :] = (0, 0, 255)  # BGR: the right half is red
    return cv2.imencode(".jpg", pixels)[1].tobytes()


def _row(**changes: Any) -> dict[str, Any]:
    row = dict.fromkeys(("image_format", "exif_orientation", "note", "size_bytes", "sha256"))
    return row | {
        "image_id": 7,
        "file_name": "a/b.jpg",
        "status": "ok",
        "width": WIDTH,
        "height": HEIGHT,
        **changes,
    }


def _segment(number: int, category: int, mask: np.ndarray, score: float | None) -> dict[str, Any]:
    counts = codec.encode(mask)
    return {
        "segment_id": number,
        "category_id": category,
        "score": score,
        "area": codec.area(counts, *mask.shape),
        "bbox_xywh": list(codec.bbox_xywh(counts, *mask.shape)),
        "rle": {"counts": counts.decode()},
        "prompt": None,
    }


def _render(data: bytes | None, segments: list[dict[str, Any]], **changes: Any) -> ShownImage:
    return render(
        _row(**changes),
        segments,
        places={1: 0, 9: 1},
        background=frozenset({9}),
        record=ImageRecord("a/b.jpg", ""),
        data=data,
        config=ImagesConfig(),
    )


def _decoded(data: bytes) -> np.ndarray:
    pixels = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_COLOR)
    assert pixels is not None
    return pixels


def test_both_sizes_keep_proportions_and_colours(photo):
    picture = _render(photo, [])
    assert picture.jpeg is not None
    full = _decoded(picture.jpeg)
    thumb = _decoded(base64.b64decode(picture.thumb["jpeg"]))
    assert full.shape[:2] == (FULL_SIDE * HEIGHT // WIDTH, FULL_SIDE)
    assert thumb.shape[:2] == (THUMB_SIDE * HEIGHT // WIDTH, THUMB_SIDE)
    for pixels in (full, thumb):
        h, w = pixels.shape[:2]
        assert pixels[h // 2, w - 5].tolist() == pytest.approx([0, 0, 255], abs=4)
        assert pixels[h // 2, 5].tolist() == pytest.approx([0, 0, 0], abs=4)


def test_masks_of_the_thumbnail_fit_the_thumbnail(photo):
    right = np.zeros((HEIGHT, WIDTH), bool)
    right[:, WIDTH // 2 :] = True
    speck = np.zeros_like(right)
    speck[0, 0] = True  # falls between the sampled pixels
    picture = _render(photo, [_segment(1, 1, right, 0.5), _segment(2, 1, speck, 0.25)])
    size = picture.thumb["size"]
    assert [item[0] for item in picture.thumb["segments"]] == [1]
    mask = codec.decode(picture.thumb["segments"][0][5], *size)
    assert mask[:, size[1] // 2 :].all()
    assert not mask[:, : size[1] // 2].any()
    assert [item[0] for item in picture.full["segments"]] == [1, 2]


def test_entry_sums_up_what_filters_ask(photo):
    half = np.zeros((HEIGHT, WIDTH), bool)
    half[: HEIGHT // 2] = True
    segments = [
        _segment(1, 1, half, 0.25),
        _segment(2, 1, half, 1.0),
        _segment(3, 1, half, None),
        _segment(4, 9, ~half, 0.05),
    ]
    entry = _render(photo, segments).entry
    bits = 1 << 5 | 1 << 19 | 1 << 20  # the bins of 0.25 and 1.0, and one without a score
    assert entry == [7, "a/b.jpg", "ok", WIDTH, HEIGHT, 3, 0.25, [0, 3, bits, 1, 1, 1 << 1], ""]


@pytest.mark.parametrize(
    ("data", "changes"),
    [
        (None, {}),
        (b"", {}),
        (b"no picture", {}),
        (..., {"width": HEIGHT, "height": WIDTH}),
        (..., {"sha256": "0" * 64}),
    ],
)
def test_a_picture_that_is_gone_or_another_one_now_is_not_shown(photo, data, changes):
    picture = _render(photo if data is ... else data, [], **changes)
    assert picture.jpeg is None
    assert picture.full["picture"] is False
    assert "jpeg" not in picture.thumb


def test_the_very_bytes_are_shown(photo):
    assert _render(photo, [], sha256=hashlib.sha256(photo).hexdigest()).jpeg is not None
