"""Finds a checkpoint in the hub's local cache, and fetches it where there is a network. No torch.

Only configuration, tokenizer, model card and safetensors are fetched; pickles on request alone.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from huggingface_hub import constants, snapshot_download, try_to_load_from_cache
from huggingface_hub.errors import (
    GatedRepoError,
    RepositoryNotFoundError,
    RevisionNotFoundError,
)

from schemas.suggest import nearest

from .catalog import CatalogEntry, catalog, entry_of, find_file
from .families import BUNDLED
from .files import TOKENIZERS, read_json, weight_files
from .hf_preprocessor import FILES

_SAFE = ("*.json", "*.txt", "README.md", "model.safetensors", "model-*-of-*.safetensors")
_PICKLED = ("pytorch_model.bin", "pytorch_model-*-of-*.bin")
_NOT = ("*/*",)
"""Folders of a repository hold other formats and older states."""


def cached_snapshot(repo: str, revision: str, *, allow_pickle: bool = False) -> Path | None:
    """The folder of a revision in the local cache, if all that is needed is there.

    Its name is the commit. A branch means what it meant when it was last fetched.
    """
    folder = _cached(repo, revision)
    return folder if folder and not _lack(folder, allow_pickle=allow_pickle) else None


def find_snapshot(
    repo: str, revision: str, *, allow_pickle: bool = False, gated: bool = False
) -> Path:
    """The folder of a revision: from the local cache, else from the network.

    Args:
        repo: Hub id.
        revision: Commit, branch or tag.
        allow_pickle: Take pickles where there are no safetensors.
        gated: Access has to be asked for.

    Raises:
        ValueError: It is not here and cannot be fetched; says how to, and where it must be.
    """
    folder = cached_snapshot(repo, revision, allow_pickle=allow_pickle)
    if folder:
        return folder
    if constants.HF_HUB_OFFLINE:
        raise ValueError(
            _missing(repo, revision, "HF_HUB_OFFLINE is set", gated, allow_pickle=allow_pickle)
        )
    try:
        folder = _fetch(repo, revision, *_SAFE)
        if allow_pickle and _lack(folder, allow_pickle=False):
            folder = _fetch(repo, revision, *_SAFE, *_PICKLED)
    except GatedRepoError as error:
        why = "the hub does not let you"
        raise ValueError(
            _missing(repo, revision, why, gated=True, allow_pickle=allow_pickle)
        ) from error
    except RevisionNotFoundError as error:
        raise ValueError(f"the hub's model {repo!r} has no revision {revision!r}") from error
    except RepositoryNotFoundError as error:
        raise ValueError(
            f"{repo!r} is no folder here, and the hub has no such model, or it is private"
        ) from error
    except Exception as error:  # no network, a full disk, a broken answer: all mean the same here
        why = " ".join(str(error).split())[:200] or type(error).__name__
        raise ValueError(_missing(repo, revision, why, gated, allow_pickle=allow_pickle)) from error
    lack = _lack(folder, allow_pickle=allow_pickle)
    if lack:
        raise ValueError(f"the hub's model {repo!r} (revision {revision!r}) is no use: {lack}")
    return folder


def fetch_command(repo: str, revision: str, *, allow_pickle: bool = False) -> str:
    """The command that fetches what is needed of a checkpoint into the local cache."""
    patterns = (*_SAFE, *_PICKLED) if allow_pickle else _SAFE
    wanted = " ".join(f'--include "{pattern}"' for pattern in patterns)
    return f"hf download {repo} --revision {revision} {wanted}"


def access_note(repo: str) -> str:
    """Where access to a gated checkpoint is asked for, and how to do without the hub."""
    return (
        f"gated: ask for access on the page of {repo} on the hub, then `hf auth login` with an "
        "account that has it; files that you have got otherwise are taken from a folder, "
        "--model FOLDER"
    )


def snapshot_folder(repo: str, revision: str) -> Path:
    """Where the cache keeps a revision; a branch's commit is not known before it is fetched."""
    commit = revision if len(revision) == 40 else "<commit>"
    return Path(constants.HF_HUB_CACHE) / f"models--{repo.replace('/', '--')}/snapshots/{commit}"


def _fetch(repo: str, revision: str, *patterns: str) -> Path:
    return Path(
        snapshot_download(
            repo,
            revision=revision,
            cache_dir=constants.HF_HUB_CACHE,
            allow_patterns=list(patterns),
            ignore_patterns=list(_NOT),
        )
    )


def _cached(repo: str, revision: str) -> Path | None:
    cache = constants.HF_HUB_CACHE
    path = try_to_load_from_cache(repo, "config.json", cache_dir=cache, revision=revision)
    return Path(path).parent if isinstance(path, str) else None


