"""The tables agree with the data sets, with torchvision, and with each other."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from torchvision.models._meta import _COCO_CATEGORIES, _VOC_CATEGORIES

from pipeline.models.checkpoints.category_tables import (
    TABLES,
    category_table,
    find_table,
    plain_name,
)

ADE_OF_SEGFORMER = {
    6: "road", 7: "bed ", 8: "windowpane", 11: "sidewalk", 13: "earth", 37: "bathtub",
    38: "railing", 87: "streetlight", 89: "television receiver", 90: "airplane", 92: "apparel",
    109: "swimming pool", 113: "waterfall", 138: "ashcan",
}  # fmt: skip
"""Number of an output → the name that SegFormer, BEiT, DPT and UperNet have for it."""
ADE_OF_ONEFORMER = {
    6: "road, route", 8: "window ", 44: "chest of drawers, chest, bureau, dresser",
    58: "screen door, screen",
    63: "blind, screen", 65: "toilet, can, commode, crapper, pot, potty, stool, throne",
    99: "buffet, counter, sideboard", 121: "step, stair",
}  # fmt: skip
"""The same of OneFormer and Mask2Former: the data set's own lists of synonyms."""


def names(table: str) -> list[str]:
    return [item.name for item in category_table(table).categories]


def changed(table: str, changes: dict[int, str]) -> list[str]:
    found = names(table)
    for index, name in changes.items():
        found[index] = name
    return found


@pytest.mark.parametrize("name", TABLES)
def test_a_table_has_as_many_categories_as_its_name_says(name: str) -> None:
    table = category_table(name)
    assert len(table.categories) == int(name.rpartition("-")[2])
    assert table.note
    assert set(table.ids.values()) == set(table.categories.by_id())
    for item in table.categories:
        assert table.ids[plain_name(item.name)] == item.id


@pytest.mark.parametrize("name", TABLES)
def test_every_spelling_means_one_category(name: str) -> None:
    path = Path(__file__).parents[4] / "pipeline" / "models" / "tables"
    whole = {"coco-80": "coco-133", "ade20k-100": "ade20k-150", "cityscapes-8": "cityscapes-19"}
    whole["voc-20"] = "voc-21"
    rows = json.loads((path / f"{whole.get(name, name)}.json").read_text())["categories"]
    spellings = [
        plain_name(each) for row in rows for each in (row["name"], *row.get("synonyms", ()))
    ]
    assert len(set(spellings)) == len(spellings)


@pytest.mark.parametrize(("name", "things"), [
    ("coco-133", 80), ("coco-80", 80), ("ade20k-150", 100), ("ade20k-100", 100),
    ("cityscapes-19", 8), ("cityscapes-8", 8), ("voc-21", 20), ("camvid-11", 3),
])  # fmt: skip
def test_things_are_counted(name: str, things: int) -> None:
    assert sum(item.isthing for item in category_table(name).categories) == things


def test_coco_is_the_data_sets_own(shared_data: Path) -> None:
    path = shared_data / "coco-panoptic" / "panoptic_coco_categories.json"
    theirs = json.loads(path.read_text())
    assert [item.to_coco() for item in category_table("coco-133").categories] == [
        {key: row[key] for key in ("id", "name", "supercategory", "isthing", "color")}
        for row in theirs
    ]
    photos = json.loads((shared_data / "coco-photos" / "instances.json").read_text())
    things = {item.id: item.name for item in category_table("coco-80").categories}
    assert things == {row["id"]: row["name"] for row in photos["categories"]}
    assert max(things) == 90


def test_coco_has_torchvisions_numbers() -> None:
    found = find_table(_COCO_CATEGORIES)
    assert found
    table, ids = found
    assert table.name == "coco-80"
    assert len(ids) == 91
    assert all(id_ in (0, number) for number, id_ in enumerate(ids))
    assert sum(map(bool, ids)) == 80


