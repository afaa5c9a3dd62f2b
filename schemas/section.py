"""Section: base of every part of a config; its errors name the key and the allowed values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self, get_args

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from .suggest import nearest


class Section(BaseModel):
    """Base of every section: unknown keys are errors, values are frozen."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, validate_default=True, allow_inf_nan=False
    )

    @classmethod
    def parse(cls, data: Mapping[str, Any]) -> Self:
        """Validates plain data (a parsed TOML file with flags laid over it).

        Raises:
            ValueError: One line per problem, naming the key, the nearest valid key and the
                allowed values.
        """
        try:
            return cls.model_validate(data)
        except ValidationError as error:
            raise ValueError("\n".join(_explain(cls, item) for item in error.errors())) from None


def _explain(model: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    key, kind, value = ".".join(path), error["type"], error.get("input")
    section, field = _descend(model, path)
    if kind == "extra_forbidden":
        keys = list(section.model_fields)
        return f"unknown key {key!r}{nearest(path[-1], keys)}; allowed: {', '.join(keys)}"
    if kind == "missing":
        return f"{key}: missing"
    if kind == "model_type":
        keys = list(section.model_fields)
        return f"{key}: must be a section with some of the keys {', '.join(keys)}"
    message = re.sub(r"^(Input|String|Value error,) ?", "", error["msg"])
    if kind == "string_pattern_mismatch":
        message = "not in an allowed form"
    hint = about = ""
    expected = (error.get("ctx") or {}).get("expected", "")
    if isinstance(value, str) and expected:
        hint = nearest(value, re.findall(r"'([^']+)'", expected))
    if field is not None and field.description:
        about = f" ({field.description})"
    if kind == "value_error" and not isinstance(value, str | int | float):
        return f"{key}: {message}" if key else message  # what broke a rule is in the message
    got = f", got {value!r}" if field is None or field.repr else ""  # never a secret
    return f"{key}: {message}{got}{hint}{about}"


def _descend(
    model: type[BaseModel], path: Sequence[str]
) -> tuple[type[BaseModel], FieldInfo | None]:
    """The innermost section on a path, and the last field of it that the path names."""
    section, field = model, None
    for part in path:
        if part not in section.model_fields:
            continue  # an index of a list, or a key of a table
        field = section.model_fields[part]
        section = _section_in(field.annotation) or section
    return section, field


def _section_in(annotation: Any) -> type[BaseModel] | None:
    """The section that a field holds: itself, or as the items of a list or a table."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return annotation
    found = (_section_in(inner) for inner in get_args(annotation))
    return next((item for item in found if item is not None), None)
