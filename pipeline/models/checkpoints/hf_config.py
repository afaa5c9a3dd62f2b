"""Reads a checkpoint's config.json in transformers' format. No torch here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from schemas.categories import Categories
from schemas.records import TASKS, Task
from schemas.suggest import nearest

from .category_tables import plain_name
from .description import (
    CategoryMap,
    Described,
    beside_weights,
    in_order,
    map_chosen,
    map_outputs,
    named_task,
)
from .families import FAMILIES, OBJECT, family_of, promptable
from .files import TOKENIZERS, class_info_files, read_json
from .hf_preprocessor import preprocessor, read_fit_rule
from .smp import SIDECAR, json_table


def read_transformers(
    folder: Path,
    config: Mapping[str, Any],
    *,
    name: str,
    categories: str = "",
    table: str = "",
) -> Described:
    """What the folder's files say, weights apart.

    Args:
        folder: The checkpoint.
        config: Its config.json.
        name: Hub id or short name; the task in it is the default one.
        categories: A table that the user chose, "" = find it.
        table: The one that is known to be the model's, for names that tell nothing.

    Raises:
        ValueError: No family knows this model, or a file is missing or bad.
    """
    family = _family(folder / "config.json", config)
    _check_channels(folder / "config.json", config)
    if promptable(family):
        check_preprocessor(folder)
        if categories:
            raise ValueError("model.categories: a promptable model finds what it is asked for")
        asked = CategoryMap("", Categories((OBJECT,)), ())
        return Described(family, FAMILIES[family].tasks, asked)
    painted = FAMILIES[family].tasks == ("semantic",)
    settings = check_preprocessor(folder)
    names = output_names(folder / "config.json", config)
    # jobs.train writes it: ids and colours, which transformers' own file has no place for.
    beside = json_table(folder / SIDECAR)
    chosen = categories or beside_weights(folder / SIDECAR, beside.get("categories"))
    if chosen:
        outputs = map_chosen(names, chosen)
        sure = True
    else:
        info = _class_info(folder)
        sure = _says(info, names)
        guess = [not painted and info.get(plain_name(each), True) for each in names]
        outputs = map_outputs(names, isthing=guess)
        if table and not outputs.table:
            outputs = map_chosen(names, table)
        sure = sure or bool(outputs.table)
    if painted:
        return Described(family, ("semantic",), outputs, str(beside.get("licence", "")))
    if FAMILIES[family].tasks == ("instance",):
        return Described(family, ("instance",), outputs)
    if family == "oneformer":
        if not any((folder / each).is_file() for each in TOKENIZERS):
            raise ValueError(
                f"{folder} holds no tokenizer ({' or '.join(TOKENIZERS)}), with which a OneFormer "
                "is told its task"
            )
        return Described(family, in_order(TASKS, first="panoptic"), outputs)
    if family == "eomt" and settings.get("do_split_image"):
        return Described(family, ("semantic",), outputs)
    return Described(family, _tasks(outputs, name=name, sure=sure), outputs)


def check_preprocessor(folder: Path) -> dict[str, Any]:
    """The image processor's settings, if pictures can be brought in by them.

    Raises:
        ValueError: There are none, or of an unknown kind; names the folder.
    """
    settings = preprocessor(folder)
    try:
        read_fit_rule(settings)
    except ValueError as error:
        raise ValueError(f"{folder}: {error}") from error
    return settings


def _tasks(outputs: CategoryMap, *, name: str, sure: bool) -> tuple[Task, ...]:
    """A model that is known to find things alone was trained for instances."""
    stuff = any(not item.isthing for item in outputs.categories)
    if sure and not stuff:
        return ("instance",)
    return in_order(TASKS, first=named_task(name, TASKS) or ("panoptic" if stuff else "instance"))


def _family(path: Path, config: Mapping[str, Any]) -> str:
    kind = config.get("model_type")
    heads = config.get("architectures") or []
    if not isinstance(kind, str) or not isinstance(heads, list):
        raise ValueError(
            f'{path} has neither "format": "maskmill" nor a model_type of transformers nor the '
            "keys of segmentation-models-pytorch; other formats are not supported"
        )
    family = family_of(kind)
    if family is None and "AutoConfig" in (config.get("auto_map") or ()):
        raise ValueError(
            f"{path}: model_type {kind!r} brings code of its own (auto_map), and code of a "
            "checkpoint is never run"
        )
    painters = FAMILIES["semantic"].heads
    if family is None and any(str(head).endswith(painters) for head in heads):
        family = "semantic"  # whatever AutoModelForSemanticSegmentation loads
    if family is None:
        known = sorted(each for row in FAMILIES.values() for each in row.model_types)
        raise ValueError(
            f"{path}: model_type {kind!r} segments nothing that is known here"
            f"{nearest(kind, known)}; known: {', '.join(known)}"
        )
    wanted = FAMILIES[family].heads
    if heads and wanted and not any(str(head).endswith(wanted) for head in heads):
        raise ValueError(f"{path}: {heads[0]} does not segment; a {' or '.join(wanted)} does")
    return family


def _check_channels(path: Path, config: Mapping[str, Any]) -> None:
    """The network, its vision part or their backbone says how many channels a picture has."""
    said = config.get("num_channels", 3)
    if type(said) is int and said != 3:
        raise ValueError(
            f"{path}: the network sees pictures of {said} channels; networks of transformers are "
            "given three, of another number can be those of segmentation-models-pytorch"
        )
    for key in ("vision_config", "backbone_config"):
        inner = config.get(key)
        if isinstance(inner, Mapping):
            _check_channels(path, inner)


def output_names(path: Path, config: Mapping[str, Any]) -> list[str]:
    """Name of each output, in order.

    Some tables count from 1. They have as many names as the network has outputs, so the first name
    is the first output's.

    Raises:
        ValueError: The numbers of `id2label` are neither 0, 1, 2, … nor 1, 2, 3, …
    """
    given = config.get("id2label")
    if given is None:
        count = config.get("num_labels", 2)
        given = {index: f"LABEL_{index}" for index in range(count if type(count) is int else 0)}
    try:
        pairs = list(enumerate(given) if isinstance(given, list) else given.items())
        by_index = {int(index): str(name) for index, name in pairs}
    except (AttributeError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: id2label is no table of numbers and names") from error
    if len(by_index) < len(pairs) or any(isinstance(name, list | dict) for _, name in pairs):
        raise ValueError(f"{path}: id2label names an output twice, or by what is no name")
    numbers = sorted(by_index)
    if not numbers or numbers[0] not in (0, 1) or numbers[-1] - numbers[0] >= len(numbers):
        raise ValueError(
            f"{path}: the numbers of id2label must be 0, 1, 2, … (or 1, 2, 3, …), one for each "
            "output of the network"
        )
    return [by_index[number] for number in numbers]


def _class_info(folder: Path) -> dict[str, bool]:
    """`plain_name` → thing or not, from OneFormer's file in the folder."""
    things: dict[str, bool] = {}
    for path in class_info_files(folder):
        for entry in read_json(path).values():
            if isinstance(entry, dict) and {"name", "isthing"} <= entry.keys():
                things.setdefault(plain_name(str(entry["name"])), bool(entry["isthing"]))
    return things


def _says(info: Mapping[str, bool], names: Sequence[str]) -> bool:
    return bool(info) and all(plain_name(name) in info for name in names)
