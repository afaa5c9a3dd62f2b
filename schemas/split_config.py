"""The section that deals pictures out to train, val and test."""

from __future__ import annotations

import re
from typing import Annotated, Self

from pydantic import Field, field_validator, model_validator

from .section import Section

Share = Annotated[float, Field(ge=0, le=1)]


class SplitConfig(Section):
    """Which pictures are for training, validation and testing; off until a share is given."""

    train: Annotated[
        Share | None, Field(description="share of the groups; unset = what val and test leave")
    ] = None
    val: Share = 0.0
    test: Share = 0.0
    seed: Annotated[int, Field(ge=0, lt=2**63)] = 0
    group: Annotated[
        str,
        Field(
            description="regular expression with one group, searched in file_name: pictures that "
            "agree in it stay together; '' = each by its own bytes"
        ),
    ] = ""

    @field_validator("group")
    @classmethod
    def _one_group(cls, value: str) -> str:
        if value:
            try:
                groups = re.compile(value).groups
            except re.error as error:
                raise ValueError(f"not a regular expression: {error}") from None
            if groups != 1:
                raise ValueError(f"must have one group ( ), has {groups}")
        return value

    @model_validator(mode="after")
    def _whole(self) -> Self:
        total = self.val + self.test + (self.train or 0)
        exact = self.train is not None and total > 0
        if total > 1 + 1e-9 or (exact and total < 1 - 1e-9):
            raise ValueError(f"train, val and test must add up to 1, they add up to {total:g}")
        return self

    @property
    def active(self) -> bool:
        """Whether pictures are dealt out at all."""
        return self.val + self.test + (self.train or 0) > 0
