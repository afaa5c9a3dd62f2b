"""Categories: round trips, and what a table refuses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.categories import Categories, Category

GOOD: dict[str, Any] = {"id": 7, "name": "cell", "isthing": True, "color": "#0a10ff"}

TABLES = st.lists(
    st.builds(
        Category,
        id=st.integers(1, 2**31 - 1),
        name=st.text(min_size=1),
        isthing=st.just(False),
        color=st.from_regex(r"#[0-9a-f]{6}", fullmatch=True),
        supercategory=st.text(),
        is_background=st.booleans(),
    ),
    unique_by=(lambda item: item.id, lambda item: item.name),
).map(lambda items: Categories(tuple(items)))


@given(TABLES)
def test_a_table_survives_json_in_its_order(table: Categories) -> None:
    again = Categories.from_json(json.loads(json.dumps(table.to_json())))
    assert again == table
    assert list(again.by_id()) == [item.id for item in table]
    assert list(again.by_name()) == [item.name for item in table]
    assert len(again) == len(table.items)


def test_coco_entry_has_the_panoptic_keys() -> None:
    assert Category(**GOOD, supercategory="tissue").to_coco() == {
        "id": 7,
        "name": "cell",
        "supercategory": "tissue",
        "isthing": 1,
        "color": [10, 16, 255],
    }
    stuff = {**GOOD, "isthing": False}
    assert Category(**stuff).to_coco()["isthing"] == 0


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"id": 0}, "'cell': id must be"),
        ({"id": -3}, "'cell': id must be"),
        ({"id": 2**31}, "'cell': id must be"),  # the column has 32 bits
        ({"id": 1.5}, "'cell': id must be"),
        ({"id": "1"}, "'cell': id must be"),
        ({"name": ""}, "category 7: name"),
        ({"name": 5}, "category 7: name"),
        ({"color": "#0A10FF"}, "'cell': color must be '#rrggbb', got '#0A10FF'"),
        ({"color": "red"}, "'cell': color"),
        ({"color": "#0a10ff\n"}, "'cell': color"),
        ({"color": [1, 2, 3]}, "'cell': color"),
        ({"isthing": 1}, "'cell': isthing must be true or false"),
        ({"is_background": True}, "'cell': background cannot be a thing"),
        ({"colour": "#000000"}, "bad category entry"),
    ],
)
def test_a_bad_entry_is_refused_by_name(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message) as caught:
        Categories.from_json([{**GOOD, **change}])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("missing", ["id", "name", "isthing", "color"])
def test_a_missing_key_is_named(missing: str) -> None:
    row = {key: value for key, value in GOOD.items() if key != missing}
    with pytest.raises(ValueError, match=missing):
        Categories.from_json([row])


@pytest.mark.parametrize("rows", [5, None, "abc", [5], [None], [[]]])
def test_what_is_no_list_of_entries_is_refused(rows: Any) -> None:
    with pytest.raises(ValueError, match="bad category entry"):
        Categories.from_json(rows)


def test_ids_and_names_are_unique() -> None:
    other = {**GOOD, "name": "other"}
    with pytest.raises(ValueError, match="two categories have the id 7"):
        Categories.from_json([GOOD, other])
    with pytest.raises(ValueError, match="two categories have the name 'cell'"):
        Categories.from_json([GOOD, {**GOOD, "id": 8}])
