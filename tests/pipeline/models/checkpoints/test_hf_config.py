"""What a config.json in transformers' format says: family, tasks, categories."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from plain_checkpoints import plain_checkpoint
from transformers.models.auto.modeling_auto import (
    MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES,
    MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
    MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES,
)

from pipeline.models.checkpoints.category_tables import category_table
from pipeline.models.checkpoints.families import FAMILIES, family_of
from pipeline.models.checkpoints.hf_config import output_names
from pipeline.models.checkpoints.info import ModelInfo, describe

ALL = ("panoptic", "semantic", "instance")
OWN = ["rust", "crack", "background"]


def names(table: str) -> list[str]:
    return [item.name for item in category_table(table).categories]


def complaint(folder: Path) -> str:
    with pytest.raises(ValueError, match=r"\S") as caught:
        describe(str(folder))
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_every_kind_is_one_of_transformers_and_has_a_family() -> None:
    known = {
        *MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES,
        *MODEL_FOR_UNIVERSAL_SEGMENTATION_MAPPING_NAMES,
        *MODEL_FOR_INSTANCE_SEGMENTATION_MAPPING_NAMES,
    }
    own = {kind for row in FAMILIES.values() if not row.prompts for kind in row.model_types}
    assert own <= known
    for kind in MODEL_FOR_SEMANTIC_SEGMENTATION_MAPPING_NAMES:
        assert family_of(kind) in (None, "semantic", "clipseg")


@pytest.mark.parametrize(
    ("kind", "table", "family", "tasks"),
    [
        ("oneformer", "coco-133", "oneformer", ALL),
        ("oneformer", "cityscapes-19", "oneformer", ALL),
        ("mask2former", "coco-133", "mask2former", ALL),
        ("mask2former", "coco-80", "mask2former", ("instance",)),
        ("mask2former", "cityscapes-8", "mask2former", ("instance",)),
        ("maskformer", "ade20k-150", "mask2former", ALL),
        ("eomt", "coco-133", "eomt", ALL),
        ("eomt", "coco-80", "eomt", ("instance",)),
        ("segformer", "ade20k-150", "semantic", ("semantic",)),
        ("segformer", "cityscapes-19", "semantic", ("semantic",)),
    ],
)
def test_family_and_tasks_follow_from_kind_and_table(
    tmp_path: Path, kind: str, table: str, family: str, tasks: tuple[str, ...]
) -> None:
    info = describe(str(plain_checkpoint(tmp_path / "m", names(table), kind=kind)))
    assert (info.family, info.tasks, info.table) == (family, tasks, table)
    assert info.categories == category_table(table).categories
    assert info.category_ids == tuple(item.id for item in info.categories)
    assert info.weights == ("model.safetensors",)


@pytest.mark.parametrize(("name", "first"), [
    ("mask2former-ade-semantic", "semantic"), ("ade20k_semantic_large", "semantic"),
    ("my-instances", "panoptic"), ("x-instance", "instance"), ("semantics", "panoptic"),
])  # fmt: skip
def test_the_task_in_a_name_is_the_default(tmp_path: Path, name: str, first: str) -> None:
    folder = plain_checkpoint(tmp_path / name, names("ade20k-150"), kind="mask2former")
    assert describe(str(folder)).tasks[0] == first


def test_a_fine_tuned_model_of_own_names_can_be_asked_for_anything(tmp_path: Path) -> None:
    info = describe(str(plain_checkpoint(tmp_path / "m", OWN, kind="mask2former")))
    assert set(info.tasks) == set(ALL)
    assert [item.isthing for item in info.categories] == [True, True, False]
    assert info.category_ids == (1, 2, 3)
    assert info.table == ""
    plain = describe(str(plain_checkpoint(tmp_path / "s", OWN)))
    assert [item.isthing for item in plain.categories] == [False, False, False]


def test_windows_of_an_eomt_answer_the_task_semantic_alone(tmp_path: Path) -> None:
    settings = {"do_split_image": True}
    folder = plain_checkpoint(tmp_path / "m", names("coco-133"), kind="eomt", settings=settings)
    assert describe(str(folder)).tasks == ("semantic",)


def class_info(info: ModelInfo) -> dict[str, dict[str, Any]]:
    """The file that transformers' processor asks the hub for, from our own tables."""
    things = {item.id for item in info.categories if item.isthing}
    rows = zip(
        output_names(Path(info.folder) / "config.json", info.config), info.category_ids, strict=True
    )
    return {
        str(index): {"name": name, "isthing": int(id_ in things)}
        for index, (name, id_) in enumerate(rows)
    }


def test_class_info_in_the_folder_says_what_is_a_thing(tmp_path: Path) -> None:
    folder = plain_checkpoint(
        tmp_path / "m",
        ["road", "car", "hill"],
        kind="oneformer",
        settings={"class_info_file": "mine.json"},
    )
    assert all(item.isthing for item in describe(str(folder)).categories)
    table = {
        "0": {"name": "road", "isthing": 0},
        "1": {"name": "car", "isthing": 1},
        "2": {"name": "Hill", "isthing": 0},
    }
    (folder / "mine.json").write_text(json.dumps(table))
    info = describe(str(folder))
    assert [item.isthing for item in info.categories] == [False, True, False]


