"""A phrase of which a tokenizer knows nothing is refused by name."""

from __future__ import annotations

import pytest
from tiny_text import text_info

from pipeline.models.grounding_dino import text_chunks
from pipeline.models.text.phrases import known_tokens
from pipeline.models.text.request import read_asking
from schemas.config.model import ModelConfig
from schemas.prompts import Ontology


@pytest.mark.parametrize(
    ("tokens", "ends", "known"),
    [
        ([100, 100], 0, []),
        ([100, 7], 0, [100, 7]),
        ([1, 100, 100, 2], 1, [1, 2]),
        ([1, 2], 1, [1, 2]),
        ([100, 7, 100], 1, [100, 7, 100]),  # CLIP's unknown token is its end
    ],
)
def test_unknown_tokens_alone_say_nothing(tokens: list[int], ends: int, known: list[int]) -> None:
    assert known_tokens(tokens, 100, start=ends, end=ends) == known
    assert known_tokens(tokens, None, start=ends, end=ends) == tokens


@pytest.mark.parametrize("kind", ["grounding-dino", "mm-grounding-dino"])
@pytest.mark.parametrize("text", ["\N{CAT FACE}", "猫", "\N{CAT FACE} \N{DOG FACE}"])
def test_grounding_dino_refuses_what_bert_does_not_know(kind: str, text: str) -> None:
    def chunks(*prompts: str):
        info = text_info(kind, Ontology.of_prompts(prompts))
        return text_chunks(info, read_asking(info, ModelConfig(name="m")))

    with pytest.raises(ValueError, match=f"{text!r} has no token that the model knows"):
        chunks("cat", text)
    assert len(chunks("cat", f"cat {text}")) == 1
