"""ModelInfo: what the driver knows of a model before any worker loads it. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from schemas.categories import Categories
from schemas.records import Task
from schemas.suggest import nearest

from . import BUNDLED, WEIGHTLESS
from .checkpoint_files import read_json, weight_files, weights_hash
from .described import Described
from .own_format import read_own
from .smp_format import KEY, read_smp_folder
from .transformers_format import read_transformers

WEIGHTS_ROOT = Path(__file__).parent / "weights"


@dataclass(frozen=True, slots=True)
class ModelInfo:
    """A model that was found on disk and can be loaded.

    Attributes:
        name: As the user wrote it: a short name, a hub id, or a folder's own name.
        family: A key of `FAMILIES`.
        folder: Absolute path of the checkpoint folder.
        revision: The weights' pinned revision; for local folders the first 12 digits of the hash.
        weights_sha256: Of all files that decide an answer, in name order: the model's identity.
        licence: Of the weights.
        tasks: What it can do; the first is the default.
        categories: What it can find.
        config: The whole config.json.
        category_ids: The category id of each of the model's outputs, 0 = none; empty for families
            that name categories themselves.
        table: Name of the table that `categories` is or is of, "" for the model's or user's own.
        repo: Hub id, "" for what is from elsewhere.
        weights: Names of the files of weights in the folder.
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
    category_ids: tuple[int, ...] = ()
    table: str = ""
    repo: str = ""
    weights: tuple[str, ...] = ()


def describe(
    model: str, *, revision: str = "", categories: str = "", allow_pickle: bool = False
) -> ModelInfo:
    """Finds a model by short name, hub id or folder and reads its description, not its weights.

    Args:
        model: As in `--model`.
        revision: Of a hub id: commit, tag or branch; "" = the pinned one.
        categories: A table instead of the model's own: a name of `TABLES` or a JSON file.
        allow_pickle: Whether weights may be a pickle.

    Raises:
        ValueError: No such model, or a folder that is no checkpoint of a known family.
    """
    wanted = {"categories": categories, "allow_pickle": allow_pickle}
    if model in BUNDLED:
        return _from_folder(WEIGHTS_ROOT / BUNDLED[model], name=model, **wanted)
    folder = Path(model).expanduser()
    if folder.is_dir():
        return _from_folder(folder.resolve(), name=folder.resolve().name, **wanted)
    hint = nearest(model, BUNDLED)
    raise ValueError(
        f"model {model!r} is neither a known name nor a folder{hint}; known: {', '.join(BUNDLED)}"
    )


def bundled() -> list[ModelInfo]:
    """The models that ship with the program, by name."""
    return [describe(name) for name in sorted(BUNDLED)]


def _from_folder(folder: Path, *, name: str, categories: str, allow_pickle: bool) -> ModelInfo:
    path = folder / "config.json"
    if not path.is_file():
        raise ValueError(f"{folder} is no checkpoint: it holds no config.json")
    config = read_json(path)
    own = _described(folder, config, name=name, categories=categories)
    weights = (
        []
        if own.family in WEIGHTLESS
        else weight_files(folder, named=own.named, allow_pickle=allow_pickle)
    )
    digest = weights_hash(folder, weights)
    return ModelInfo(
        name=name,
        family=own.family,
        folder=str(folder),
        revision=digest[:12],
        weights_sha256=digest,
        licence=own.licence or "unknown",
        tasks=own.tasks,
        categories=own.outputs.categories,
        config=config,
        category_ids=own.outputs.ids,
        table=own.outputs.table,
        weights=tuple(file.name for file in weights),
    )


def _described(folder: Path, config: Mapping[str, Any], *, name: str, categories: str) -> Described:
    path = folder / "config.json"
    given = config.get("format")
    if given == "maskmill":
        return read_own(path, config, categories=categories)
    if given is not None:
        raise ValueError(f'{path} has the format {given!r}; ours is "format": "maskmill"')
    if KEY in config:
        return read_smp_folder(folder, config, categories=categories)
    return read_transformers(folder, config, name=name, categories=categories)
