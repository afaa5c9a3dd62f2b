"""The job's config: what it takes, what it says when it does not, what fingerprints see."""

from __future__ import annotations

import pickle
import tomllib
from fractions import Fraction
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.config.job import (
    InputConfig,
    JobConfig,
    StorageConfig,
    config_fingerprint,
    failure_limit,
    shrink_limit,
)
from schemas.config.model import ModelConfig
from schemas.config.section import Section


def job(**changes: Any) -> JobConfig:
    data: dict[str, Any] = {"input": {"uri": "in"}, "output": "out", "model": {"name": "otsu"}}
    for key, value in changes.items():
        data[key] = {**data.get(key, {}), **value} if isinstance(value, dict) else value
    return JobConfig.parse(data)


def complaint(**changes: Any) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        job(**changes)
    text = str(caught.value)
    assert "\n" not in text, text
    assert "pydantic" not in text
    return text


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"task": "panotic"}, ["task.0: ", "'semantic', 'instance' or 'panoptic'", "'panotic'"]),
        ({"task": "PANOPTIC"}, ["did you mean 'panoptic'?"]),
        ({"modle": {}}, ["unknown key 'modle'", "did you mean 'model'?", "allowed: input, output"]),
        ({"threshold": 0.3}, ["unknown key 'threshold'; did you mean 'model.threshold'?"]),
        ({"tiling": {"workers": 2}}, ["'tiling.workers'; did you mean 'execution.workers'?"]),
        ({"model": {"treshold": 1}}, ["'model.treshold'", "did you mean 'threshold'?", "min_area"]),
        ({"input": {"format": "foldr"}}, ["input.format", "did you mean 'folder'?", "webdataset"]),
        ({"model": {"threshold": 1.5}}, ["model.threshold", "less than or equal to 1", "1.5"]),
        ({"model": {"threshold": "high"}}, ["model.threshold", "number", "'high'"]),
        ({"model": {"threshold": float("nan")}}, ["model.threshold", "finite"]),
        ({"model": {"min_area": 0}}, ["model.min_area", "greater than or equal to 1", "got 0"]),
        ({"model": {"name": ""}}, ["model.name", "at least 1 character"]),
        ({"model": {"device": "gpu"}}, ["model.device", "'gpu'", "auto, cpu, cuda, cuda:N"]),
        ({"model": "otsu"}, ["model: must be a section", "name, revision"]),
        ({"input": 3}, ["input: must be a section", "uri, format"]),
        ({"input": {"limit": 2.5}}, ["input.limit", "2.5"]),
        ({"execution": {"cpus_per_worker": float("inf")}}, ["cpus_per_worker", "finite"]),
        ({"execution": {"prefetch": 0}}, ["execution.prefetch", "got 0"]),
        ({"execution": {"read": "task"}}, ["execution.read", "did you mean 'tasks'?", "'actor'"]),
        ({"execution": {"engine": "Ray"}}, ["execution.engine", "'auto', 'ray' or 'inline'"]),
        (
            {"execution": {"engine": "ray", "inline": True}},
            ["execution: inline and engine = 'ray' exclude one another"],
        ),
        ({"export": {"formats": "coco"}}, ["export.formats", "'coco'"]),
        ({"export": {"formats": [1]}}, ["export.formats.0", "got 1"]),
        ({"output": ""}, ["output"]),
    ],
)
def test_mistakes_are_answered_in_one_line_with_key_and_choices(
    changes: dict[str, Any], words: list[str]
) -> None:
    text = complaint(**changes)
    assert [word for word in words if word not in text] == [], text


@pytest.mark.parametrize(
    "value", ["many", "-1", -1, "5 %", "%", "", " 5", "1e3", "5%%", 0.05, True, None, [1]]
)
def test_bad_failure_budgets_name_the_allowed_forms(value: Any) -> None:
    text = complaint(max_failures=value)
    assert text.startswith("max_failures: ")
    assert "a count, '5%', or 'any'" in text


@pytest.mark.parametrize(
    ("given", "on_ray", "in_process"),
    [
        ({}, False, False),
        ({"prefetch": 2, "shard_size": 3, "max_crashes": 1}, False, False),
        ({"engine": "ray"}, True, False),
        ({"workers": 2}, True, False),
        ({"max_workers": 2}, True, False),
        ({"address": "auto"}, True, False),
        ({"read": "tasks"}, True, False),
        ({"cpus_per_worker": 1}, True, False),
        ({"gpus_per_worker": 0}, True, False),
        ({"shard_timeout": 60}, True, False),
        ({"reproducible": True}, True, False),
        ({"inline": True}, False, True),
        ({"engine": "inline", "workers": 2}, False, True),
    ],
)
def test_keys_that_only_ray_can_obey_ask_for_it(
    given: dict[str, Any], on_ray: bool, in_process: bool
) -> None:
    execution = job(execution=given).execution
    assert (execution.on_ray, execution.in_process) == (on_ray, in_process)


