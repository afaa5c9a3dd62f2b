"""Which category each output of a model is: found, made, or chosen."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.checkpoints.category_tables import category_table
from pipeline.models.checkpoints.description import map_chosen, map_outputs
from schemas.categories import Categories

ROAD = {"id": 7, "name": "road", "isthing": False, "color": "#101010"}
CAR = {"id": 3, "name": "car", "isthing": True, "color": "#202020"}
REST = {"id": 9, "name": "rest", "isthing": False, "color": "#000000", "is_background": True}


def complaint(names: list[str], chosen: Any) -> str:
    with pytest.raises(ValueError, match="categories") as caught:
        map_chosen(names, chosen)
    assert "\n" not in str(caught.value)
    return str(caught.value)


def test_known_names_take_the_tables_ids() -> None:
    names = [item.name for item in category_table("coco-80").categories]
    found = map_outputs(names, isthing=[False] * 80)
    assert found.table == "coco-80"
    assert found.ids[-1] == 90
    assert all(item.isthing for item in found.categories)


def test_unknown_names_make_a_table_of_their_own() -> None:
    names = ["background", "rust", "N/A", "crack", "Unlabelled"]
    found = map_outputs(names, isthing=[True, True, True, False, True])
    assert found.table == ""
    assert found.ids == (1, 2, 0, 3, 0)
    assert [(c.name, c.isthing, c.is_background) for c in found.categories] == [
        ("background", False, True),
        ("rust", True, False),
        ("crack", False, False),
    ]


def test_a_name_that_comes_twice_is_numbered() -> None:
    found = map_outputs(["a", "a", "b", "a"], isthing=[True] * 4)
    assert [item.name for item in found.categories] == ["a", "a (2)", "b", "a (3)"]


def test_colours_differ_and_are_always_the_same() -> None:
    names = [f"c{index}" for index in range(300)]
    colors = [item.color for item in map_outputs(names, isthing=[True] * 300).categories]
    assert len(set(colors)) == 300
    fewer = map_outputs(names[:5], isthing=[True] * 5).categories
    assert [item.color for item in fewer] == colors[:5]


def test_a_model_of_nothing_is_refused() -> None:
    with pytest.raises(ValueError, match="no output"):
        map_outputs(["void", "N/A"], isthing=[True, True])


@given(st.lists(st.text(), min_size=1, max_size=30))
def test_every_output_is_a_category_or_none(names: list[str]) -> None:
    try:
        found = map_outputs(names, isthing=[True] * len(names))
    except ValueError:
        return
    assert len(found.ids) == len(names)
    assert {id_ for id_ in found.ids if id_} == set(found.categories.by_id())


def test_a_built_in_table_is_taken_by_name_as_far_as_the_model_goes() -> None:
    found = map_chosen(["Person", "void", "bicycle", "sky"], "cityscapes-19")
    assert found.ids == (24, 0, 33, 23)
    assert [item.id for item in found.categories] == [23, 24, 33]
    assert found.table == "cityscapes-19"


def test_a_built_in_table_is_taken_by_order_where_names_tell_nothing() -> None:
    found = map_chosen([f"LABEL_{index}" for index in range(150)], "ade20k-150")
    assert found.ids == tuple(range(1, 151))


@pytest.mark.parametrize(
    ("names", "chosen", "message"),
    [
        (["person", "skyy"], "cityscapes-19", "no category for output 1, 'skyy'; did you mean"),
        (["person", "Person"], "coco-80", "two outputs are category 1"),
        (["void", "n/a"], "coco-80", "no output of the model is a category of coco-80"),
        (["a"], "coco-8", "neither a table nor a JSON file; did you mean 'coco-80'"),
        (["a"], "gone.json", "neither a table nor a JSON file"),
        (["a"], [], "must be a list of at least one category"),
        (["a"], [5], "must be a list of at least one category"),
        (["a"], {"id": 1}, "must be a list of at least one category"),
        (["a"], [{**CAR, "name": ""}], "name must be text"),
        (["a"], [{**CAR, "indx": 0}], "indx"),
        (["a", "b"], [CAR, CAR], "two categories have the id 3"),
        (["a", "b"], [{**CAR, "index": 2}], "index of 'car' is 2; it must be a number from 0 to 1"),
        (["a", "b"], [{**CAR, "index": True}], "index of 'car' is True"),
        (["a", "b"], [{**CAR, "index": 0}, ROAD], "index of 'road' is None"),
        (["a", "b"], [{**CAR, "index": 0}, {**ROAD, "index": 0}], "two categories have the index"),
        (["car", "rood"], [CAR, ROAD], "no output of the model is called 'road'; did you mean"),
        (["a", "b", "c"], [CAR, ROAD], "2 categories for a model of 3 outputs"),
    ],
)
def test_what_does_not_fit_is_named(names: list[str], chosen: Any, message: str) -> None:
    assert message in complaint(names, chosen)


def test_an_index_names_the_output() -> None:
    found = map_chosen(["a", "b", "c"], [{**CAR, "index": 2}, {**ROAD, "index": 0}])
    assert found.ids == (7, 0, 3)
    assert found.categories == Categories.from_json([CAR, ROAD])
    assert found.table == ""


def test_without_an_index_names_decide_and_the_rest_is_dropped() -> None:
    assert map_chosen(["Sky", "ROAD", "car"], [CAR, ROAD]).ids == (0, 7, 3)
    assert map_chosen(["background", "car"], [CAR, REST]).ids == (9, 3)


def test_without_names_order_decides() -> None:
    assert map_chosen(["LABEL_0", "LABEL_1"], [CAR, ROAD]).ids == (3, 7)
    assert map_chosen(["category 1", "background"], [CAR]).ids == (3, 0)
    assert map_chosen(["category 1", "background"], [REST, CAR]).ids == (3, 9)
    assert map_chosen(["LABEL_0", "LABEL_1", "LABEL_2"], [REST, CAR, ROAD]).ids == (9, 3, 7)


@pytest.mark.parametrize("wrap", [lambda rows: rows, lambda rows: {"categories": rows}])
def test_a_file_holds_the_list_or_a_table_of_it(tmp_path: Path, wrap) -> None:
    path = tmp_path / "mine.json"
    path.write_text(json.dumps(wrap([CAR, ROAD])))
    assert map_chosen(["road", "car"], str(path)).ids == (7, 3)


def test_the_documents_example_is_one() -> None:
    text = (Path(__file__).parents[4] / "docs" / "models.md").read_text(encoding="utf-8")
    examples = re.findall(r"```json\n(.*?)```", text, re.DOTALL)
    (example,) = [each for each in examples if each.startswith("[")]  # a table, no settings
    names = [item.name for item in category_table("cityscapes-19").categories]
    found = map_chosen(names, json.loads(example))
    assert found.ids == (1, *[0] * 12, 3, *[0] * 5)
    assert [names[index] for index, id_ in enumerate(found.ids) if id_] == ["road", "car"]


@pytest.mark.parametrize("text", ["", "{", "5", "{}", "[" * 50_000])
def test_a_broken_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "mine.json"
    path.write_text(text)
    assert f"model.categories: {path}" in complaint(["a"], str(path))
