"""images.py: choices that exclude one another, and what labels depend on."""

from __future__ import annotations

import pytest

from schemas.config.images import ImagesConfig
from schemas.config.job import JobConfig


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"page": 2, "projection": "max"}, "page and projection exclude one another"),
        ({"each": "z", "page": 2}, "leave page and projection out"),
        ({"each": "time", "time": 2}, "leave time out"),
        ({"level": 1, "mpp": 0.5}, "level and mpp exclude one another"),
        ({"channels": [1, 2]}, "must name one or three, got 2"),
        ({"page": 0}, "page"),
        ({"projection": "median"}, "'none', 'max', 'mean' or 'sharpest'"),
        ({"max_pixels": 0}, "max_pixels"),
    ],
)
def test_what_cannot_be_is_said_before_the_first_image(options, said):
    with pytest.raises(ValueError, match=said):
        ImagesConfig.parse(options)


def test_at_rest_the_new_keys_change_no_fingerprint():
    """As the section was written before there was a choice of planes."""
    assert ImagesConfig().identity() == {"max_pixels": 500_000_000, "stretch_16bit": "percentile"}
    assert ImagesConfig(page=3).identity()["page"] == 3
    assert ImagesConfig(page="first").identity()["page"] == "first"


def test_a_job_takes_them_from_its_file():
    data = {"input": {"uri": "in"}, "output": "out", "model": {"name": "otsu"}}
    job = JobConfig.parse({**data, "images": {"channels": ["DAPI"], "each": "z"}})
    assert job.images.channels == ("DAPI",)
    assert JobConfig.parse({**data, "images": {"page": "first"}}).images.page == "first"
    with pytest.raises(ValueError, match=r"unknown key 'images.pages'.*page"):
        JobConfig.parse({**data, "images": {"pages": 2}})


@pytest.mark.parametrize(
    ("section", "key", "value", "told"),
    [
        ("images", "page", "frst", "should be a valid integer or 'first', got 'frst'; did you"),
        ("model", "compile", "maybe", "should be a valid boolean or 'auto', got 'maybe'"),
        ("images", "channels", [1, 3.5], "should be a valid integer or a valid string, got 3.5"),
    ],
)
def test_what_is_none_of_several_kinds_is_one_line_that_names_them(section, key, value, told):
    data = {"input": {"uri": "in"}, "output": "out", "model": {"name": "otsu"}}
    data[section] = {**data.get(section, {}), key: value}
    with pytest.raises(ValueError, match=f"^{section}.{key}") as caught:
        JobConfig.parse(data)
    (line,) = str(caught.value).splitlines()
    place, _, rest = line.partition(": ")
    assert place in (f"{section}.{key}", f"{section}.{key}.1")
    assert rest.startswith(told)