def test_every_problem_has_its_line() -> None:
    with pytest.raises(ValueError, match=r"\S") as caught:
        JobConfig.parse({"input": {}, "model": {"name": "m", "x": 1}})
    lines = str(caught.value).splitlines()
    assert [line.split(":")[0] for line in lines] == [
        "input.uri",
        "output",
        "unknown key 'model.x'; allowed",
    ]


def test_secrets_of_a_wrong_type_are_not_shown() -> None:
    for value in (71034, ["71034"], {"a": "71034"}):
        assert "71034" not in complaint(storage={"secret": value})
    assert "71034" not in complaint(storage="71034")
    assert "71034" not in repr(job(storage={"secret": "71034"}))


def test_sections_parse_alone() -> None:
    assert StorageConfig.parse({}) == StorageConfig()
    with pytest.raises(ValueError, match=r"^unknown key 'regoin'; did you mean 'region'"):
        StorageConfig.parse({"regoin": "x"})


@pytest.mark.parametrize("value", ["0", "12", "5%", "0.5%", "100%", "any", 3, 0])
def test_failure_budgets_that_are_taken(value: Any) -> None:
    assert job(max_failures=value).max_failures == str(value)


@pytest.mark.parametrize(
    ("budget", "images", "limit"),
    [
        ("any", 10, 9),
        ("any", 1, 0),
        ("any", 0, 0),
        ("auto", 0, 0),
        ("auto", 1, 0),
        ("auto", 2, 1),
        ("auto", 10, 5),
        ("auto", 20, 10),
        ("auto", 200, 10),
        ("auto", 219, 10),
        ("auto", 10_000, 500),
        ("0", 10, 0),
        ("3", 10, 3),
        ("30", 10, 30),
        ("0%", 10, 0),
        ("5%", 19, 0),
        ("5%", 20, 1),
        ("0.5%", 1000, 5),
        ("0.57%", 10_000, 57),  # 56 in floating point
        ("100%", 10, 10),
    ],
)
def test_failure_limit(budget: str, images: int, limit: int) -> None:
    assert failure_limit(budget, images) == limit


@pytest.mark.parametrize(("allowed", "limit"), [("any", None), ("0", 0), ("20%", 2), ("7", 7)])
def test_shrink_limit(allowed: str, limit: int | None) -> None:
    assert shrink_limit(allowed, 10) == limit


def test_an_address_gives_its_credentials_to_the_keys_beside_it() -> None:
    for own in ({}, {"key": "K", "secret": "hidden"}):
        storage = StorageConfig.parse({"endpoint_url": "http://U%40:hush@host:9000", **own})
        assert storage.endpoint_url == "http://host:9000"
        assert (storage.key, storage.secret) == (("K", "hidden") if own else ("U@", "hush"))
        assert "hush" not in repr(storage)
        assert "hidden" not in repr(storage)


@pytest.mark.parametrize(
    "place", [{"input": {"uri": "s3://K:SECRET@b"}}, {"output": "s3://K:SECRET@b"}]
)
def test_a_uri_with_credentials_is_refused_without_showing_them(place: dict[str, Any]) -> None:
    text = complaint(**place)
    assert "s3://b came with credentials" in text
    assert "SECRET" not in text


@given(st.integers(0, 9999), st.integers(0, 10**8))
def test_a_percentage_is_rounded_down_exactly(hundredths: int, images: int) -> None:
    text = f"{hundredths // 100}.{hundredths % 100:02d}%"
    assert failure_limit(text, images) == int(Fraction(hundredths, 10_000) * images)


def test_numbers_of_a_toml_file() -> None:
    data = tomllib.loads(
        'output = "o"\nmax_failures = 4\n[input]\nuri = "i"\nlimit = 10\n'
        '[model]\nname = "m"\nthreshold = 1\nmin_score = 0.25\n[execution]\ncpus_per_worker = 2\n'
    )
    config = JobConfig.parse(data)
    assert (config.model.threshold, config.model.min_score) == (1.0, 0.25)
    assert isinstance(config.model.threshold, float)
    assert (config.max_failures, config.input.limit) == ("4", 10)


def fingerprint(config: JobConfig, **changes: Any) -> str:
    fixed = {"tasks": ("panoptic",), "weights_sha256": "w", "revision": "r", "categories": []}
    return config_fingerprint(config.label_config(**{**fixed, **changes}))