@pytest.mark.parametrize("table", ["coco-133", "ade20k-150", "cityscapes-19"])
def test_class_info_without_a_file_is_our_table_and_transformers_reads_it(
    tmp_path: Path, table: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import OneFormerImageProcessor

    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    info = describe(str(plain_checkpoint(tmp_path / "m", names(table), kind="oneformer")))
    (tmp_path / "written.json").write_text(json.dumps(class_info(info)))
    processor: Any = OneFormerImageProcessor(
        repo_path=str(tmp_path), class_info_file="written.json", num_text=4
    )
    things = [i for i, item in enumerate(info.categories) if item.isthing]
    assert processor.metadata["thing_ids"] == things
    assert processor.metadata["class_names"] == names(table)


@pytest.mark.parametrize(
    ("config", "message"),
    [
        (
            {"model_type": "segfromer", "architectures": ["X"]},
            "did you mean 'segformer'?; known: ",
        ),
        (
            {"model_type": "bert", "architectures": ["BertModel"]},
            "model_type 'bert' segments nothing",
        ),
        ({"model_type": None}, "neither"),
        ({"architectures": ["SegformerForImageClassification"]}, "does not segment"),
        ({"architectures": "Segformer"}, "neither"),
        ({"id2label": {}}, "must be 0, 1, 2"),
        ({"id2label": {"0": "a", "2": "b"}}, "must be 0, 1, 2"),
        ({"id2label": {"a": "b"}}, "no table of numbers and names"),
        ({"id2label": 5}, "no table of numbers and names"),
        ({"id2label": {"0": "a", "00": "b"}}, "names an output twice, or by what is no name"),
        ({"id2label": {"0": {"name": "a"}}}, "names an output twice, or by what is no name"),
        ({"id2label": [["a"]]}, "names an output twice, or by what is no name"),
        ({"id2label": {"0": "void"}}, "no output of the model is a category"),
        ({"format": "tflite"}, "has the format 'tflite'"),
        ({"num_channels": 1}, "the network sees pictures of 1 channels"),
        ({"vision_config": {"num_channels": 4}}, "the network sees pictures of 4 channels"),
        ({"backbone_config": {"num_channels": 2}}, "the network sees pictures of 2 channels"),
        (
            {"vision_config": {"backbone_config": {"num_channels": 6}}},
            "the network sees pictures of 6 channels",
        ),
    ],
)
def test_a_config_that_is_no_use_is_named(
    tmp_path: Path, config: dict[str, Any], message: str
) -> None:
    folder = plain_checkpoint(tmp_path / "m", OWN)
    whole = {**json.loads((folder / "config.json").read_text()), **config}
    (folder / "config.json").write_text(json.dumps(whole))
    text = complaint(folder)
    assert message in text
    assert str(folder) in text or "no output" in text


def test_a_new_kind_with_a_semantic_head_is_tried(tmp_path: Path) -> None:
    folder = plain_checkpoint(
        tmp_path / "m", OWN, kind="brandnew", architectures=["NewForSemanticSegmentation"]
    )
    assert describe(str(folder)).family == "semantic"


def test_names_may_be_a_list_or_missing(tmp_path: Path) -> None:
    folder = plain_checkpoint(tmp_path / "m", OWN)
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps({**config, "id2label": ["a", "b"]}))
    assert [item.name for item in describe(str(folder)).categories] == ["a", "b"]
    del config["id2label"]
    (folder / "config.json").write_text(json.dumps({**config, "num_labels": 150}))
    info = describe(str(folder), categories="ade20k-150")
    assert info.category_ids == tuple(range(1, 151))


@pytest.mark.parametrize(
    ("kind", "gone", "message"),
    [
        ("segformer", "preprocessor_config.json", "how pictures go in is not known"),
        ("oneformer", "vocab.json", "holds no tokenizer"),
        ("segformer", "model.safetensors", "holds no .safetensors file"),
    ],
)
def test_a_missing_file_is_named(tmp_path: Path, kind: str, gone: str, message: str) -> None:
    folder = plain_checkpoint(tmp_path / "m", OWN, kind=kind)
    (folder / gone).unlink()
    assert message in complaint(folder)


def test_a_pickle_alone_is_named_with_the_flag(tmp_path: Path) -> None:
    folder = plain_checkpoint(tmp_path / "m", OWN, weights="")
    (folder / "pytorch_model.bin").write_bytes(b"x")
    assert "--allow-pickle" in complaint(folder)
    assert describe(str(folder), allow_pickle=True).weights == ("pytorch_model.bin",)


def test_the_licence_is_in_the_model_cards_head(tmp_path: Path) -> None:
    folder = plain_checkpoint(tmp_path / "m", OWN)
    assert describe(str(folder)).licence == "unknown"
    (folder / "README.md").write_text("---\ntags: [x]\nlicense: cc-by-4.0\n---\n# licence: none\n")
    assert describe(str(folder)).licence == "cc-by-4.0"


def test_a_users_table_goes_before_the_models(tmp_path: Path) -> None:
    folder = plain_checkpoint(tmp_path / "m", OWN, kind="mask2former")
    path = tmp_path / "mine.json"
    rows = [
        {"id": 5, "name": "damage", "isthing": True, "color": "#ff0000", "index": 0},
        {"id": 6, "name": "split", "isthing": True, "color": "#00ff00", "index": 1},
    ]
    path.write_text(json.dumps(rows))
    info = describe(str(folder), categories=str(path))
    assert info.category_ids == (5, 6, 0)
    assert info.tasks == ("instance",)
    assert info.weights_sha256 == describe(str(folder)).weights_sha256


def test_both_real_deeplabs_are_described(shared_data: Path) -> None:
    for width in ("0.5", "1.0"):
        info = describe(str(shared_data / "weights" / f"deeplabv3-mobilenetv2-{width}-voc"))
        assert (info.family, info.tasks, info.table) == ("semantic", ("semantic",), "voc-21")
        assert info.category_ids == tuple(range(1, 22))
        assert info.categories.by_id()[1].is_background