def _lack(folder: Path, *, allow_pickle: bool) -> str:
    """What is missing in a folder, "" if nothing."""
    if not (folder / "config.json").is_file():
        return f"{folder} holds no config.json"
    try:
        weight_files(folder, allow_pickle=allow_pickle)
        kind = read_json(folder / "config.json").get("model_type")
    except ValueError as error:
        return str(error)
    needed: list[tuple[str, ...]] = [] if kind is None else [FILES]
    if kind == "oneformer":
        needed.append(TOKENIZERS)
    for names in needed:
        if not any((folder / name).is_file() for name in names):
            return f"{folder} holds no {names[0]}"
    return ""


def _missing(repo: str, revision: str, why: str, gated: bool, *, allow_pickle: bool) -> str:
    folder = _cached(repo, revision)
    lack = _lack(folder, allow_pickle=allow_pickle) if folder else ""
    text = (
        f"model {repo!r} (revision {revision!r}) is not complete on this machine"
        f"{f': {lack}' if lack else ''}, and it could not be fetched: {why}. "
        f"Where there is a network: {fetch_command(repo, revision, allow_pickle=allow_pickle)} "
        f"– it must then be in {snapshot_folder(repo, revision)}"
    )
    if not gated:
        text += "; or give a local folder: --model FOLDER"
    else:
        text += f". It is {access_note(repo)}"
    return text


# Finds where a model is: bundled, of the catalog, a folder, or of the hub. No torch here.

WEIGHTS_ROOT = Path(__file__).parents[1] / "weights"
Source = Literal["bundled", "folder", "hub", "torchvision"]
WEIGHTS = (".safetensors", ".pth", ".pt", ".ckpt", ".bin", ".onnx")
"""Endings of files that `--model` may name."""
_HUB_ID = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


@dataclass(frozen=True, slots=True)
class ModelLocation:
    """Where a model is.

    Attributes:
        source: What kind of place it is.
        name: As the user wrote it, or a folder's own name.
        folder: Absolute.
        repo: Hub id, "" for what is from elsewhere.
        commit: Of the hub id, or the hash that torchvision puts into a file's name.
        entry: Of the catalog.
        file: Name of the file of weights in the folder, where it was named itself.
    """

    source: Source
    name: str
    folder: Path
    repo: str = ""
    commit: str = ""
    entry: CatalogEntry | None = None
    file: str = ""


def locate(model: str, *, revision: str = "", allow_pickle: bool = False) -> ModelLocation:
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
        return ModelLocation("bundled", model, WEIGHTS_ROOT / model)
    if entry and model == entry.name and entry.file:
        file = find_file(entry, allow_pickle=allow_pickle)
        if entry.origin:
            return ModelLocation("folder", model, file.parent, entry=entry, file=file.name)
        digits = file.stem.rpartition("-")[2]
        return ModelLocation("torchvision", model, file.parent, commit=digits, entry=entry)
    if folder.is_dir() and not (entry and model == entry.name):
        return ModelLocation("folder", folder.resolve().name, folder.resolve())
    if folder.is_file() and folder.suffix in WEIGHTS:
        path = folder.resolve()
        published = next(
            (each for each in catalog().values() if each.weights and each.file == path.name), None
        )
        if published is not None:
            digits = path.stem.rpartition("-")[2]
            return ModelLocation(
                "torchvision", published.name, path.parent, commit=digits, entry=published
            )
        return ModelLocation("folder", path.stem, path.parent, file=path.name)
    if not entry and not _HUB_ID.fullmatch(model):
        names = (*BUNDLED, *catalog(), *_beside(folder, model))
        raise ValueError(
            f"model {model!r} is neither a known name nor a folder{nearest(model, names)}; "
            "known: python -m jobs.models"
        )
    repo = entry.repo if entry else model
    if not entry and (near := nearest(model, _beside(folder, model))) and folder.parent.is_dir():
        raise ValueError(f"model {model!r} is no folder{near}")
    found = find_snapshot(
        repo,
        revision or (entry.revision if entry else "main"),
        allow_pickle=allow_pickle,
        gated=bool(entry and entry.gated),
    )
    return ModelLocation("hub", model, found, repo=repo, commit=found.name, entry=entry)


def _beside(folder: Path, model: str) -> list[str]:
    """Checkpoints beside a path that is not there, written as the path was."""
    if not folder.parent.is_dir():
        return []
    head, slash, _ = model.rstrip("/").rpartition("/")
    near = (path for path in folder.parent.iterdir() if not path.name.startswith("."))
    return sorted(
        f"{head}{slash}{path.name}"
        for path in near
        if (path / "config.json").is_file() or (path.is_file() and path.suffix in WEIGHTS)
    )
