"""ModelInfo: what the driver knows of a model before any worker loads it. No torch here."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.prompts.request import Request
from schemas.categories import Categories
from schemas.records import Task

from .architecture import EXAMPLE, PUBLISHED, config_of, published
from .catalog import (
    CatalogEntry,
    catalog,
    file_command,
    file_place,
    torchvision_config,
)
from .category_tables import category_table
from .description import Described
from .families import BUNDLED, FAMILIES, OBJECT
from .files import card_licence, count_parameters, read_json, weight_files, weights_hash
from .hf_config import read_transformers
from .locate import (
    WEIGHTS,
    ModelLocation,
    Source,
    access_note,
    cached_snapshot,
    fetch_command,
    locate,
    snapshot_folder,
)
from .onnx_format import onnx_config, read_onnx
from .own_format import read_own
from .smp import KEY, read_smp_folder


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
        source: What kind of place the folder is.
        repo: Hub id, "" for what is from elsewhere.
        weights: Names of the files of weights in the folder.
        asking: What a promptable model is asked; None for others.
        partner: The SAM beside a model that finds boxes only.
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
    source: Source = "folder"
    repo: str = ""
    weights: tuple[str, ...] = ()
    asking: Request | None = None
    partner: ModelInfo | None = None


def describe(
    model: str,
    *,
    revision: str = "",
    categories: str = "",
    allow_pickle: bool = False,
    architecture: Mapping[str, Any] | None = None,
) -> ModelInfo:
    """Finds a model by short name, hub id or folder and reads its description, not its weights.

    Args:
        model: As in `--model`.
        revision: Of a hub id: commit, tag or branch; "" = the pinned one.
        categories: A table instead of the model's own: a name of `TABLES` or a JSON file.
        allow_pickle: Whether weights may be a pickle.
        architecture: Of weights that stand alone; see `architecture.config_of`.

    Raises:
        ValueError: No such model, or a folder that is no checkpoint of a known family.
    """
    place = locate(model, revision=revision, allow_pickle=allow_pickle)
    config = _config(place, architecture or {})
    own = _described(place, config, categories=categories)
    weights = (
        []
        if FAMILIES[own.family].weightless
        else weight_files(
            place.folder,
            named=place.file or own.named,
            any_name="format" in config or KEY in config,
            allow_pickle=allow_pickle,
        )
    )
    stated = place.source == "torchvision" or bool(architecture) or place.file in PUBLISHED
    text = json.dumps(config, sort_keys=True) if stated else ""
    digest = weights_hash(place.folder, weights, config=text)
    entry = place.entry
    return ModelInfo(
        name=place.name,
        family=own.family,
        folder=str(place.folder),
        revision=place.commit or digest[:12],
        weights_sha256=digest,
        licence=(entry.licence if entry else "")
        or own.licence
        or card_licence(place.folder)
        or "unknown",
        tasks=own.tasks,
        categories=own.outputs.categories,
        config=config,
        category_ids=own.outputs.ids,
        table=own.outputs.table,
        source=place.source,
        repo=place.repo,
        weights=tuple(file.name for file in weights),
    )


def on_this_node(info: ModelInfo, *, allow_pickle: bool = False) -> ModelInfo:
    """The same model with a folder that this machine has; a worker asks before it loads.

    Models of the hub and of torchvision are fetched where they are missing, at the revision that
    the driver found.

    Raises:
        ValueError: A local folder that this machine does not see, or what cannot be fetched.
    """
    if info.partner is not None:
        partner = on_this_node(info.partner, allow_pickle=allow_pickle)
        info = replace(info, partner=partner)
    folder = Path(info.folder)
    if folder.is_dir() and all((folder / name).is_file() for name in info.weights):
        return info
    if info.source == "folder":
        raise ValueError(
            f"{folder} is not on this machine: put the model where every node sees it under the "
            "same path, or name a model of the hub"
        )
    name, revision = (info.repo, info.revision) if info.source == "hub" else (info.name, "")
    place = locate(name, revision=revision, allow_pickle=allow_pickle)
    return replace(info, folder=str(place.folder))


def bundled() -> list[ModelInfo]:
    """The models that ship with the program, by name."""
    return [describe(name) for name in sorted(BUNDLED)]


def parameters(info: ModelInfo) -> int:
    """Numbers in a model's safetensors, from their heads; 0 for pickles."""
    return count_parameters([Path(info.folder) / name for name in info.weights])


