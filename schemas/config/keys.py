"""Keys: every key of a configuration, read from its fields: the one place that spells them."""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal, Union, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo


@dataclass(frozen=True, slots=True)
class Key:
    """One key.

    Attributes:
        name: Dotted, as `--set` takes it.
        kind: Type, with the range or the allowed values.
        default: In TOML's spelling; "required" or "unset" where there is none.
        meaning: One sentence, from the field's description.
    """

    name: str
    kind: str
    default: str
    meaning: str

    def to_json(self) -> dict[str, str]:
        """Plain data."""
        return asdict(self)


def keys_of(section: type[BaseModel], prefix: str = "") -> list[Key]:
    """Every key of a section and of the sections inside it, in the order of its fields."""
    return list(_walk(section, prefix))


def toml_template(keys: Sequence[Key]) -> str:
    """A TOML file in which every key stands with its default, commented out."""
    lines: list[str] = []
    section = ""
    # A file's own keys come before its first section, and a section stands in one piece.
    for key in sorted(keys, key=lambda item: item.name.rpartition(".")[0].split(".")):
        table, _, last = key.name.rpartition(".")
        if table != section:
            lines += ["", f"[{table}]"]
            section = table
        meaning = f"{key.kind}: {key.meaning}" if key.meaning else key.kind
        shown = '""' if key.default in ("required", "unset") else key.default
        lines += [f"# {meaning}", f"# {last} = {shown}"]
    return "\n".join(lines).lstrip("\n") + "\n"


def _walk(section: type[BaseModel], prefix: str) -> Iterator[Key]:
    for name, field in section.model_fields.items():
        inner = field.annotation
        if isinstance(inner, type) and issubclass(inner, BaseModel):
            yield from _walk(inner, f"{prefix}{name}.")
        else:
            yield Key(f"{prefix}{name}", _kind(field), _default(field), field.description or "")


def _default(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    value = field.get_default(call_default_factory=True)
    return "unset" if value is None else _toml(value)


def _toml(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, tuple | list):
        return f"[{', '.join(map(_toml, value))}]"
    if isinstance(value, dict):
        return "{" + ", ".join(f"{json.dumps(k)} = {_toml(v)}" for k, v in value.items()) + "}"
    if isinstance(value, BaseModel):
        return _toml(value.model_dump(mode="json"))
    return json.dumps(value)


_WORDS = {"str": "text", "int": "integer", "float": "number", "bool": "true or false"}


def _kind(field: FieldInfo) -> str:
    limits = [_limit(item) for item in field.metadata]
    return " ".join(part for part in (_type(field.annotation), *limits) if part)


_LIMITS = {"ge": "≥", "gt": ">", "le": "≤", "lt": "<", "multiple_of": "a multiple of"}
"""Attribute of a constraint of pydantic's → how it is said."""


def _limit(item: Any) -> str:
    for name, words in _LIMITS.items():
        if (bound := getattr(item, name, None)) is not None:
            return f"{words} {bound}"
    pattern = getattr(item, "pattern", None)
    return f"like {pattern}" if pattern else ""


def _type(annotation: Any) -> str:
    origin = get_origin(annotation)
    inner = [item for item in get_args(annotation) if item is not Ellipsis]
    if origin is Literal:
        return " | ".join(map(str, inner))
    if annotation is type(None):
        return ""
    if origin in (tuple, list):
        return f"list of {_type(inner[0])}" if inner else "list"
    if origin is dict:
        return f"table of {_type(inner[1])}"
    if origin is not None and hasattr(annotation, "__metadata__"):
        limits = (_limit(item) for item in annotation.__metadata__)
        return " ".join(part for part in (_type(inner[0]), *limits) if part)
    if origin is Union or (inner and origin is not None):
        return " or ".join(dict.fromkeys(text for text in map(_type, inner) if text))
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return "table"
    return _WORDS.get(getattr(annotation, "__name__", ""), getattr(annotation, "__name__", "value"))