LABELS_DEPEND_ON: list[dict[str, Any]] = [
    {"model": {"threshold": 0.5}},
    {"model": {"min_score": 0.5}},
    {"model": {"min_area": 5}},
    {"model": {"mask_threshold": 0.4}},
    {"model": {"overlap_threshold": 0.4}},
    {"model": {"compat": "transformers"}},
    {"model": {"categories": "coco-things"}},
    {"model": {"architecture": {"name": "Unet"}}},
    {"model": {"dtype": "float16"}},
    {"model": {"tta": {"flips": ["horizontal"]}}},
    {"model": {"tta": {"scales": [1, 0.5]}}},
    {"images": {"max_pixels": 1000}},
    {"images": {"stretch_16bit": "full"}},
    {"images": {"page": 2}},
    {"images": {"projection": "max"}},
    {"images": {"channels": (2,)}},
    {"images": {"series": 2}},
    {"images": {"time": 2}},
    {"images": {"each": "z"}},
    {"images": {"level": 1}},
    {"images": {"mpp": 0.5}},
    {"tiling": {"size": 512}},
    {"tiling": {"overlap": 64}},
    {"tiling": {"min_iou": 0.3}},
    {"refine": {"max_segments": 5}},
    {"refine": {"fill_holes": 5}},
    {"refine": {"min_island": 5}},
    {"refine": {"categories": {"cell": {"min_score": 0.5}}}},
]
ONLY_WHERE_AND_HOW_FAST: list[dict[str, Any]] = [
    {"input": {"uri": "elsewhere", "limit": 5}},
    {"output": "elsewhere"},
    {"model": {"name": "copy", "device": "cuda:1", "batch_size": 64, "compile": True}},
    {"model": {"revision": "the weights' hash says it", "allow_pickle": True}},
    {"max_failures": "5%"},
    {"execution": {"inline": True, "workers": 7, "read": "tasks", "prefetch": 2, "shard_size": 3}},
    {"execution": {"engine": "ray"}},
    {"storage": {"endpoint_url": "http://x", "secret": "s"}},
    {"export": {"formats": ("coco-instances",)}},
    {"report": {"max_images": 3}},
]


def test_the_fingerprint_sees_what_labels_depend_on_and_nothing_else() -> None:
    plain = fingerprint(job())
    seen = {fingerprint(job(**change)) for change in LABELS_DEPEND_ON}
    given = {"weights_sha256": "x", "revision": "x", "categories": [{"id": 1}]}
    seen |= {fingerprint(job(), **{key: value}) for key, value in given.items()}
    seen |= {fingerprint(job(), tasks=tasks) for tasks in (("instance",), ("instance", "panoptic"))}
    assert len(seen | {plain}) == len(LABELS_DEPEND_ON) + 3 + 2 + 1
    for change in ONLY_WHERE_AND_HOW_FAST:
        assert fingerprint(job(**change)) == plain, change


def test_every_key_that_may_change_labels_is_in_one_of_the_two_lists() -> None:
    """A new key must be thought of: does it change labels?"""
    sections = {"model", "images", "tiling", "refine"}
    known = {
        (section, key)
        for change in [*LABELS_DEPEND_ON, *ONLY_WHERE_AND_HOW_FAST]
        for section, keys in change.items()
        if section in sections
        for key in keys
    }
    fields = job().model_dump(include=sections)
    assert {(section, key) for section in fields for key in fields[section]} == known


def test_equal_numbers_have_equal_fingerprints() -> None:
    one = fingerprint(job(model={"threshold": 1}))
    assert one == fingerprint(job(model={"threshold": 1.0}))
    assert len(one) == 32


def test_published_config_holds_no_secret_and_no_place() -> None:
    config = job(storage={"key": "AK71", "secret": "S71"}, execution={"address": "10.0.0.71:6379"})
    text = str(config.published())
    assert "71" not in text
    assert "batch_size" not in text
    assert JobConfig.parse({**config.published(), "output": "o"}).model == config.model


def test_configs_are_frozen_and_travel() -> None:
    config = job(model={"threshold": 0.5})
    assert pickle.loads(pickle.dumps(config)) == config
    with pytest.raises(ValueError, match="frozen"):
        config.model.threshold = 0.1  # type: ignore[misc]


def test_every_section_refuses_unknown_keys() -> None:
    for section in Section.__subclasses__():
        assert section.model_config["extra"] == "forbid"
        assert section.model_config["frozen"]
    assert InputConfig.parse({"uri": "x"}).format == "auto"
    assert ModelConfig.parse({"name": "x"}).threshold is None
