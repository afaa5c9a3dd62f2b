"""Every key is listed once, with its default; the TOML template is a valid, empty job."""

from __future__ import annotations

import tomllib

from schemas.config.job import JobConfig
from schemas.config.keys import keys_of, toml_template
from schemas.config.layers import layered


def test_every_key_can_be_set_to_its_default() -> None:
    needed = {"input.uri": "in", "output": "out", "model.name": "otsu"}
    whole = JobConfig.parse(layered(None, (), needed))
    keys = keys_of(JobConfig)
    assert len({key.name for key in keys}) == len(keys)
    for key in keys:
        if key.default not in ("required", "unset"):
            given = JobConfig.parse(layered(None, [f"{key.name}={key.default}"], needed))
            if key.name not in needed:
                assert given == whole, key


def test_kinds_say_range_and_allowed_values() -> None:
    by_name = {key.name: key for key in keys_of(JobConfig)}
    assert by_name["tiling.min_iou"].kind == "number ≥ 0 ≤ 1"
    assert by_name["execution.read"].kind == "actor | tasks"
    assert by_name["input.uri"].default == "required"
    assert by_name["execution.inline"].kind == "true or false"


def test_the_template_is_toml_with_every_section() -> None:
    keys = keys_of(JobConfig)
    data = tomllib.loads(toml_template(keys))
    assert {key.name.partition(".")[0] for key in keys if "." in key.name} == data.keys()
