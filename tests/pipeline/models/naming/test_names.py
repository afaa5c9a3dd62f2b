"""From cosines to categories."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tiny_embedders import named_info

from pipeline.models.naming.names import Name, Naming, named_categories, phrase_shares, read_naming
from pipeline.models.text.phrases import Phrase, phrases_of
from pipeline.prompts.request import Exemplar
from schemas.config.model import ModelConfig
from schemas.prompts import Ontology

ANIMALS = Ontology.parse(
    {
        "category": [
            {"name": "dog", "prompts": ["a dog", "a hound"], "negative": ["a toy dog"]},
            {"name": "bird", "id": 9, "min_score": 0.05},
        ]
    }
)


def exemplar(category: str, name: str = "e") -> Exemplar:
    pixels = np.zeros((4, 4, 3), np.uint8)
    return Exemplar(name, category, pixels, (0, 0, 4, 4), "0", (0, 0, 4, 4))


def naming(
    name: str = "clip",
    ontology: Ontology | None = ANIMALS,
    exemplars: tuple[Exemplar, ...] = (),
    threshold: float | None = None,
    **config: Any,
) -> Naming:
    info = named_info(name, ontology, exemplars, **config)
    return read_naming(info, ModelConfig(name="x", threshold=threshold))


NOTHING = np.zeros((1, 0))


def named(one: Naming, *cosines: float, scale: float = 100.0, bias: float = 0.0) -> Name | None:
    (found,) = one.names(np.array([cosines]), NOTHING, scale=scale, bias=bias)
    return found


def test_texts_are_phrases_in_their_template_then_rivals() -> None:
    one = naming(template="a photo of {}.", rivals=["stuff"])
    assert one.texts == (
        "a photo of a dog.",
        "a photo of a hound.",
        "a photo of a toy dog.",
        "a photo of bird.",
        "stuff",
    )
    assert naming("siglip", rivals=["stuff"]).texts == ("a dog", "a hound", "a toy dog", "bird")


def test_the_best_category_wins_and_names_its_phrase() -> None:
    one = naming(rivals=["stuff"])
    assert named(one, 0.30, 0.35, 0.1, 0.2, 0.1) == Name(1, "a hound", 1.0)
    assert named(one, 0.1, 0.1, 0.1, 0.35, 0.1) == Name(9, "bird", 1.0)


def test_rivals_and_negatives_take_what_is_neither() -> None:
    one = naming(rivals=["stuff"])
    assert named(one, 0.30, 0.1, 0.1, 0.1, 0.35) is None
    assert named(one, 0.30, 0.1, 0.35, 0.1, 0.1) is None
    assert named(one, 0.1, 0.1, 0.1, 0.33, 0.35) == Name(9, "bird", 0.1192)  # its own min_score


def test_without_a_rival_one_prompt_would_always_win() -> None:
    one = naming(ontology=Ontology.of_prompts(["cat"]))
    assert named(one, 0.2, 0.21, 0.21, 0.21, 0.21) is None
    alone = naming(ontology=Ontology.of_prompts(["cat"]), rivals=[])
    assert named(alone, 0.2) == Name(1, "cat", 1.0)


def test_ways_to_say_it_share_no_score() -> None:
    one = phrases_of(ANIMALS)
    logits = np.array([[3.0, 3.0, -9.0, 0.0, 0.0]])
    found = phrase_shares(logits, tuple(one))
    total = np.exp(3) + np.exp(-9) + 2
    np.testing.assert_allclose(found[0], np.exp([3, 3, -9, 0]) / total)
    single = phrase_shares(np.array([[3.0, 0.0]]), (Phrase("x", 0),))
    np.testing.assert_allclose(single, [[np.exp(3) / (np.exp(3) + 1)]])


def test_siglip_scores_each_text_for_itself() -> None:
    one = naming("siglip")
    found = named(one, 0.3, 0.2, 0.1, 0.29, scale=10.0, bias=-3.0)
    assert found == Name(1, "a dog", 0.5)
    assert named(one, 0.0, 0.0, 0.0, 0.06, scale=10.0, bias=-3.0) == Name(9, "bird", 0.0832)
    assert named(one, 0.06, 0.0, 0.0, 0.0, scale=10.0, bias=-3.0) is None


def test_the_nearest_exemplar_of_all_gives_the_category() -> None:
    shown = (exemplar("dog", "1"), exemplar("dog", "2"), exemplar("nut", "3"))
    one = naming(exemplars=shown, similarity=0.7)
    texts = np.tile([0.1, 0.1, 0.1, 0.4, *[0.1] * 4], (4, 1))
    looks = np.array([[0.2, 0.9, 0.8], [0.1, 0.2, 0.71], [0.69, 0.1, 0.1], [1.0000001, 0, 0]])
    found = one.names(texts, looks, scale=100.0)
    assert found == [
        Name(1, "2", 0.9),
        Name(10, "3", 0.71),
        Name(9, "bird", 1.0),
        Name(1, "1", 1.0),
    ]
    alone = naming("dinov2", None, shown)
    assert alone.similarity == 0.6
    names = [each and each.prompt for each in alone.names(np.zeros((4, 0)), looks)]
    assert names == ["2", "3", "1", "1"]


def test_the_table_has_what_texts_then_exemplars_ask_for() -> None:
    shown = [exemplar("nut"), exemplar("bird"), exemplar("nut")]
    found = named_categories(ANIMALS, shown, keep_unnamed=True)
    assert [(item.id, item.name) for item in found] == [
        (1, "dog"),
        (9, "bird"),
        (10, "nut"),
        (11, "object"),
    ]
    assert len({item.color for item in found}) == 4
    with pytest.raises(ValueError, match=r"naming\.keep_unnamed: .*'object'"):
        named_categories(Ontology.of_prompts(["object"]), [], keep_unnamed=True)


def test_what_cannot_be_asked_is_said() -> None:
    with pytest.raises(ValueError, match="by words or by exemplars: give --prompt"):
        naming(ontology=None)
    with pytest.raises(ValueError, match=r"reads no words .*give --exemplar"):
        naming("dinov2")
