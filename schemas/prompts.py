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

import re
import tomllib
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Annotated, Any, Self

from pydantic import Field, model_validator

from schemas.config.section import Section

from .categories import Categories, Category, color_at

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


# ExemplarText: one `--exemplar`, read.

_FORM = re.compile(r"(?P<image>.+?):(?P<box>[^:=]*,[^:=]*)=(?P<category>.+)", re.DOTALL)
_MASK_FORM = re.compile(r"(?P<image>.+?):@(?P<mask>.+)=(?P<category>[^=]+)", re.DOTALL)


@dataclass(frozen=True, slots=True)
class ExemplarText:
    """An object in a picture that shows what to look for.

    Attributes:
        image: Path or URI of the picture, as written.
        category: What it is.
        bbox_xywh: Around the object, pixels of the upright picture; width and height above 0.
            None where a mask says it.
        mask: Path or URI of the mask, as written; "" where a box says it.
    """

    image: str
    category: str
    bbox_xywh: tuple[float, float, float, float] | None = None
    mask: str = ""

    @classmethod
    def parse(cls, text: str) -> ExemplarText:
        """Reads `IMAGE:x,y,w,h=category` or `IMAGE:@MASK=category`.

        Raises:
            ValueError: It has another form, or the box is none; names the flag.
        """
        where = f"--exemplar {text!r}"
        masked = _MASK_FORM.fullmatch(text)
        if masked is not None and masked["category"].strip() and masked["mask"].strip():
            return cls(masked["image"], masked["category"].strip(), mask=masked["mask"])
        found = _FORM.fullmatch(text)
        if found is None or not found["category"].strip():
            raise ValueError(f"{where}: expected IMAGE:x,y,w,h=CATEGORY or IMAGE:@MASK=CATEGORY")
        try:
            x, y, width, height = (float(part) for part in found["box"].split(","))
        except ValueError:
            raise ValueError(f"{where}: {found['box']!r} are not four numbers x,y,w,h") from None
        box = (x, y, width, height)
        if not all(map(isfinite, box)) or width <= 0 or height <= 0:
            raise ValueError(f"{where}: the box needs a width and a height above 0")
        return cls(found["image"], found["category"].strip(), box)

    @property
    def name(self) -> str:
        """The file's own name and the box or the mask's: what a row's `prompt` says."""
        file, mask = (re.split(r"[/\\]", path)[-1] for path in (self.image, self.mask))
        if self.bbox_xywh is None:
            return f"{file}:@{mask}"
        return f"{file}:{','.join(f'{value:g}' for value in self.bbox_xywh)}"


# What came of the prompts of a file.

MASK = "mask"
STAND_IN = "stand_in"
HANDED_THROUGH = "handed_through"
NO_MASK = "no_mask"
OUTSIDE = "outside"
NO_AREA = "no_area"

OUTCOMES: dict[str, str] = {
    MASK: "answered with a mask",
    STAND_IN: "answered with their own box or point (prompts.stand_in)",
    HANDED_THROUGH: "crowds, handed through",
    NO_MASK: "without a mask: the model, or [refine], left none",
    OUTSIDE: "outside their picture",
    NO_AREA: "boxes without an area",
}
"""Outcome → what the last lines of a run say of the prompts that have it."""

UNANSWERED = (NO_MASK, OUTSIDE, NO_AREA)
"""Outcomes of the prompts that have no annotation."""


def prompt_lines(counts: Mapping[str, int], absent: Sequence[str] = ()) -> list[str]:
    """What the last lines of a run say of a file of prompts.

    Args:
        counts: The manifest's `prompt_counts`.
        absent: Pictures that the file names and the input lacks; a few are shown.
    """
    counted = [f"{counts[name]} {text}" for name, text in OUTCOMES.items() if counts.get(name)]
    lines = [f"prompts: {', '.join(counted)}"] if counted else []
    if missing := counts.get("absent_images"):
        shown = f", as {', '.join(map(repr, absent[:3]))}" if absent else ""
        lines.append(f"prompts: {missing} pictures that the file names are not in the input{shown}")
    return lines
