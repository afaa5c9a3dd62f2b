"""Naming: from cosines to the categories of masks. No torch here."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.models.checkpoints.families import OBJECT, EmbedderKind, embedder_kind
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.models.text.phrases import Phrase, choose, phrases_of
from pipeline.prompts.request import Exemplar, MaskExemplar
from schemas.categories import Categories, Category, color_at
from schemas.config.model import ModelConfig, NamingConfig
from schemas.prompts import Ontology

Floats = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Name:
    """What a mask is.

    Attributes:
        category_id: Of the job's table.
        prompt: The text, or the exemplar, that found it.
        score: 0…1.
    """

    category_id: int
    prompt: str
    score: float


@dataclass(frozen=True, slots=True)
class Naming:
    """What masks are compared with, and what is good enough.

    Attributes:
        kind: Of the embedder.
        config: The section of the job.
        ontology: Categories that texts describe, or None.
        phrases: Their texts, the negative ones among them.
        exemplars: Objects that show categories.
        exemplar_ids: The category id of each.
        threshold: Score of a text at least, for categories that set none.
        similarity: Cosine to an exemplar at least.
        unnamed: Category id of masks that look like nothing asked; 0 = they are dropped.
    """

    kind: EmbedderKind
    config: NamingConfig
    ontology: Ontology | None
    phrases: tuple[Phrase, ...]
    exemplars: tuple[Exemplar, ...]
    exemplar_ids: tuple[int, ...]
    threshold: float
    similarity: float
    unnamed: int = 0

    @property
    def texts(self) -> tuple[str, ...]:
        """What the embedder reads: the phrases in their template, then the rivals as they are."""
        if not self.phrases:
            return ()
        rivals = self.config.rivals if self.kind.scores == "softmax" else ()
        return (*(self.config.template.replace("{}", each.text) for each in self.phrases), *rivals)

    def names(
        self, to_texts: Floats, to_exemplars: Floats, *, scale: float = 1.0, bias: float = 0.0
    ) -> list[Name | None]:
        """The name of each mask; None where nothing fits.

        An exemplar that is similar enough goes before any text: it shows the thing itself.

        Args:
            to_texts: n×`texts` cosines; n×0 without texts.
            to_exemplars: n×e cosines.
            scale: The embedder's own, by which cosines are multiplied.
            bias: The embedder's own, which is added.
        """
        found = self._by_text(to_texts, scale, bias)
        if len(self.exemplars) and len(to_exemplars):
            best = to_exemplars.argmax(1)
            value = to_exemplars[np.arange(len(best)), best]
            for place in np.flatnonzero(value >= self.similarity).tolist():
                one = int(best[place])
                score = round(min(max(float(value[place]), 0.0), 1.0), 4)
                found[place] = Name(self.exemplar_ids[one], self.exemplars[one].name, score)
        return found

    def _by_text(self, cosines: Floats, scale: float, bias: float) -> list[Name | None]:
        found: list[Name | None] = [None] * len(cosines)
        if self.ontology is None or not len(cosines):
            return found
        logits = cosines * scale + bias
        if self.kind.scores == "sigmoid":
            scores = 1 / (1 + np.exp(-logits))
        else:
            scores = phrase_shares(logits, self.phrases)
        choice = choose(scores, self.phrases, self.ontology, threshold=self.threshold)
        ids = self.ontology.ids()
        rows = zip(choice.answers, choice.categories, choice.phrases, choice.scores, strict=True)
        for answer, category, phrase, score in rows:
            text = self.phrases[int(phrase)].text
            found[int(answer)] = Name(ids[int(category)], text, round(float(score), 4))
        return found


def phrase_shares(logits: Floats, phrases: tuple[Phrase, ...]) -> Floats:
    """A softmax in which a category counts once, however many ways there are to say it.

    Args:
        logits: n×(p + r): of the phrases, then of the rivals.
        phrases: p.

    Returns:
        n×p in 0…1: the share of each phrase among the best phrases of all categories, all negative
        phrases and all rivals.
    """
    groups: dict[int, list[int]] = {}
    for place, phrase in enumerate(phrases):
        if not phrase.negative:
            groups.setdefault(phrase.category, []).append(place)
    negative = [place for place, phrase in enumerate(phrases) if phrase.negative]
    rivals = [logits[:, places].max(1, keepdims=True) for places in groups.values()]
    every = np.concatenate((*rivals, logits[:, negative], logits[:, len(phrases) :]), 1)
    top = every.max(1, keepdims=True)
    return np.exp(logits[:, : len(phrases)] - top) / np.exp(every - top).sum(1, keepdims=True)


def named_categories(
    ontology: Ontology | None,
    exemplars: Sequence[Exemplar] | Sequence[MaskExemplar],
    *,
    keep_unnamed: bool,
) -> Categories:
    """The categories that masks can get: of texts, then of exemplars alone, then "object".

    Raises:
        ValueError: What is asked is called like the category of masks without a name.
    """
    found = list(ontology.categories()) if ontology else []
    names = [item.name for item in found]
    for name in dict.fromkeys(each.category for each in exemplars):
        if name not in names:
            free = max((item.id for item in found), default=0) + 1
            found.append(Category(free, name, isthing=True, color=color_at(len(found))))
    if keep_unnamed:
        if any(item.name == OBJECT.name for item in found):
            raise ValueError(
                f"naming.keep_unnamed: masks without a name are called {OBJECT.name!r}, as a "
                "category that is asked for"
            )
        free = max((item.id for item in found), default=0) + 1
        found.append(replace(OBJECT, id=free))
    return Categories(tuple(found))


def read_naming(info: ModelInfo, options: ModelConfig) -> Naming:
    """What a job asks of a SAM with an embedder.

    Args:
        info: Of the SAM; `info.partner` is the embedder, `info.asking` has the rest.
        options: Of the job.

    Raises:
        ValueError: There is no embedder, nothing is asked, or texts of one that reads none.
    """
    if info.partner is None:
        raise ValueError(
            f"{info.name} compares masks and makes none: name a SAM before it, as in "
            f"--model sam-vit-b+{info.name}"
        )
    kind = embedder_kind(info.partner.config)
    asking = info.asking
    if asking is None or not (asking.ontology or asking.exemplars):
        raise ValueError(
            f"{info.name} names masks by words or by exemplars: give --prompt TEXT, --ontology "
            "FILE or --exemplar IMAGE:x,y,w,h=CATEGORY"
        )
    if asking.ontology and not kind.scores:
        raise ValueError(
            f"{info.partner.name} reads no words (--prompt, --ontology): give --exemplar, or take "
            "an embedder of pictures and texts, as clip-vit-b-32"
        )
    ids = {item.name: item.id for item in info.categories}
    own = asking.naming
    return Naming(
        kind=kind,
        config=own,
        ontology=asking.ontology,
        phrases=tuple(phrases_of(asking.ontology)) if asking.ontology else (),
        exemplars=asking.exemplars,
        exemplar_ids=tuple(ids[each.category] for each in asking.exemplars),
        threshold=kind.threshold if options.threshold is None else options.threshold,
        similarity=kind.similarity if own.similarity is None else own.similarity,
        unnamed=ids[OBJECT.name] if own.keep_unnamed else 0,
    )