def known_models() -> list[CatalogEntry]:
    """The models of the catalog, which are fetched when they are wanted."""
    return list(catalog().values())


def is_present(entry: CatalogEntry) -> bool:
    """Whether a model of the catalog is on this machine, as safetensors if it is of the hub."""
    if entry.file:
        return file_place(entry).is_file()
    return cached_snapshot(entry.repo, entry.revision) is not None


def how_to_get(entry: CatalogEntry) -> tuple[str, str]:
    """The command that fetches a model of the catalog, and where it must be then."""
    if entry.file:
        return file_command(entry), str(file_place(entry))
    folder = snapshot_folder(entry.repo, entry.revision)
    return fetch_command(entry.repo, entry.revision), str(folder)


def how_to_ask(entry: CatalogEntry) -> str:
    """How to get access to a gated model of the catalog, "" for one that everybody may have."""
    return access_note(entry.repo) if entry.gated else ""


def table_of(entry: CatalogEntry) -> Categories:
    """What a model of the catalog can find."""
    if not entry.categories:
        return Categories((OBJECT,))
    return category_table(entry.categories).categories


def _config(place: ModelLocation, architecture: Mapping[str, Any]) -> dict[str, Any]:
    """What config.json says, or would say.

    Raises:
        ValueError: Nobody says what network the weights are of.
    """
    if place.entry and place.source == "torchvision":
        return torchvision_config(place.entry)
    path = place.folder / "config.json"
    graph = _graph(place)
    if graph is not None:
        return onnx_config(graph)
    if architecture:
        if path.is_file() and not place.file:
            raise ValueError(f"model.architecture: {path} says what the network is")
        return config_of(architecture)
    if path.is_file():
        return read_json(path)
    if place.file in PUBLISHED:
        return published(place.file)
    if place.file:
        raise ValueError(
            f"{place.folder / place.file} is no checkpoint: no config.json beside it says what "
            f"network it is; the job can: model.architecture = {EXAMPLE}"
        )
    raise ValueError(f"{place.folder} is no checkpoint: it holds no config.json{_alone(place)}")


def _graph(place: ModelLocation) -> Path | None:
    """The ONNX graph that was named, or the only one of a folder that says nothing else."""
    if place.file:
        return place.folder / place.file if place.file.endswith(".onnx") else None
    if (place.folder / "config.json").is_file():
        return None
    graphs = sorted(place.folder.glob("*.onnx"))
    return graphs[0] if len(graphs) == 1 else None


def _alone(place: ModelLocation) -> str:
    """What to do with a folder of weights and nothing else."""
    files = sorted(path for path in place.folder.iterdir() if path.suffix in WEIGHTS)
    if not files:
        return ""
    return (
        f" that says what network {files[0].name} is; the job can: --model {files[0]} with "
        f"model.architecture = {EXAMPLE}"
    )


def _described(place: ModelLocation, config: Mapping[str, Any], *, categories: str) -> Described:
    path = place.folder / "config.json"
    given = config.get("format")
    if given == "maskmill":
        return read_own(path, config, categories=categories)
    if given == "onnx":
        return read_onnx(path, config, categories=categories)
    if given is not None:
        raise ValueError(f'{path} has the format {given!r}; ours is "format": "maskmill"')
    if KEY in config:
        return read_smp_folder(place.folder, config, categories=categories)
    table = place.entry.categories if place.entry else ""
    own = read_transformers(
        place.folder, config, name=place.name, categories=categories, table=table
    )
    if place.entry and not categories:
        return replace(own, tasks=place.entry.tasks)
    return own
