from __future__ import annotations

import shlex
import tomllib
from dataclasses import replace

from pipeline.report.provenance import provenance_section, reproduce, to_toml
from schemas.config.job import JobConfig
from schemas.config.layers import layered


def test_the_config_as_a_job_file_is_the_same_config(make_dataset):
    config = dict(make_dataset(count=1).manifest.config)
    again = JobConfig.parse({**tomllib.loads(to_toml(config)), "output": "x"})
    assert again.published() == JobConfig.parse({**config, "output": "x"}).published()


def test_toml_holds_any_text():
    odd = 'quote " backslash \\ line\n tab\t del\x7f é \u2028'
    assert tomllib.loads(to_toml({"input": {"uri": odd, "limit": 3, "none": None}})) == {
        "input": {"uri": odd, "limit": 3}
    }


NESTED = {
    "input": {"uri": "in"},
    "output": "x",
    "model": {"name": "m", "tta": {"flips": ["horizontal"]}},
    "refine": {"fill_holes": 9, "categories": {"traffic light": {"min_score": 0.3}, "b.c": {}}},
}


def test_sections_in_sections_survive_as_file_and_as_command(make_dataset):
    config = JobConfig.parse(NESTED)
    again = JobConfig.parse({**tomllib.loads(to_toml(config.published())), "output": "x"})
    assert again == config
    words = shlex.split(
        reproduce(replace(make_dataset(count=1).manifest, config=config.published()))
    )
    sets = [words[n + 1] for n, word in enumerate(words) if word == "--set"]
    given = layered(None, sets, {"input.uri": "in", "model.name": "m", "output": "x"})
    assert JobConfig.parse(given) == config


def test_the_command_names_what_differs_from_the_defaults(make_dataset, tmp_path):
    words = shlex.split(reproduce(make_dataset(count=1).manifest))
    assert words[:3] == ["python", "-m", "jobs.label"]
    assert words[words.index("--input") + 1] == str(tmp_path / "input")
    assert words[words.index("--model") + 1] == "unet-nuclei"
    sets = [words[n + 1] for n, word in enumerate(words) if word == "--set"]
    assert sets == ["model.threshold=0.4"]


def test_the_command_asks_for_every_task(make_dataset):
    manifest = replace(make_dataset(count=1).manifest, tasks=("semantic", "instance"))
    words = shlex.split(reproduce(manifest))
    assert [words[n + 1] for n, word in enumerate(words) if word == "--task"] == [
        *("semantic", "instance"),
    ]


def test_facts_are_escaped(make_dataset):
    manifest = replace(make_dataset(count=1).manifest, packages={"<b>x": "<i>1"})
    section = provenance_section(manifest)
    assert "<b>x" not in section
    assert "&lt;b&gt;x" in section
    assert "&lt;i&gt;1" in section


def test_a_dataset_without_config_has_no_command(make_dataset):
    bare = replace(make_dataset(count=1).manifest, config={})
    assert reproduce(bare) == ""
    assert "jobs.label" not in provenance_section(bare)
