"""The section of naming says what it takes."""

from __future__ import annotations

from typing import Any

import pytest

from schemas.config.job import JobConfig
from schemas.config.model import NamingConfig


@pytest.mark.parametrize(
    ("data", "message"),
    [
        ({"views": []}, "views"),
        ({"views": ["gray"]}, "'keep', 'grey' or 'blur'"),
        ({"template": "a photo"}, "template: must hold {} once"),
        ({"template": "{} and {}"}, "template: must hold {} once"),
        ({"similarity": 2}, "similarity"),
        ({"rival": ["x"]}, "unknown key 'rival'.*rivals"),
    ],
)
def test_what_is_wrong_is_named(data: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        NamingConfig.parse(data)


def test_boxes_of_exemplars_and_resized_pictures_exclude_one_another() -> None:
    with pytest.raises(ValueError, match=r"resize and prompts\.exemplars exclude one another"):
        JobConfig.parse(
            {
                "input": {"uri": "in"},
                "output": "out",
                "model": {"name": "m"},
                "prompts": {"exemplars": ["a.png:1,2,3,4=c"]},
                "preprocess": {"steps": [{"step": "resize", "size": [64]}]},
            }
        )
