"""Packing phrases into texts, and giving answers to categories."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.text.phrases import Phrase, choose, chunked, phrases_of
from schemas.prompts import Ontology


def letters(text: str) -> list[int]:
    return [ord(letter) for letter in text if letter != " "]


PARTS = {"start": [1], "between": [3], "end": [2]}


@given(st.lists(st.text("abc ", min_size=1).filter(str.strip), min_size=1, max_size=30))
def test_every_phrase_stands_once_whole_and_in_order(texts: list[str]) -> None:
    phrases = [Phrase(text, 0) for text in texts]
    limit = max(len(letters(text)) for text in texts) + 3 + 5
    chunks = chunked(phrases, letters, limit=limit, **PARTS)
    assert [i for chunk in chunks for i in chunk.phrases] == list(range(len(texts)))
    for chunk in chunks:
        assert len(chunk.tokens) <= limit
        assert (chunk.tokens[0], chunk.tokens[-1]) == (1, 2)
        for index, (first, last) in zip(chunk.phrases, chunk.spans, strict=True):
            assert list(chunk.tokens[first:last]) == letters(texts[index])
            assert chunk.tokens[last] == 3
    for one, following in pairwise(chunks):  # no text is closed too early
        first, last = following.spans[0]
        assert len(one.tokens) + last - first + 1 > limit


def test_phrases_that_do_not_fit_are_named() -> None:
    with pytest.raises(ValueError, match=r"'abcdef' has 6 tokens.* room for 5"):
        chunked([Phrase("abcdef", 0)], letters, limit=8, **PARTS)
    with pytest.raises(ValueError, match=r"'  ' has no token"):
        chunked([Phrase("  ", 0)], letters, limit=8, **PARTS)


ONTOLOGY = Ontology.parse(
    {
        "category": [
            {"name": "light", "prompts": ["traffic light", "stop light"], "negative": ["lamp"]},
            {"name": "bird", "min_score": 0.7},
            {"name": "wing"},
        ]
    }
)
PHRASES = phrases_of(ONTOLOGY)


def test_phrases_of_an_ontology() -> None:
    assert [(p.text, p.category, p.negative) for p in PHRASES] == [
        ("traffic light", 0, False),
        ("stop light", 0, False),
        ("lamp", 0, True),
        ("bird", 1, False),
        ("wing", 2, False),
    ]


@pytest.mark.parametrize(
    ("row", "expected"),
    [
        ([0.4, 0.6, 0.1, 0.2, 0.1], (0, 1, 0.6)),
        ([0.4, 0.6, 0.6, 0.2, 0.1], (0, 1, 0.6)),  # as well as, not better than, the negative
        ([0.4, 0.6, 0.61, 0.2, 0.1], None),
        ([0.1, 0.1, 0.9, 0.8, 0.1], (1, 3, 0.8)),  # another category's negative says nothing
        ([0.1, 0.1, 0.0, 0.69, 0.1], None),  # below its own threshold, above the common one
        ([0.1, 0.1, 0.0, 0.2, 0.3], (2, 4, 0.3)),
        ([0.1, 0.1, 0.0, 0.2, 0.29], None),
    ],
)
def test_an_answer_goes_to_the_category_that_fits_best(row: list[float], expected) -> None:
    choice = choose(np.array([row]), PHRASES, ONTOLOGY, threshold=0.3)
    if expected is None:
        assert not len(choice.answers)
    else:
        assert (choice.categories[0], choice.phrases[0], choice.scores[0]) == expected


def test_the_best_comes_first_and_equal_ones_in_their_order() -> None:
    rows = np.zeros((4, 5))
    rows[:, 4] = [0.5, 0.9, 0.5, 0.1]
    choice = choose(rows, PHRASES, ONTOLOGY, threshold=0.3)
    assert choice.answers.tolist() == [1, 0, 2]
    assert not len(choose(np.zeros((0, 5)), PHRASES, ONTOLOGY, threshold=0.3).answers)


def test_three_hundred_categories_with_shared_words_are_told_apart() -> None:
    ontology = Ontology.of_prompts([f"thing {n} of many things" for n in range(300)])
    phrases = phrases_of(ontology)
    chunks = chunked(phrases, lambda t: [ord(c) for c in t], limit=256, **PARTS)
    assert len(chunks) > 20
    rng = np.random.default_rng(0)
    truth = rng.permutation(300)
    scores = rng.uniform(0, 0.2, (300, 300))
    scores[np.arange(300), truth] = 0.9
    choice = choose(scores, phrases, ontology, threshold=0.3)
    found = dict(zip(choice.answers.tolist(), choice.categories.tolist(), strict=True))
    assert found == dict(enumerate(truth.tolist()))
