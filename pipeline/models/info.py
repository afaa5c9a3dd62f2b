"""ModelInfo: what the driver knows of a model before any worker loads it. No torch here."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.categories import Categories
from schemas.records import TASKS, Task
from schemas.suggest import nearest

from . import BUNDLED, FAMILIES, WEIGHTLESS

WEIGHTS_ROOT = Path(__file__).parent / "weights"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that was found on disk and can be loaded.

    Attributes:
        name: As the user wrote it: a short name or a folder's own name.
        family: A key of `FAMILIES`.
        folder: Absolute path of the checkpoint folder.
        revision: The weights' pinned revision; for local folders the first 12 digits of the hash.
        weights_sha256: Of all weight and config files, in name order: the model's identity.
        licence: Of the weights.
        tasks: What it can do; the first is the default.
        categories: What it can find.
        config: The whole config.json.
    """

    name: str
    family: str
    folder: str
    revision: str
    weights_sha256: str
    licence: str
    tasks: tuple[Task, ...]
    categories: Categories
    config: Mapping[str, Any]


def describe(model: str) -> ModelInfo:
    """Finds a model by short name or folder and reads its description, not its weights.

    Raises:
        ValueError: No such model, or a folder that is no checkpoint of a known family.
    """
    if model in BUNDLED:
        return _from_folder(WEIGHTS_ROOT / BUNDLED[model], name=model)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _from_folder(folder.resolve(), name=folder.resolve().name)
    hint = nearest(model, BUNDLED)
    raise ValueError(
        f"model {model!r} is neither a known name nor a folder{hint}; known: {', '.join(BUNDLED)}"
    )


def bundled() -> list[ModelInfo]:
    """The models that ship with the program, by name."""
    return [describe(name) for name in sorted(BUNDLED)]


def _from_folder(folder: Path, *, name: str) -> ModelInfo:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no checkpoint: it holds no config.json")
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(config, dict) or config.get("format") != "maskmill":
        raise ValueError(f'{path} has no "format": "maskmill"; other formats are not supported')
    family = str(config.get("family", ""))
    if family not in FAMILIES:
        raise ValueError(
            f"{path}: unknown family {family!r}{nearest(family, FAMILIES)}; "
            f"known: {', '.join(FAMILIES)}"
        )
    digest = weights_hash(folder, without_weights=family in WEIGHTLESS)
    return ModelInfo(
        name=name,
        family=family,
        folder=str(folder),
        revision=digest[:12],
        weights_sha256=digest,
        licence=str(config.get("licence", "unknown")),
        tasks=_tasks(path, config.get("tasks")),
        categories=_categories(path, config.get("categories")),
        config=config,
    )


def _tasks(path: Path, given: Any) -> tuple[Task, ...]:
    """The default first, as the file has it, the others in the order of `TASKS`."""
    if not isinstance(given, list) or not given or not all(task in TASKS for task in given):
        raise ValueError(f"{path}: tasks must be a list of some of {', '.join(TASKS)}")
    own: list[Task] = [task for task in TASKS if task in given]
    own.sort(key=lambda task: task != given[0])
    return tuple(own)


def _categories(path: Path, given: Any) -> Categories:
    try:
        categories = Categories.from_json(given or ())
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from error
    if not len(categories):
        raise ValueError(f"{path}: categories must be a list of at least one")
    return categories


def weights_hash(folder: Path, *, without_weights: bool = False) -> str:
    """SHA-256 over name and content of config.json and every *.safetensors, in name order.

    Args:
        folder: The checkpoint.
        without_weights: The family has none.

    Raises:
        ValueError: The folder holds no safetensors file.
    """
    weights = sorted(folder.glob("*.safetensors"))
    if not weights and not without_weights:
        raise ValueError(f"{folder} holds no .safetensors file")
    digest = hashlib.sha256()
    for path in [folder / "config.json", *weights]:
        with path.open("rb") as file:
            inner = hashlib.file_digest(file, "sha256").hexdigest()
        digest.update(f"{path.name} {inner}\n".encode())
    return digest.hexdigest()
