"""A stated size that contradicts the picture fails it, or moves prompts as the job says."""

from __future__ import annotations

import io

import numpy as np
import pytest
from PIL import Image, ImageOps

from pipeline.masks import codec
from pipeline.prompts.size import file_size, frame_of, moved, state_size
from schemas.records import Prompt

STORED = (6, 10)


@pytest.mark.parametrize(
    ("height", "width", "size"),
    [(4, 5, (4, 5)), (4.0, 5, (4, 5)), (None, 5, None), (0, 0, None), ("4", "5", None)],
)
def test_a_size_is_two_numbers(height: object, width: object, size: object) -> None:
    assert file_size(height, width) == size


def upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """What Pillow makes of it: the reference."""
    image = Image.fromarray(pixels)
    exif = image.getexif()
    exif[274] = orientation
    file = io.BytesIO()
    image.save(file, "PNG", exif=exif)
    return np.array(ImageOps.exif_transpose(Image.open(file)))


@pytest.mark.parametrize("orientation", range(1, 9))
def test_turning_is_pillows(orientation: int) -> None:
    mask = np.zeros(STORED, np.uint8)
    mask[1:3, 2:7] = 1
    whole = mask * 255
    turned = upright(whole, orientation) // 255
    prompt = Prompt(
        1,
        bbox_xyxy=(2, 1, 7, 3),
        points_xy=((2.5, 1.5),),
        inside=(True,),
        counts=codec.encode(mask),
    )
    height, width = turned.shape
    assert frame_of(STORED, (height, width), orientation, "turn") == STORED
    found = moved(prompt, STORED, (height, width), orientation, "turn")
    ys, xs = np.nonzero(turned)
    assert found.bbox_xyxy == (xs.min(), ys.min(), xs.max() + 1, ys.max() + 1)
    assert found.counts == codec.encode(turned)
    corner = np.zeros(STORED, np.uint8)
    corner[1, 2] = 255
    (y,), (x,) = np.nonzero(upright(corner, orientation))
    assert found.points_xy == ((x + 0.5, y + 0.5),)


def test_scaling_moves_boxes_points_and_crowds() -> None:
    mask = np.zeros((20, 12), np.uint8)
    mask[4:8, 2:6] = 1
    prompt = Prompt(1, bbox_xyxy=(2, 4, 6, 8), points_xy=((3, 5),), counts=codec.encode(mask))
    assert frame_of((20, 12), (10, 6), 1, "scale") == (20, 12)
    found = moved(prompt, (20, 12), (10, 6), 1, "scale")
    assert (found.bbox_xyxy, found.points_xy) == ((1, 2, 3, 4), ((1.5, 2.5),))
    assert codec.bbox_xywh(found.counts or b"", 10, 6) == (1, 2, 2, 2)
    # COCO's thumbnails round each side by itself.
    assert frame_of((333, 500), (853, 1280), 1, "scale") == (333, 500)


@pytest.mark.parametrize(
    ("stated", "orientation", "how", "words"),
    [
        ((696, 520), 6, "fail", "says 520×696, the upright picture is 696×520: .* unturned pixels"),
        ((696, 520), 6, "scale", "unturned"),
        ((696, 520), 1, "turn", "unturned"),  # the picture has no EXIF that turns it
        ((1040, 1392), 1, "fail", "a copy 2 times as large"),
        ((260, 348), 1, "turn", "a copy 0.5 times as large"),
        ((520, 700), 1, "scale", "another picture"),
    ],
)
def test_contradictions_are_refused(stated, orientation: int, how, words: str) -> None:
    with pytest.raises(ValueError, match=words):
        frame_of(stated, (520, 696), orientation, how)


@pytest.mark.parametrize("how", ["fail", "scale"])
def test_what_agrees_or_says_nothing_stays(how) -> None:
    assert frame_of(None, (5, 6), 6, how) == (5, 6)
    assert frame_of((5, 6), (5, 6), 6, how) == (5, 6)


def test_two_statements_of_one_picture() -> None:
    sizes: dict[str, tuple[int, int]] = {}
    state_size(sizes, "a", (4, 5))
    state_size(sizes, "a", (4, 5))
    with pytest.raises(ValueError, match="a has the size 6×4 here and 5×4 before"):
        state_size(sizes, "a", (4, 6))
