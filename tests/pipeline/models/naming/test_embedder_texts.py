"""Texts as tokens: filled up, and what cannot be read is said."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from tiny_embedders import embedder_checkpoint

from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.naming.embedder import EmbedderTexts


def info(name: str) -> ModelInfo:
    return describe(str(embedder_checkpoint(name)))


@pytest.mark.parametrize(("name", "length"), [("clip", 24), ("siglip", 24), ("siglip2", 24)])
def test_all_texts_have_the_models_length(name: str, length: int) -> None:
    found = EmbedderTexts.read(info(name), ["a", "red car"])
    assert [len(row) for row in (*found.tokens, *found.mask)] == [length] * 4
    short, long = (sum(row) for row in found.mask)
    assert short < long
    tokens, mask = found.on("cpu")
    assert tokens.shape == mask.shape == (2, length)


def test_the_first_siglip_reads_no_punctuation_and_no_capitals() -> None:
    first, second = (
        EmbedderTexts.read(info(name), ["A  dog!", "a dog"]) for name in ("siglip", "siglip2")
    )
    assert first.tokens[0] == first.tokens[1]
    assert second.tokens[0] != second.tokens[1]
    assert second.tokens == EmbedderTexts.read(info("siglip2"), ["a  DOG!", "A dog"]).tokens


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("clip", "c" * 40, r"'c+' has 42 tokens, start and end included; the model reads 24"),
        ("siglip", "c" * 40, r"has 41 tokens.* reads 24"),
        ("siglip", "!?", r"'!\?' has no token"),
    ],
)
def test_what_cannot_be_read(name: str, text: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        EmbedderTexts.read(info(name), ["fine", text])


@pytest.mark.parametrize(
    ("name", "message"), [("clip", "no tokenizer"), ("siglip", r"no tokenizer\.json")]
)
def test_a_folder_without_a_tokenizer(tmp_path: Path, name: str, message: str) -> None:
    folder = tmp_path / name
    shutil.copytree(embedder_checkpoint(name), folder)
    (folder / "tokenizer.json").unlink()
    with pytest.raises(ValueError, match=message):
        EmbedderTexts.read(describe(str(folder)), ["x"])
