"""Ontologies: prompts, ids, colours, and what is refused."""

from __future__ import annotations

import pytest

from schemas.prompts import Ontology

TEXT = """
[[category]]
name = "traffic light"
prompts = ["traffic light", "stop light"]
negative = ["street lamp"]
min_score = 0.3
parent = "signal"

[[category]]
name = "road"
id = 40
isthing = false
color = "#808080"
"""


def test_a_file_gives_categories_with_their_own_or_counted_ids() -> None:
    ontology = Ontology.from_toml(TEXT, "o.toml")
    light, road = ontology.categories()
    assert (light.id, light.name, light.supercategory, light.isthing) == (
        1,
        "traffic light",
        "signal",
        True,
    )
    assert (road.id, road.isthing, road.color) == (40, False, "#808080")
    assert ontology.category[0].phrases == ("traffic light", "stop light")
    assert ontology.category[1].phrases == ("road",)


def test_prompts_alone_are_one_category_each() -> None:
    table = Ontology.of_prompts(["a bird with red wings", " cat "]).categories()
    assert [(c.id, c.name, c.isthing) for c in table] == [
        (1, "a bird with red wings", True),
        (2, "cat", True),
    ]


def test_three_hundred_categories_have_their_own_ids_and_colours() -> None:
    table = Ontology.of_prompts([f"thing {n}" for n in range(300)]).categories()
    assert [c.id for c in table] == list(range(1, 301))
    assert len({c.color for c in table}) > 290


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("[[category]]\nnam = 'a'", ["o.toml", "category.0.nam", "did you mean 'name'"]),
        ("[[category]]\nname = ''", ["category.0.name"]),
        ("", ["category: missing"]),
        ("category = []", ["at least 1"]),
        ("[[category]", ["o.toml is not TOML"]),
        ("[[category]]\nname='a'\n[[category]]\nname='a'", ["the name a"]),
        ("[[category]]\nname='a'\nid=2\n[[category]]\nname='b'", ["the id 2"]),
        ("[[category]]\nname='a'\n[[category]]\nname='b'\nprompts=['A']", ["the prompt a"]),
        ("[[category]]\nname='a'\nnegative=['A']", ["both a prompt and a negative"]),
        ("[[category]]\nname='a'\nid=0", ["category.0.id", "got 0"]),
        ("[[category]]\nname='a'\nmin_score=2", ["category.0.min_score"]),
        ("[[category]]\nname='a'\ncolor='red'", ["category.0.color"]),
    ],
)
def test_mistakes_name_the_file_and_the_key(text: str, words: list[str]) -> None:
    with pytest.raises(ValueError, match=r".") as error:
        Ontology.from_toml(text, "o.toml")
    for word in words:
        assert word in str(error.value)
