"""Ontology: which prompts mean which category. One TOML file, or the `--prompt` flags.

```toml
[[category]]
name = "traffic light"
prompts = ["traffic light", "stop light"]
negative = ["street lamp"]
min_score = 0.3
parent = "signal"
```
"""

from __future__ import annotations

import tomllib
from collections import Counter
from collections.abc import Sequence
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from .categories import Categories, Category
from .colors import color_at
from .section import Section

Text = Annotated[str, Field(min_length=1, max_length=500)]


class OntologyCategory(Section):
    """One category and the words that find it."""

    name: Text
    id: Annotated[int | None, Field(ge=1, le=2**31 - 1, description="unset = its position")] = None
    prompts: Annotated[
        tuple[Text, ...], Field(description="what to look for; empty = its name")
    ] = ()
    negative: Annotated[
        tuple[Text, ...],
        Field(description="what is mistaken for it: a region that fits one better is dropped"),
    ] = ()
    isthing: bool = True
    parent: Annotated[str, Field(description="COCO's supercategory")] = ""
    color: Annotated[str, Field(pattern=r"^(#[0-9a-f]{6})?$")] = ""
    min_score: Annotated[
        float | None, Field(ge=0, le=1, description="unset = the model's threshold")
    ] = None

    @property
    def phrases(self) -> tuple[str, ...]:
        """The prompts, or the name where there are none."""
        return self.prompts or (self.name,)


class Ontology(Section):
    """All categories that are looked for, in order of priority."""

    category: Annotated[tuple[OntologyCategory, ...], Field(min_length=1)]

    @model_validator(mode="after")
    def _unique(self) -> Self:
        for key, values in (
            ("name", [item.name for item in self.category]),
            ("id", [str(id_) for id_ in self.ids()]),
            ("prompt", [text.lower() for item in self.category for text in item.phrases]),
        ):
            twice = sorted(value for value, times in Counter(values).items() if times > 1)
            if twice:
                raise ValueError(f"more than one category has the {key} {', '.join(twice[:3])}")
        for item in self.category:
            both = {text.lower() for text in item.phrases} & {t.lower() for t in item.negative}
            if both:
                raise ValueError(f"{item.name}: {min(both)!r} is both a prompt and a negative one")
        return self

    def ids(self) -> list[int]:
        """The category id of each entry: its own, else its position from 1."""
        return [item.id or place for place, item in enumerate(self.category, start=1)]

    def categories(self) -> Categories:
        """The category table; colours that are unset go round the colour circle."""
        return Categories(
            tuple(
                Category(
                    id_,
                    item.name,
                    isthing=item.isthing,
                    color=item.color or color_at(place),
                    supercategory=item.parent,
                )
                for place, (id_, item) in enumerate(zip(self.ids(), self.category, strict=True))
            )
        )

    @classmethod
    def of_prompts(cls, prompts: Sequence[str]) -> Ontology:
        """One category a prompt, named like it."""
        return cls.parse({"category": [{"name": text.strip()} for text in prompts]})

    @classmethod
    def from_toml(cls, data: bytes | str, source: str) -> Ontology:
        """An ontology file.

        Args:
            data: Its content.
            source: Its name, for errors.

        Raises:
            ValueError: Not TOML, or not an ontology; names the file and the key.
        """
        text = data.decode("utf-8", "replace") if isinstance(data, bytes) else data
        try:
            plain: dict[str, Any] = tomllib.loads(text)
        except tomllib.TOMLDecodeError as error:
            raise ValueError(f"ontology {source} is not TOML: {error}") from error
        try:
            return cls.parse(plain)
        except ValueError as error:
            raise ValueError(f"ontology {source}: {error}") from error
