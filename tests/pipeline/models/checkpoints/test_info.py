"""Models are described from their files alone, and broken folders in one line."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from pipeline.models.checkpoints.families import BUNDLED, FAMILIES
from pipeline.models.checkpoints.info import bundled, describe
from pipeline.models.checkpoints.locate import WEIGHTS_ROOT
from schemas.records import TASKS

ENTRY = {"id": 1, "name": "x", "isthing": True, "color": "#000000"}
GOOD: dict[str, Any] = {
    "format": "maskmill",
    "family": "otsu",
    "tasks": ["instance", "panoptic"],
    "licence": "MIT",
    "categories": [ENTRY],
    "extra": {"kept": True},
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "my-model"
    made.mkdir()
    return made


def write(folder: Path, **changes: Any) -> Path:
    config = {key: value for key, value in {**GOOD, **changes}.items() if value != "left out"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def complaint(model: Path | str) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        describe(str(model))
    text = str(caught.value)
    assert "\n" not in text
    return text


def test_a_folder_is_known_by_its_own_name(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    info = describe(str(write(folder)))
    assert (info.name, info.family, info.licence) == ("my-model", "otsu", "MIT")
    assert info.folder == str(folder)
    assert info.tasks == ("instance", "panoptic")
    assert info.config["extra"] == {"kept": True}
    assert info.revision == info.weights_sha256[:12]
    monkeypatch.chdir(folder)
    assert describe(".") == info
    monkeypatch.chdir(folder.parent)
    assert describe("my-model/") == info


def test_the_first_task_is_the_default_the_others_are_in_order(folder: Path) -> None:
    tasks = ["panoptic", "instance", "semantic", "instance"]
    assert describe(str(write(folder, tasks=tasks))).tasks == ("panoptic", "semantic", "instance")


def test_a_licence_that_is_not_given_is_unknown(folder: Path) -> None:
    assert describe(str(write(folder, licence="left out"))).licence == "unknown"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"format": "left out"}, '"format": "maskmill"'),
        ({"format": "left out", "model_type": 5}, "a model_type of transformers"),
        ({"format": "tflite"}, '"format": "maskmill"'),
        ({"family": "otsuu"}, "unknown family 'otsuu'; did you mean 'otsu'?"),
        ({"family": "left out"}, f"known: {', '.join(FAMILIES)}"),
        ({"family": ["otsu"]}, "unknown family"),
        *[
            ({"tasks": tasks}, "tasks must be a list of some of semantic, instance, panoptic")
            for tasks in ("left out", None, 5, "semantic", [], ["semantics"], {"semantic": 1})
        ],
        ({"tasks": ["semantic", ["instance"]]}, "tasks must be a list"),
        *[
            ({"categories": rows}, "categories must be a list of at least one")
            for rows in ("left out", None, [], {})
        ],
        ({"categories": "abc"}, "bad category entry"),
        ({"categories": 5}, "bad category entry"),
        ({"categories": [{"id": 1}]}, "name"),
        ({"categories": [ENTRY, {**ENTRY, "name": "y"}]}, "two categories have the id 1"),
        ({"categories": [ENTRY, {**ENTRY, "id": 2}]}, "two categories have the name 'x'"),
        ({"categories": [{**ENTRY, "id": 0}]}, "id must be"),
    ],
)
def test_a_broken_config_is_named_in_one_line(
    folder: Path, changes: dict[str, Any], message: str
) -> None:
    text = complaint(write(folder, **changes))
    assert text.startswith(str(folder / "config.json"))
    assert message in text


@pytest.mark.parametrize(
    "data", [b"", b"{", b"{}{", b"\xff\xfe{\x00}\x00", b"[" * 50_000, b"[]", b"5", b'"maskmill"']
)
def test_what_is_no_json_object_is_named(folder: Path, data: bytes) -> None:
    (folder / "config.json").write_bytes(data)
    assert complaint(folder).startswith(str(folder / "config.json"))


@pytest.mark.parametrize("kind", ["segformer", "oneformer", "sam", "grounding-dino", "clipseg"])
def test_pictures_that_cannot_be_brought_in_stop_the_job_in_the_driver(
    folder: Path, kind: str
) -> None:
    (folder / "config.json").write_text(json.dumps({"model_type": kind}))
    assert "holds no preprocessor_config.json" in complaint(folder)
    for settings, message in (
        ({"image_processor_type": "SegformersImageProcessor"}, "did you mean 'segformer'?"),
        ({"image_processor_type": "SamImageProcessor", "size": {"area": 9}}, "size has the keys"),
    ):
        (folder / "preprocessor_config.json").write_text(json.dumps(settings))
        text = complaint(folder)
        assert text.startswith(f"{folder}: ")
        assert message in text


def test_folders_without_config_or_weights(folder: Path) -> None:
    assert complaint(folder) == f"{folder} is no checkpoint: it holds no config.json"
    assert complaint(write(folder, family="unet")) == f"{folder} holds no .safetensors file"


def test_an_unknown_name_names_the_nearest_and_where_all_are() -> None:
    text = complaint("unet-nucle")
    assert "did you mean 'unet-nuclei'?" in text
    assert text.endswith("python -m jobs.models")


def test_a_file_is_no_folder(folder: Path) -> None:
    path = write(folder) / "config.json"
    assert "neither a known name nor a folder" in complaint(path)


def test_what_ships_is_complete() -> None:
    models = bundled()
    assert [model.name for model in models] == sorted(BUNDLED)
    for model in models:
        assert Path(model.folder).parent == WEIGHTS_ROOT
        assert model.family in FAMILIES
        assert set(model.tasks) <= set(TASKS)
        assert model.licence == "Apache-2.0"
        assert sum(p.stat().st_size for p in Path(model.folder).iterdir()) < 9e6


def test_describing_a_model_loads_no_torch() -> None:
    code = (
        "import sys; from pipeline.models.checkpoints.info import bundled; bundled(); "
        "print(sorted({'torch', 'transformers', 'ray'} & set(sys.modules)))"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=Path(__file__).resolve().parents[4],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert done.stdout.strip() == "[]"
