"""Phrases: what a text-prompted model reads, and which category each of its answers is. No torch.

A model's answer is tied to a phrase by the place of the phrase's tokens, never by comparing text:
two phrases that share words cannot be confused, however many there are.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from schemas.prompts import Ontology

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Phrase:
    """One thing to look for.

    Attributes:
        text: As the ontology has it.
        category: Index of its category in the ontology.
        negative: What is mistaken for the category, not a way to say it.
    """

    text: str
    category: int
    negative: bool = False


@dataclass(frozen=True, slots=True)
class Chunk:
    """Phrases that go through a model together.

    Attributes:
        phrases: Indices of the phrases.
        tokens: What the model reads.
        spans: Where each phrase's tokens stand in it: first, one past the last.
    """

    phrases: tuple[int, ...]
    tokens: tuple[int, ...]
    spans: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True)
class Choice:
    """Answers that are kept, the best first.

    Attributes:
        answers: n, index of the answer (a box or a region).
        categories: n, index of the category in the ontology.
        phrases: n, index of the phrase.
        scores: n, in 0…1.
    """

    answers: Ints
    categories: Ints
    phrases: Ints
    scores: Floats


def phrases_of(ontology: Ontology) -> list[Phrase]:
    """All phrases, category by category, the negative ones after each category's own."""
    return [
        Phrase(text, index, negative)
        for index, category in enumerate(ontology.category)
        for negative, texts in ((False, category.phrases), (True, category.negative))
        for text in texts
    ]


def known_tokens(
    tokens: Sequence[int], unknown: int | None, *, start: int = 0, end: int = 0
) -> list[int]:
    """The tokens of a text; without those between its ends where none of them means anything.

    A tokenizer with a closed vocabulary (BERT's lacks emoji and many scripts) writes one token for
    all that it does not know. A phrase of nothing else would ask for anything at all.

    Args:
        tokens: Of one text.
        unknown: The token for what is not in the vocabulary; None where there is none.
        start: Tokens that mark the start.
        end: Tokens that mark the end.
    """
    inner = tokens[start : len(tokens) - end]
    if unknown is None or any(token != unknown for token in inner):
        return list(tokens)
    return [*tokens[:start], *tokens[len(tokens) - end :]]


def chunked(
    phrases: Sequence[Phrase],
    tokenize: Callable[[str], Sequence[int]],
    *,
    limit: int,
    start: Sequence[int],
    between: Sequence[int],
    end: Sequence[int],
) -> list[Chunk]:
    """Packs phrases into as few texts as their order allows.

    Args:
        phrases: In order.
        tokenize: Text → its tokens, without any that mark start or end.
        limit: Tokens a text at most, all included.
        start: Tokens before the first phrase.
        between: Tokens after each phrase.
        end: Tokens after the last.

    Raises:
        ValueError: A phrase is too long for a text of its own, or has no token.
    """
    chunks: list[Chunk] = []
    indices: list[int] = []
    tokens: list[int] = list(start)
    spans: list[tuple[int, int]] = []

    def close() -> None:
        if indices:
            chunks.append(Chunk(tuple(indices), (*tokens, *end), tuple(spans)))

    for index, phrase in enumerate(phrases):
        own = list(tokenize(phrase.text))
        if not own:
            raise ValueError(f"the prompt {phrase.text!r} has no token that the model knows")
        size = len(own) + len(between)
        if len(start) + size + len(end) > limit:
            raise ValueError(
                f"the prompt {phrase.text!r} has {len(own)} tokens; with {limit} at most in a "
                f"text there is room for {limit - len(start) - len(between) - len(end)}"
            )
        if len(tokens) + size + len(end) > limit:
            close()
            indices, tokens, spans = [], list(start), []
        spans.append((len(tokens), len(tokens) + len(own)))
        indices.append(index)
        tokens += [*own, *between]
    close()
    return chunks


def choose(
    scores: Floats, phrases: Sequence[Phrase], ontology: Ontology, *, threshold: float
) -> Choice:
    """Gives each answer its best category, if that is good enough.

    An answer goes to the category whose best phrase fits best. It is dropped where that score is
    below the category's threshold, or where one of the category's negative phrases fits better.

    Args:
        scores: n×p in 0…1, of every answer and phrase.
        phrases: p.
        ontology: Whose categories they are.
        threshold: Of categories that set none.
    """
    count = len(ontology.category)
    best = np.full((len(scores), count), -1.0)
    which = np.zeros((len(scores), count), np.int64)
    against = np.full((len(scores), count), -1.0)
    for place, phrase in enumerate(phrases):
        column = scores[:, place]
        target = against if phrase.negative else best
        better = column > target[:, phrase.category]
        target[better, phrase.category] = column[better]
        if not phrase.negative:
            which[better, phrase.category] = place
    every = np.arange(len(scores))
    found = best.argmax(1) if len(scores) else np.zeros(0, np.int64)
    score = best[every, found]
    least = np.array(
        [threshold if item.min_score is None else item.min_score for item in ontology.category]
    )
    keep = np.flatnonzero((score >= least[found]) & (score >= against[every, found]))
    keep = keep[np.argsort(-score[keep], kind="stable")]
    return Choice(keep, found[keep], which[keep, found[keep]], score[keep])
