"""Tables of what is learned: chosen, joined, numbered."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from pipeline.evaluation.sources.categories import ScoredCategory
from pipeline.training.categories import (
    chosen_table,
    joined_table,
    numbered_table,
    palette,
    with_background,
)
from schemas.categories import Categories


def test_a_table_is_chosen_by_name_or_file(tmp_path: Path):
    camvid = chosen_table("camvid-11")
    assert [item.id for item in camvid] == list(range(1, 12))
    path = tmp_path / "own.json"
    path.write_text(json.dumps({"categories": camvid.to_json()}))
    assert chosen_table(str(path)) == camvid
    with pytest.raises(ValueError, match="did you mean 'camvid-11'"):
        chosen_table("camvid-1")
    path.write_text("[3]")
    with pytest.raises(ValueError, match=r"own\.json"):
        chosen_table(str(path))


def test_tables_of_several_datasets_are_joined():
    first = {7: ScoredCategory(7, "sky", False, color="#102030"), 2: ScoredCategory(2, "car")}
    second = {7: ScoredCategory(7, "sky", False), 9: ScoredCategory(9, "rest", False, True)}
    table = joined_table([("a", first), ("b", second)])
    assert [(item.id, item.name, item.color) for item in table] == [
        (2, "car", palette(2)),
        (7, "sky", "#102030"),
        (9, "rest", "#000000"),
    ]
    assert not table.by_id()[7].isthing


@pytest.mark.parametrize("other", [ScoredCategory(7, "sea"), ScoredCategory(8, "sky")])
def test_contradictions_are_named(other: ScoredCategory):
    with pytest.raises(ValueError, match=r"b: category [78] 's(ea|ky)' stands under another"):
        joined_table([("a", {7: ScoredCategory(7, "sky")}), ("b", {other.id: other})])


def test_nameless_ids_are_numbered_from_one():
    assert [item.name for item in numbered_table({4, 2})] == ["category 2", "category 4"]
    with pytest.raises(ValueError, match="set pixel_offset or void"):
        numbered_table({0, 1})


def test_background_is_added_once():
    table = with_background(numbered_table({4, 2}))
    assert [(item.id, item.is_background) for item in table] == [(2, False), (4, False), (5, True)]
    assert with_background(table) == table
    assert with_background(Categories(())).items[0].id == 1
