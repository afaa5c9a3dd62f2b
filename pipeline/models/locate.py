"""Finds where a model is: bundled, of the catalog, a folder, or of the hub. No torch here."""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from schemas.suggest import nearest

from . import BUNDLED
from .catalog import CatalogEntry, catalog, entry_of
from .hub import find_snapshot
from .torchvision_weights import find_torchvision

WEIGHTS_ROOT = Path(__file__).parent / "weights"
Source = Literal["bundled", "folder", "hub", "torchvision"]
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class Place:
    """Where a model is.

    Attributes:
        source: What kind of place it is.
        name: As the user wrote it, or a folder's own name.
        folder: Absolute.
        repo: Hub id, "" for what is from elsewhere.
        commit: Of the hub id, or the hash that torchvision puts into a file's name.
        entry: Of the catalog.
    """

    source: Source
    name: str
    folder: Path
    repo: str = ""
    commit: str = ""
    entry: CatalogEntry | None = None


def locate(model: str, *, revision: str = "", allow_pickle: bool = False) -> Place:
    """Finds a model and fetches what is missing of it.

    Args:
        model: As in `--model`.
        revision: Of a hub id; "" = that of the catalog, else "main".
        allow_pickle: Whether weights may be a pickle.

    Raises:
        ValueError: No such model, or it is not here and cannot be fetched.
    """
    entry = catalog().get(model) or entry_of(model)
    folder = Path(os.path.expanduser(model))
    if revision and (model in BUNDLED or (entry and entry.file) or folder.is_dir()):
        raise ValueError("model.revision: only a model of the hub has revisions")
    if model in BUNDLED:
        return Place("bundled", model, WEIGHTS_ROOT / BUNDLED[model])
    if entry and model == entry.name and entry.file:
        file = find_torchvision(entry, allow_pickle=allow_pickle)
        digits = file.stem.rpartition("-")[2]
        return Place("torchvision", model, file.parent, commit=digits, entry=entry)
    if folder.is_dir() and not (entry and model == entry.name):
        return Place("folder", folder.resolve().name, folder.resolve())
    if not entry and not _HUB_ID.fullmatch(model):
        names = (*BUNDLED, *catalog())
        raise ValueError(
            f"model {model!r} is neither a known name nor a folder{nearest(model, names)}; "
            "known: python -m jobs.models"
        )
    repo = entry.repo if entry else model
    found = find_snapshot(
        repo,
        revision or (entry.revision if entry else "main"),
        allow_pickle=allow_pickle,
        gated=bool(entry and entry.gated),
    )
    return Place("hub", model, found, repo=repo, commit=found.name, entry=entry)
