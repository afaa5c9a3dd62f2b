"""Section: base of every part of a config; its errors name the key and the allowed values."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping, Sequence
from types import UnionType
from typing import Any, Self, Union, get_args, get_origin

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic.fields import FieldInfo

from schemas.suggest import nearest


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
            problems = _joined(cls, error.errors())
            raise ValueError("\n".join(_explain(cls, item) for item in problems)) from None


def _joined(model: type[BaseModel], errors: Sequence[Any]) -> list[Any]:
    """A problem a place: a value that is none of several kinds is told once, with all of them."""
    found: dict[tuple[Any, ...], list[Any]] = {}
    for item in errors:
        at = _kind_at(model, [str(part) for part in item["loc"]])
        place = item["loc"] if at is None else (*item["loc"][:at], *item["loc"][at + 1 :])
        found.setdefault(place, []).append({**item, "loc": place})
    return [same[0] if len(same) == 1 else _one_of(same) for same in found.values()]


def _one_of(same: Sequence[Any]) -> Any:
    wanted = (item["msg"].removeprefix("Input should be ").partition(",")[0] for item in same)
    expected = " ".join((item.get("ctx") or {}).get("expected", "") for item in same)
    message = f"Input should be {' or '.join(dict.fromkeys(wanted))}"
    return {**same[-1], "msg": message, "ctx": {"expected": expected.strip()}}


def _kind_at(model: type[BaseModel], path: Sequence[str]) -> int | None:
    """Where a path names one of several kinds that a value may be, and no key."""
    before = None
    for index in range(1, len(path)):
        _, field = _descend(model, path[:index])
        item = path[index - 1].isdigit()
        if field is not None and (item or field is not before) and field.discriminator is None:
            wanted = field.annotation
            if _is_choice(_item_of(wanted) if item else wanted):
                return index
        before = field
    return None


def _is_choice(wanted: Any) -> bool:
    kinds = [kind for kind in get_args(wanted) if kind is not type(None)]
    return get_origin(wanted) in (Union, UnionType) and len(kinds) > 1


def _item_of(wanted: Any) -> Any:
    """What a list or tuple holds, or one that may be None."""
    inner = [kind for kind in get_args(wanted) if kind not in (type(None), Ellipsis)]
    return (
        _item_of(inner[0]) if get_origin(wanted) in (Union, UnionType) else next(iter(inner), None)
    )


def _explain(model: type[BaseModel], error: Any) -> str:
    path = [str(part) for part in error["loc"]]
    key, kind, value = ".".join(path), error["type"], error.get("input")
    section, field = _descend(model, path)
    if kind == "extra_forbidden":
        keys = list(section.model_fields)
        elsewhere = [name for name in _keys_of(model) if name.rpartition(".")[2] == path[-1]]
        hint = nearest(path[-1], keys) if not elsewhere else f"; did you mean {_either(elsewhere)}?"
        return f"unknown key {key!r}{hint}; allowed: {', '.join(keys)}"
    if kind.startswith("union_tag"):
        return f"{key}: {_tag_problem(field, error['ctx'])}"
    if kind == "missing":
        return f"{key}: missing"
    if kind in ("model_type", "model_attributes_type"):
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


def _keys_of(model: type[BaseModel], prefix: str = "") -> Iterator[str]:
    """All keys of a section and of those within it, dotted."""
    for name, field in model.model_fields.items():
        yield prefix + name
        inner = _sections_in(field.annotation)
        if len(inner) == 1:
            yield from _keys_of(inner[0], f"{prefix}{name}.")


def _either(names: Sequence[str]) -> str:
    return " or ".join(repr(name) for name in names[:3])


def _descend(
    model: type[BaseModel], path: Sequence[str]
) -> tuple[type[BaseModel], FieldInfo | None]:
    """The innermost section on a path, and the last field of it that the path names."""
    section, field = model, None
    choices: list[type[BaseModel]] = []
    for part in path:
        tagged = [choice for choice in choices if part in _tags(choice)]
        if tagged:
            section, choices = tagged[0], []
        elif part in section.model_fields and len(choices) < 2:
            field = section.model_fields[part]
            choices = _sections_in(field.annotation)
            section = choices[0] if choices else section
        # else an index of a list, or a key of a table
    return section, field


def _sections_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field holds: itself, or as the items of a list, a table or a union."""
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return [annotation]
    return [found for inner in get_args(annotation) for found in _sections_in(inner)]


def _tags(section: type[BaseModel]) -> list[str]:
    """The words by which a union knows a section: values of fields that have only one."""
    values = (get_args(field.annotation) for field in section.model_fields.values())
    return [found[0] for found in values if len(found) == 1 and isinstance(found[0], str)]


def _tag_problem(field: FieldInfo | None, context: Mapping[str, Any]) -> str:
    name = context["discriminator"].strip("'")
    choices = _sections_in(field.annotation) if field is not None else []
    allowed = [tag for choice in choices for tag in _tags(choice)]
    if "tag" not in context:
        return f"has no {name!r}; allowed: {', '.join(allowed)}"
    tag = context["tag"]
    return f"no {name} is called {tag!r}{nearest(tag, allowed)}; allowed: {', '.join(allowed)}"
