"""What is kept of the boxes: categories, negative prompts, doubles; boxes through padding."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.models.grids.geometry import FitRule, Frame, Padding, Size
from pipeline.models.grids.outputs import logit
from pipeline.models.text.detections import Detections, boxes_in_picture, select
from pipeline.models.text.phrases import phrases_of
from pipeline.models.text.request import TextRequest, single_texts
from schemas.config.prompts import ConflictsConfig
from schemas.prompts import Ontology

NAN = np.nan
ONTOLOGY = Ontology.parse(
    {
        "category": [
            {"name": "bird", "negative": ["kite"], "min_score": 0.3},
            {"name": "plane", "prompts": ["jet", "glider"]},
        ]
    }
)
"""Phrases: bird, kite (negative), jet, glider."""


def asking(ontology: Ontology = ONTOLOGY, threshold: float = 0.5) -> TextRequest:
    return TextRequest(ontology, tuple(phrases_of(ontology)), threshold, ConflictsConfig())


def seen(*rows: tuple[tuple[float, float, float, float], tuple[float, ...]]) -> Detections:
    return Detections(np.array([row[0] for row in rows]), np.array([row[1] for row in rows]))


A, B, C = (0, 0, 10, 10), (20, 0, 30, 10), (0, 0, 10, 9)


def test_each_box_goes_to_its_best_category() -> None:
    choice = select(
        seen((A, (0.35, 0.1, 0.2, 0.2)), (B, (0.6, 0.1, 0.65, 0.9)), (B, (0.1, 0.1, 0.45, 0.2))),
        asking(),
    )
    assert choice.answers.tolist() == [1, 0]  # the best first; the third stays below 0.5
    assert choice.categories.tolist() == [1, 0]
    assert choice.phrases.tolist() == [3, 0]
    assert choice.scores.tolist() == [0.9, 0.35]


def test_a_negative_prompt_of_the_same_text_wins() -> None:
    choice = select(seen((A, (0.6, 0.7, NAN, NAN)), (B, (0.6, 0.5, NAN, NAN))), asking())
    assert choice.answers.tolist() == [1]


def test_a_negative_prompt_of_another_text_wins_at_the_same_place() -> None:
    birds = ((A, (0.6, NAN, NAN, NAN)), (B, (0.6, NAN, NAN, NAN)))
    assert select(seen(*birds), asking()).answers.tolist() == [0, 1]
    both = seen(*birds, (C, (NAN, 0.7, NAN, NAN)))
    assert select(both, asking()).answers.tolist() == [1]
    weaker = seen(*birds, (C, (NAN, 0.5, NAN, NAN)))
    assert select(weaker, asking()).answers.tolist() == [0, 1]


def test_the_same_box_again_is_left_out_within_a_category_only() -> None:
    choice = select(
        seen(
            ((0, 0, 100, 100), (NAN, NAN, 0.8, NAN)),
            ((0, 0, 100, 97), (NAN, NAN, NAN, 0.9)),  # the other prompt of the category
            ((0, 0, 100, 99), (0.7, NAN, NAN, NAN)),
            ((0, 0, 100, 80), (NAN, NAN, 0.6, NAN)),
        ),
        asking(),
    )
    assert choice.answers.tolist() == [1, 2, 3]


def test_a_box_outside_the_picture_is_none_and_nothing_is_nothing() -> None:
    assert not len(select(seen(((5, 5, 5, 9), (0.9, 0, 0, 0))), asking()).answers)
    empty = Detections(np.zeros((0, 4)), np.zeros((0, 4)))
    assert not len(select(empty, asking()).answers)


def test_three_hundred_categories_with_shared_words_are_exact() -> None:
    """Names that are parts of one another, as in LVIS: the place decides, not the text."""
    names = [f"{'big ' * (i % 4)}bird {i // 4}" for i in range(300)]
    ontology = Ontology.of_prompts(names)
    rng = np.random.default_rng(0)
    truth = rng.permutation(300)
    scores = rng.uniform(0, 0.4, (300, 300))
    scores[np.arange(300), truth] = rng.uniform(0.6, 1, 300)
    scores[rng.uniform(size=scores.shape) < 0.5] = NAN
    scores[np.arange(300), truth] = np.nan_to_num(scores[np.arange(300), truth], nan=0.7)
    corners = rng.uniform(0, 400, (300, 2))
    choice = select(
        Detections(np.concatenate((corners, corners + 5), 1), scores), asking(ontology, 0.5)
    )
    assert len(choice.answers) == 300
    assert (choice.categories == truth[choice.answers]).all()
    assert [names[p] for p in choice.phrases] == [names[c] for c in choice.categories]


sides = st.integers(1, 400)


@given(sides, sides, st.booleans(), st.booleans())
def test_boxes_come_back_through_resizing_and_padding(
    height: int, width: int, centred: bool, stretch: bool
) -> None:
    size = Size("stretch" if stretch else "within", 96, 96)
    rule = FitRule(size=size, padding=Padding(to_hw=(128, 160), centred=centred))
    frame = rule.frame((height, width))
    box = np.array([[0.2 * width, 0.3 * height, 0.7 * width, 0.9 * height]])
    scale = np.array(frame.content_hw[::-1]) / np.array([width, height])
    inside = (box.reshape(2, 2) * scale + np.array(frame.offset_yx[::-1])) / [160, 128]
    centre, extent = inside.mean(0), inside[1] - inside[0]
    back = boxes_in_picture(np.concatenate((centre, extent))[None], frame)
    np.testing.assert_allclose(back, box, atol=1e-9 * max(height, width))


def test_what_lies_on_padding_is_cut_off() -> None:
    frame = Frame((50, 100), (32, 64), (64, 64))
    (box,) = boxes_in_picture(np.array([[0.5, 0.5, 2.0, 2.0]]), frame)
    assert box.tolist() == [0, 0, 100, 50]
    (gone,) = boxes_in_picture(np.array([[0.5, 0.8, 0.1, 0.1]]), frame)
    assert gone[1] == gone[3] == 50


def test_texts_are_filled_up_to_one_length() -> None:
    phrases = phrases_of(Ontology.of_prompts(["ab", "c"]))
    tokens, mask = single_texts(phrases, lambda t: [1, *map(ord, t), 2], limit=5, filler=9)
    assert tokens == [[1, 97, 98, 2, 9], [1, 99, 2, 9, 9]]
    assert mask == [[1, 1, 1, 1, 0], [1, 1, 1, 0, 0]]
    with pytest.raises(ValueError, match="'c' has no token"):
        single_texts(phrases[1:], lambda _: [1, 2], limit=5, filler=9)


def test_the_logit_of_a_probability() -> None:
    assert logit(0.5) == 0
    assert logit(0) == -logit(1) == -np.inf
    assert 1 / (1 + np.exp(-logit(0.2))) == pytest.approx(0.2)