def test_voc_is_torchvisions_and_has_the_known_colours(shared_data: Path) -> None:
    found = find_table(_VOC_CATEGORIES)
    assert found
    table, ids = found
    assert table.name == "voc-21"
    assert ids == tuple(range(1, 22))
    by_id = table.categories.by_id()
    assert [item.id for item in table.categories if item.is_background] == [1]
    colours = {1: "#000000", 2: "#800000", 3: "#008000", 16: "#c08080", 21: "#004080"}
    assert {id_: by_id[id_].color for id_ in colours} == colours
    for width in ("0.5", "1.0"):
        folder = shared_data / "weights" / f"deeplabv3-mobilenetv2-{width}-voc"
        given = json.loads((folder / "config.json").read_text())["id2label"]
        assert find_table([given[str(index)] for index in range(21)]) == (table, ids)


def test_ade_is_the_benchmarks() -> None:
    by_id = category_table("ade20k-150").categories.by_id()
    assert [*by_id] == list(range(1, 151))
    assert (by_id[1].name, by_id[1].color, by_id[1].isthing) == ("wall", "#787878", False)
    assert (by_id[13].name, by_id[13].isthing) == ("person", True)
    assert (by_id[150].name, by_id[150].color) == ("flag", "#5c00ff")


def test_cityscapes_has_the_data_sets_ids_in_the_order_of_train_ids() -> None:
    table = category_table("cityscapes-19").categories
    ids = [7, 8, 11, 12, 13, 17, 19, 20, 21, 22, 23, 24, 25, 26, 27, 28, 31, 32, 33]
    assert [item.id for item in table] == ids
    assert [item.name for item in table if item.isthing] == [
        "person", "rider", "car", "truck", "bus", "train", "motorcycle", "bicycle",
    ]  # fmt: skip
    assert table.by_name()["road"].color == "#804080"


def test_camvid_is_the_order_of_its_label_files(shared_data: Path) -> None:
    lines = (shared_data / "camvid" / "classes.txt").read_text().split("\n")
    theirs = [line.split()[1] for line in lines if line.strip()]
    found = find_table(theirs)
    assert found
    assert found[0].name == "camvid-11"
    assert found[1] == (*range(1, 12), 0)


@pytest.mark.parametrize("changes", [ADE_OF_SEGFORMER, ADE_OF_ONEFORMER])
def test_ades_two_ways_to_name_are_one_table(changes: dict[int, str]) -> None:
    table = category_table("ade20k-150")
    for index, name in changes.items():
        assert table.ids[plain_name(name)] == index + 1
    found = find_table(changed("ade20k-150", changes))
    assert found == (table, tuple(range(1, 151)))


def test_names_fit_in_any_case_and_any_order() -> None:
    shuffled = [name.upper().replace(" ", "_") for name in reversed(names("cityscapes-19"))]
    found = find_table(["N/A", *shuffled, "void", "background"])
    assert found
    assert found[0].name == "cityscapes-19"
    assert found[1] == (0, *reversed([*category_table("cityscapes-19").categories.by_id()]), 0, 0)


@pytest.mark.parametrize("name", TABLES)
def test_every_table_finds_itself(name: str) -> None:
    found = find_table(names(name))
    assert found
    assert found[0].name == name


def test_nine_of_ten_names_in_order_are_enough() -> None:
    odd = {index: f"strange {index}" for index in range(15)}
    found = find_table(changed("ade20k-150", odd))
    assert found
    assert found[1] == tuple(range(1, 151))
    assert find_table(changed("ade20k-150", {**odd, 15: "strange 15"})) is None


@pytest.mark.parametrize(
    "given",
    [
        [],
        ["person"],
        ["person", "car", "background"],
        [f"LABEL_{index}" for index in range(150)],
        [*names("coco-80"), "drone"],
        names("coco-80")[:-1],
        ["person", *names("coco-80")],
        ["N/A"] * 80,
    ],
)
def test_other_sets_fit_no_table(given: list[str]) -> None:
    assert find_table(given) is None


def test_an_unknown_table_is_named_with_the_nearest() -> None:
    with pytest.raises(ValueError, match=r"did you mean 'coco-133'.*known: coco-133, coco-80"):
        category_table("coco-134")
