import io

import numpy as np
import pytest
from pictures_encoded import encoded, scene
from PIL import Image

from pipeline.images.preview import preview
from schemas.config.preprocess import PreprocessConfig


@pytest.fixture
def photo(tmp_path):
    path = tmp_path / "photo.png"
    path.write_bytes(encoded(scene(90, 120), "PNG"))
    return path


def drawn(photo, *steps, side=100):
    output = photo.parent / "out" / "steps.png"
    config = PreprocessConfig.parse({"steps": list(steps)})
    lines = preview(config, str(photo), str(output), side=side)
    return lines, np.array(Image.open(io.BytesIO(output.read_bytes())))


def test_a_row_a_step(photo):
    gamma = {"step": "gamma", "gamma": 0.5}
    lines, one = drawn(photo, gamma)
    assert len(lines) == 1
    assert lines[0].startswith("1. gamma (gamma 0.5): mean ")
    lines, three = drawn(photo, gamma, {"step": "median"}, {"step": "resize", "size": 30})
    assert [line.split()[1] for line in lines] == ["gamma", "median", "resize"]
    assert lines[2].endswith("120 x 90 becomes 40 x 30")
    assert three.shape[0] > 2 * one.shape[0]
    assert one.shape[1] >= 3 * 100


def test_the_panels_are_before_after_and_change(photo):
    # Brighter on one half only: the last panel is tinted there and grey elsewhere.
    half = scene(90, 100)
    half[:, 50:] = 0
    photo.write_bytes(encoded(half, "PNG"))
    _, sheet = drawn(photo, {"step": "gamma", "gamma": 0.5})
    top = 12 + 20 + 20 + 12
    before, after, change = (sheet[top : top + 90, x : x + 100] for x in (12, 124, 236))
    assert (before == half).all()
    assert (after[:, 50:] == 0).all()
    assert after[:, :50].mean() > before[:, :50].mean() + 20
    assert np.ptp(change[:, 50:], axis=2).max() == 0
    tinted = change[:, :50].astype(int)
    assert (tinted[..., 0] > tinted[..., 2] + 50).mean() > 0.5


def test_nothing_is_enlarged(photo):
    _, sheet = drawn(photo, {"step": "median"}, side=4000)
    assert sheet.shape[0] < 200


def test_an_unchanged_picture_says_so(photo):
    lines, _ = drawn(photo, {"step": "gamma", "gamma": 1})
    assert "0.0 % of the pixels changed" in lines[0]


@pytest.mark.parametrize(
    ("steps", "change", "message"),
    [
        ([], {}, "preprocess.steps is empty"),
        ([{"step": "median"}], {"output": "x.jpg"}, r"\.png"),
        ([{"step": "bands", "choose": [9]}], {}, "no band 9, the picture has 3"),
        ([{"step": "match_histogram", "reference": "gone.png"}], {}, "gone.png"),
    ],
)
def test_bad_usage(photo, steps, change, message):
    arguments = {"image": str(photo), "output": str(photo.parent / "x.png"), **change}
    with pytest.raises((ValueError, OSError), match=message):
        preview(PreprocessConfig.parse({"steps": steps}), **arguments)


def test_what_is_no_picture(photo):
    photo.write_text("text")
    with pytest.raises(ValueError, match="not an image"):
        drawn(photo, {"step": "median"})
