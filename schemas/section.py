"""Section: base of every part of a config; its errors name the key and the allowed values."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Self

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
    field = _deepest_field(model, path)
    if kind == "extra_forbidden":
        keys = _keys(field.annotation if field else model)
        return f"unknown key {key!r}{nearest(path[-1], keys)}; allowed: {', '.join(keys)}"
    if kind == "missing":
        return f"{key}: missing"
    if kind == "model_type":
        keys = _keys(field.annotation if field else model)
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
    got = f", got {value!r}" if field is None or field.repr else ""  # never a secret
    return f"{key}: {message}{got}{hint}{about}"


def _deepest_field(model: type[BaseModel], path: Sequence[str]) -> FieldInfo | None:
    found: FieldInfo | None = None
    section: Any = model
    for part in path:
        fields = getattr(section, "model_fields", {})
        if part not in fields:
            break
        field = fields[part]
        found, section = field, field.annotation
    return found


def _keys(section: Any) -> list[str]:
    return list(section.model_fields)
