"""The section of naming: how masks without a name are compared with words and exemplars."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, field_validator

from .section import Section

Text = Annotated[str, Field(min_length=1, max_length=500)]


class NamingConfig(Section):
    """SAM+CLIP and the like: masks of everything get the categories that they look like."""

    views: Annotated[
        tuple[Literal["keep", "grey", "blur"], ...],
        Field(
            min_length=1,
            description="what lies around the mask in its crop; the mean of several is taken",
        ),
    ] = ("keep", "grey")
    margin: Annotated[
        float, Field(ge=0, le=2, description="around a mask's box, in longer sides of it")
    ] = 0.1
    template: Annotated[str, Field(description="what is read of a prompt, which goes to {}")] = "{}"
    rivals: Annotated[
        tuple[Text, ...],
        Field(description="CLIP: texts that every category has to beat, for masks of nothing"),
    ] = ("object", "things", "stuff", "texture")
    similarity: Annotated[
        float | None,
        Field(ge=-1, le=1, description="cosine to an exemplar at least; unset = the model's own"),
    ] = None
    keep_unnamed: Annotated[
        bool, Field(description="masks that look like nothing asked become 'object'")
    ] = False
    crops_per_batch: Annotated[int, Field(ge=1, description="on a GPU")] = 64

    @field_validator("template")
    @classmethod
    def _has_a_place(cls, value: str) -> str:
        if value.count("{}") != 1:
            raise ValueError("must hold {} once, where the prompt goes")
        return value
