"""What a job asks: its model, or two of them, and the prompts; all of it that can be wrong."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from pipeline.models.checkpoints.families import promptable
from pipeline.models.checkpoints.info import ModelInfo, describe
from pipeline.models.naming.names import named_categories, read_naming
from pipeline.prompts import PromptTable, open_prompts
from pipeline.prompts.request import Request, read_exemplars, read_mask_exemplars
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.job import JobConfig
from schemas.prompts import Ontology


@dataclass(frozen=True, slots=True)
class ResolvedModel:
    """A model and what it is asked.

    Attributes:
        info: The model; promptable ones know their categories and prompts.
        prompts: Points and boxes of each picture, or None.
        identity: Contents of the files of prompts: part of what labels depend on.
    """

    info: ModelInfo
    prompts: PromptTable | None
    identity: Mapping[str, Any]


def resolve_model(config: JobConfig, storage: Storage) -> ResolvedModel:
    """Describes the model of a job and reads its prompts.

    `A+B` names a model that finds boxes and a SAM that turns them into masks, or a SAM and an
    embedder that says what its masks look like.

    Raises:
        ValueError: No such model, a bad file of prompts, or prompts that the model cannot take.
        StorageError: A file of prompts cannot be read.
    """
    first, plus, second = _parts(config.model.name)
    info = _describe(config, first, revision="" if plus else config.model.revision)
    kind = promptable(info.family)
    asked = config.prompts
    given = [key for key in ("text", "ontology", "file", "exemplars") if getattr(asked, key)]
    if plus:
        if config.model.revision:
            raise ValueError("model.revision: A+B names two models; give their revisions as @…")
        partner = _describe(config, second)
        if kind is not None and kind.is_sam and _names_masks(partner):
            return _by_looks(config, _together(info, partner, family=partner.family), storage)
        if kind is None or not kind.boxes_only:
            raise ValueError(f"model.name: {first} makes masks itself, it takes no +{second}")
        info = _beside(info, partner)
    if _names_masks(info):
        raise ValueError(
            f"model.name: {first} compares masks and makes none: name a SAM before it, as in "
            f"--model sam-vit-b+{first}"
        )
    if kind is None:
        if given:
            raise ValueError(
                f"prompts.{given[0]}: {info.name} has categories of its own and takes no prompts"
            )
        return ResolvedModel(info, None, {})
    if kind.by_mask:
        return _by_masks(config, info, storage, given)
    if asked.exemplars:
        raise ValueError(
            f"prompts.exemplars: {info.name} compares nothing (--exemplar); a SAM with an embedder "
            "does, as --model sam-vit-b+clip-vit-b-32"
        )
    if len(given) > 1:
        raise ValueError(f"prompts.{given[0]} and prompts.{given[1]}: give one of them")
    if kind.by_text:
        return _by_text(config, info, storage)
    if asked.text or asked.ontology:
        raise ValueError(
            f"prompts.{given[0]}: {info.name} reads no words; a detector finds boxes for it, as in "
            f"--model grounding-dino-tiny+{info.name}, or an embedder names its masks, as in "
            f"--model {info.name}+clip-vit-b-32"
        )
    return _by_points(config, info, storage)


def _by_text(config: JobConfig, info: ModelInfo, storage: Storage) -> ResolvedModel:
    if config.prompts.file:
        raise ValueError(f"prompts.file: points and boxes are for SAM; {info.name} reads words")
    if "panoptic" in (config.task or ()) and not config.conflicts.non_overlap:
        raise ValueError(
            f"conflicts.non_overlap: the task 'panoptic' of {info.name} needs it, every pixel has "
            "one owner there: --set conflicts.non_overlap=true"
        )
    ontology = _ontology(config, storage)
    if ontology is None:
        raise ValueError(f"{info.name} looks for words: give --prompt TEXT or --ontology FILE")
    asking = _asking(config, ontology=ontology)
    info = replace(info, asking=asking, categories=ontology.categories())
    return ResolvedModel(info, None, {"ontology": ontology.model_dump(mode="json")})


def _ontology(config: JobConfig, storage: Storage) -> Ontology | None:
    """What words describe; None without words."""
    asked = config.prompts
    if asked.ontology:
        uri = absolute_uri(asked.ontology)
        return Ontology.from_toml(storage.read(uri), uri)
    return Ontology.of_prompts(asked.text) if asked.text else None


def _by_looks(config: JobConfig, info: ModelInfo, storage: Storage) -> ResolvedModel:
    """A SAM whose masks an embedder compares with words and exemplars."""
    asked = config.prompts
    if asked.file:
        raise ValueError(
            f"prompts.file: {info.name} names masks of everything; points and boxes are for SAM "
            "alone"
        )
    if asked.text and asked.ontology:
        raise ValueError("prompts.text and prompts.ontology: give one of them")
    ontology = _ontology(config, storage)
    exemplars = read_exemplars(config, storage)
    asking = replace(_asking(config, ontology=ontology), naming=config.naming, exemplars=exemplars)
    categories = named_categories(ontology, exemplars, keep_unnamed=config.naming.keep_unnamed)
    info = replace(info, asking=asking, categories=categories)
    read_naming(info, config.model)  # complains of what cannot be
    how = config.naming.model_dump(mode="json", exclude={"crops_per_batch"})
    identity: dict[str, Any] = {"naming": how}
    if ontology:
        identity["ontology"] = ontology.model_dump(mode="json")
    if exemplars:
        identity["exemplars"] = [each.identity() for each in exemplars]
    return ResolvedModel(info, None, identity)


def _by_masks(
    config: JobConfig, info: ModelInfo, storage: Storage, given: Sequence[str]
) -> ResolvedModel:
    """A model that is shown pictures in which the objects are marked."""
    how = "--exemplar IMAGE:@MASK=CATEGORY"
    for key in given:
        if key != "exemplars":
            raise ValueError(f"prompts.{key}: {info.name} is shown pictures with masks, {how}")
    exemplars = read_mask_exemplars(config, storage)
    if not exemplars:
        raise ValueError(f"{info.name} has to be shown what to look for: give {how}")
    asking = replace(_asking(config), mask_exemplars=exemplars)
    categories = named_categories(None, exemplars, keep_unnamed=False)
    info = replace(info, asking=asking, categories=categories)
    return ResolvedModel(info, None, {"exemplars": [each.identity() for each in exemplars]})


def _by_points(config: JobConfig, info: ModelInfo, storage: Storage) -> ResolvedModel:
    asked = config.prompts
    if not asked.file:
        return ResolvedModel(replace(info, asking=_asking(config)), None, {})
    table = open_prompts(asked.file, storage, kind=asked.format)
    table.on_size_mismatch = asked.on_size_mismatch
    info = replace(info, asking=_asking(config, from_file=True), categories=table.categories)
    return ResolvedModel(info, table, {"prompts": table.digest})


def _asking(
    config: JobConfig, *, ontology: Ontology | None = None, from_file: bool = False
) -> Request:
    return Request(
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
        architecture=config.model.architecture if name == config.model.name else None,
    )


def _beside(info: ModelInfo, partner: ModelInfo) -> ModelInfo:
    """A model that finds boxes, and a SAM for them."""
    kind = promptable(partner.family)
    if kind is None or not kind.is_sam:
        raise ValueError(f"model.name: {partner.name} is no SAM and turns no boxes into masks")
    return _together(info, partner, family=info.family)


def _names_masks(info: ModelInfo) -> bool:
    kind = promptable(info.family)
    return kind is not None and kind.names_masks


def _together(info: ModelInfo, partner: ModelInfo, *, family: str) -> ModelInfo:
    both = f"{info.weights_sha256}+{partner.weights_sha256}"
    return replace(
        info,
        name=f"{info.name}+{partner.name}",
        family=family,
        revision=f"{info.revision}+{partner.revision}",
        weights_sha256=hashlib.sha256(both.encode()).hexdigest(),
        licence=info.licence
        if info.licence == partner.licence
        else f"{info.licence} + {partner.licence}",
        partner=partner,
    )
