"""The catalog: models that `--model` knows by name, from catalog.toml. No torch here."""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from schemas.records import Task

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
        repo: Hub id, "" for torchvision's.
        revision: Of the hub id: a commit, "refs/pr/N" or a branch.
        gated: Whether access has to be asked for.
        weights: torchvision's "Enumeration.NAME", "" for a hub id.
        file: Name that torchvision keeps them under.
        architecture: torchvision's name of the network.
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
    architecture: str = ""

    @property
    def pinned(self) -> bool:
        """Whether the revision can never be another: a commit, or a hash in the file's name."""
        return bool(self.file) or len(self.revision) == 40


@cache
def catalog() -> Mapping[str, CatalogEntry]:
    """Short name → entry, in the order of the file."""
    entries: dict[str, CatalogEntry] = {}
    for group in tomllib.loads(_FILE.read_text(encoding="utf-8")).values():
        models = group.pop("models")
        tasks = tuple(group.pop("tasks"))
        for name, own in models.items():
            entries[name] = CatalogEntry(name=name, tasks=tasks, **group, **own)
    return entries


def entry_of(repo: str) -> CatalogEntry | None:
    """The entry of a hub id."""
    return next((entry for entry in catalog().values() if repo and entry.repo == repo), None)
