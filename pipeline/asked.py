"""What a job asks: its model, or two of them, and the prompts; all of it that can be wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from schemas.config import JobConfig
from schemas.ontology import Ontology

from .models.asking import Asking
from .models.info import ModelInfo, describe
from .models.promptable import promptable
from .prompt_files import PromptTable, open_prompts
from .storage import Storage, absolute_uri


@dataclass(frozen=True, slots=True)
class Asked:
    """A model and what it is asked.

    Attributes:
        info: The model; promptable ones know their categories and prompts.
        prompts: Points and boxes of each picture, or None.
        identity: Contents of the files of prompts: part of what labels depend on.
    """

    info: ModelInfo
    prompts: PromptTable | None
    identity: Mapping[str, Any]


def read_asked(config: JobConfig, storage: Storage) -> Asked:
    """Describes the model of a job and reads its prompts.

    `A+B` names a model that finds boxes and a SAM that turns them into masks.

    Raises:
        ValueError: No such model, a bad file of prompts, or prompts that the model cannot take.
        StorageError: A file of prompts cannot be read.
    """
    first, plus, second = _parts(config.model.name)
    info = _describe(config, first, revision="" if plus else config.model.revision)
    kind = promptable(info.family)
    if plus:
        if config.model.revision:
            raise ValueError("model.revision: A+B names two models; give their revisions as @…")
        if kind is None or not kind.boxes_only:
            raise ValueError(f"model.name: {first} makes masks itself, it takes no +{second}")
        info = _beside(info, _describe(config, second))
    asked = config.prompts
    given = [key for key in ("text", "ontology", "file") if getattr(asked, key)]
    if kind is None:
        if given:
            raise ValueError(
                f"prompts.{given[0]}: {info.name} has categories of its own and takes no prompts"
            )
        return Asked(info, None, {})
    if len(given) > 1:
        raise ValueError(f"prompts.{given[0]} and prompts.{given[1]}: give one of them")
    if kind.by_text:
        return _by_text(config, info, storage)
    if asked.text or asked.ontology:
        raise ValueError(
            f"prompts.{given[0]}: {info.name} reads no words; a detector finds boxes for it, as in "
            f"--model grounding-dino-tiny+{info.name}"
        )
    return _by_points(config, info, storage)


def _by_text(config: JobConfig, info: ModelInfo, storage: Storage) -> Asked:
    asked = config.prompts
    if asked.file:
        raise ValueError(f"prompts.file: points and boxes are for SAM; {info.name} reads words")
    if "panoptic" in (config.task or ()) and not config.conflicts.non_overlap:
        raise ValueError(
            f"conflicts.non_overlap: the task 'panoptic' of {info.name} needs it, every pixel has "
            "one owner there: --set conflicts.non_overlap=true"
        )
    if asked.ontology:
        uri = absolute_uri(asked.ontology)
        ontology = Ontology.from_toml(storage.read(uri), uri)
    elif asked.text:
        ontology = Ontology.of_prompts(asked.text)
    else:
        raise ValueError(f"{info.name} looks for words: give --prompt TEXT or --ontology FILE")
    asking = _asking(config, ontology=ontology)
    info = replace(info, asking=asking, categories=ontology.categories())
    return Asked(info, None, {"ontology": ontology.model_dump(mode="json")})


def _by_points(config: JobConfig, info: ModelInfo, storage: Storage) -> Asked:
    asked = config.prompts
    if not asked.file:
        return Asked(replace(info, asking=_asking(config)), None, {})
    table = open_prompts(asked.file, storage, kind=asked.format)
    info = replace(info, asking=_asking(config, from_file=True), categories=table.categories)
    return Asked(info, table, {"prompts": table.digest})


def _asking(
    config: JobConfig, *, ontology: Ontology | None = None, from_file: bool = False
) -> Asking:
    return Asking(
        prompts=config.prompts,
        everything=config.everything,
        conflicts=config.conflicts,
        ontology=ontology,
        from_file=from_file,
    )


def _parts(name: str) -> tuple[str, str, str]:
    """ "A+B" in two; a folder whose name holds a plus is one model."""
    if Path(name).expanduser().is_dir():
        return name, "", ""
    first, plus, second = name.partition("+")
    if plus and not (first and second):
        raise ValueError(f"model.name: {name!r} lacks a model before or after the +")
    return first, plus, second


def _describe(config: JobConfig, name: str, *, revision: str = "") -> ModelInfo:
    return describe(
        name,
        revision=revision,
        categories=config.model.categories,
        allow_pickle=config.model.allow_pickle,
    )


def _beside(info: ModelInfo, partner: ModelInfo) -> ModelInfo:
    """One description of two models."""
    kind = promptable(partner.family)
    if kind is None or kind.by_text:
        raise ValueError(f"model.name: {partner.name} is no SAM and turns no boxes into masks")
    both = f"{info.weights_sha256}+{partner.weights_sha256}"
    return replace(
        info,
        name=f"{info.name}+{partner.name}",
        revision=f"{info.revision}+{partner.revision}",
        weights_sha256=hashlib.sha256(both.encode()).hexdigest(),
        licence=info.licence
        if info.licence == partner.licence
        else f"{info.licence} + {partner.licence}",
        partner=partner,
    )
