"""Layers of a job's configuration: TOML file, then `--set key=value`, then flags."""

from __future__ import annotations

import tomllib
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any


def layered(file: Path | None, sets: Iterable[str], flags: Mapping[str, Any]) -> dict[str, Any]:
    """Plain data for a config's `parse`: later layers win.

    Args:
        file: A TOML file, or None.
        sets: "section.key=value"; the value is TOML, or a bare word as text.
        flags: Dotted key → value; None means not given.

    Raises:
        ValueError: The file cannot be read or parsed, or a `--set` has no "=".
    """
    data = _read(file) if file is not None else {}
    for text in sets:
        key, equals, value = text.partition("=")
        if not equals or not key.strip():
            raise ValueError(f"--set {text!r}: expected section.key=value")
        _put(data, key.strip(), _value(value.strip()))
    for key, value in flags.items():
        if value is not None:
            _put(data, key, value)
    return data


def _read(file: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ValueError(f"config {file}: {error.strerror}") from error
    except ValueError as error:
        raise ValueError(f"config {file} is not TOML: {error}") from error


def _put(data: dict[str, Any], key: str, value: Any) -> None:
    *sections, last = key.split(".")
    for name in sections:
        inner = data.setdefault(name, {})
        if not isinstance(inner, dict):
            raise ValueError(f"{key}: {name!r} is a value, not a section")
        data = inner
    data[last] = value


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text
