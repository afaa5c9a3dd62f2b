"""The catalog: models that `--model` knows by name, from catalog.toml. No torch here.

Those of the hub are found by `locate`. Single files lie in the folder where torch keeps such. They
are pickles: each use needs `--allow-pickle`. torchvision fetches its own; others their user places.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from huggingface_hub import constants

from schemas.records import Task

from .category_tables import category_table

_FILE = Path(__file__).with_name("catalog.toml")


@dataclass(frozen=True, slots=True)
class CatalogEntry:
    """A model that can be fetched; catalog.toml says what each key means.

    Attributes:
        name: For `--model`.
        family: A key of `FAMILIES`.
        tasks: The default first.
        categories: Name of the table of its outputs, "" for a promptable model.
        input: What pictures are resized to, in words.
        licence: Of the weights.
        parameters: Millions.
        repo: Hub id, "" for a single file.
        revision: Of the hub id: a commit, "refs/pr/N" or a branch.
        gated: Whether access has to be asked for.
        weights: torchvision's "Enumeration.NAME", "" for others.
        file: Name of the single file as it is published.
        origin: Where its user gets a file that nothing here fetches: GitHub repository, path.
        architecture: torchvision's or the authors' name of the network of a file.
        checked: What of its make was compared, with what.
    """

    name: str
    family: str
    tasks: tuple[Task, ...]
    categories: str
    input: str
    licence: str
    parameters: float
    repo: str = ""
    revision: str = ""
    gated: bool = False
    weights: str = ""
    file: str = ""
    origin: str = ""
    architecture: str = ""
    checked: str = ""

    @property
    def pinned(self) -> bool:
        """Whether the revision can never be another: a commit, or a hash in the file's name."""
        return bool(self.weights) or len(self.revision) == 40


@cache
def catalog() -> Mapping[str, CatalogEntry]:
    """Short name → entry, in the order of the file."""
    entries: dict[str, CatalogEntry] = {}
    groups = tomllib.loads(_FILE.read_text(encoding="utf-8"))
    checked = groups.pop("checked")
    for group in groups.values():
        models = group.pop("models")
        tasks = tuple(group.pop("tasks"))
        what = group.pop("checked", "") or checked[group["family"]]
        for name, own in models.items():
            entries[name] = CatalogEntry(
                name=name, tasks=tasks, **{"checked": what, **group, **own}
            )
    return entries


def entry_of(repo: str) -> CatalogEntry | None:
    """The entry of a hub id."""
    return next((entry for entry in catalog().values() if repo and entry.repo == repo), None)


_OUTPUTS = 91
"""COCO's networks: number = category id, with gaps; 0 is background."""


def file_place(entry: CatalogEntry) -> Path:
    """Where the single file of an entry is: with torch's own, under TORCH_HOME, else the cache."""
    cache = os.environ.get("XDG_CACHE_HOME") or "~/.cache"
    home = os.environ.get("TORCH_HOME") or os.path.join(cache, "torch")
    return Path(home).expanduser().absolute() / "hub" / "checkpoints" / entry.file


def file_command(entry: CatalogEntry) -> str:
    """The command that fetches the single file of an entry, or what its user does instead."""
    if entry.origin:
        return f"place it yourself, of the GitHub repository {entry.origin}"
    return f'python -c "{_code(entry)}"'


def torchvision_config(entry: CatalogEntry) -> dict[str, Any]:
    """What a folder of our own format would say of the weights in its config.json."""
    table = category_table(entry.categories)
    ids = [item.id for item in table.categories]
    if entry.family == "maskrcnn":
        ids = [number if number in set(ids) else 0 for number in range(_OUTPUTS)]
    architecture: dict[str, Any] = {"name": entry.architecture}
    if entry.architecture == "maskrcnn_resnet50_fpn":
        architecture["norm_eps"] = 0.0  # its weights were made with frozen norms without it
    return {
        "format": "maskmill",
        "family": entry.family,
        "tasks": list(entry.tasks),
        "licence": entry.licence,
        "categories": table.categories.to_json(),
        "category_ids": ids,
        "architecture": architecture,
        "weights": entry.file,
    }


def find_file(entry: CatalogEntry, *, allow_pickle: bool) -> Path:
    """The single file of an entry: where it is, else fetched.

    Raises:
        ValueError: Pickles are not allowed, or it is not here and cannot be fetched.
    """
    path = file_place(entry)
    if not allow_pickle:
        raise ValueError(
            f"model {entry.name!r}: its weights are published as a pickle, which may run code of "
            "its author's when it is read; --allow-pickle reads weights alone from it"
        )
    if path.is_file():
        return path
    if entry.origin:
        raise ValueError(
            f"model {entry.name!r} is not on this machine, and nothing here fetches it: "
            f"{file_command(entry)}, as {path}; or name the file where it is, --model FILE"
        )
    why = "HF_HUB_OFFLINE is set"
    if not constants.HF_HUB_OFFLINE:
        done = subprocess.run(
            [sys.executable, "-c", _code(entry)], capture_output=True, text=True, check=False
        )
        if done.returncode == 0 and path.is_file():
            return path
        why = (done.stderr.strip().splitlines() or ["it is not where it should be"])[-1][:200]
    raise ValueError(
        f"model {entry.name!r} is not on this machine and could not be fetched: {why}. Where there "
        f"is a network: {file_command(entry)} – it must then be {path}; "
        "or give a local folder: --model FOLDER"
    )


def _code(entry: CatalogEntry) -> str:
    enumeration, _, name = entry.weights.partition(".")
    package = "detection" if entry.family == "maskrcnn" else "segmentation"
    return (
        f"from torchvision.models.{package} import {enumeration} as W; "
        f"W.{name}.get_state_dict(check_hash=True, weights_only=True)"
    )
