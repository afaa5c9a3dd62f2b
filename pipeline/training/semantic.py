"""Training of a semantic network from datasets as one call. Imports no torch until it learns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.categories import Categories
from schemas.config.training import Architecture, SemanticTrainConfig

from .categories import (
    MOST,
    chosen_table,
    count_pixels,
    joined_table,
    numbered_table,
    weights_of,
    with_background,
)
from .data import LabelLocation, LabelSource, split_pairs
from .examples import Examples, ExamplesPlan
from .workers import TrainingJob

__all__ = ["LabelLocation", "train_semantic"]


def train_semantic(
    places: Sequence[LabelLocation],
    output: Path,
    config: SemanticTrainConfig,
    *,
    val: LabelLocation | None = None,
    architecture: Architecture | None = None,
    init: str = "",
    licence: str = "unknown",
    device: str = "auto",
    resume: bool = False,
    allow_pickle: bool = False,
    report: Callable[[Mapping[str, Any]], None] = lambda row: None,
    storage: Storage | None = None,
) -> dict[str, Any]:
    """Trains a network that gives each pixel a category; `--model OUTPUT` loads the result.

    Args:
        places: Labels and pictures to learn from; what they call a category must agree.
        output: Gets the checkpoint of the best epoch, log.jsonl (a line an epoch), training.json
            and last.pt (everything needed to go on).
        config: How.
        val: Labels and pictures to validate on; None = as the first dataset's splits say, without
            them a share of each dataset by a hash of its pictures.
        architecture: Which network; None = that of `init`, without it a U-Net.
        init: Checkpoint to go on from: short name, hub id or folder; "" = random weights.
        licence: Of the weights that come out.
        device: "auto", "cpu", "cuda", "cuda:N".
        resume: Go on from last.pt; the same epochs then follow as without the interruption.
        allow_pickle: Whether the weights of `init` may be a pickle.
        report: Called with each line of the log.
        storage: File access.

    Returns:
        The best epoch's line.

    Raises:
        ValueError: Bad data, an output that is in use, or a last.pt of another run.
        StorageError: A file cannot be read.
    """
    storage = storage or Storage()
    output = output.absolute()
    last = output / "last.pt"
    if not resume and last.exists():
        raise ValueError(f"{output} holds a run already: resume it, or choose another folder")
    if resume and not last.is_file():
        raise ValueError(f"{output} holds no last.pt to resume from")
    if not init:
        config.encoder_of(architecture or "unet")
    if config.shares and len(config.shares) != len(places):
        raise ValueError(f"shares must name one share a dataset: {len(places)} datasets")
    if init and Path(init).is_dir():
        init = str(Path(init).absolute())  # a worker's folder is never the caller's
    places = [_absolute(place) for place in places]
    val = _absolute(val) if val else None
    labelled = [LabelSource(place, storage) for place in places]
    held = [LabelSource(val, storage)] if val else []
    categories = _table([*labelled, *held], config)
    _check_metric(config.best_by, categories)
    numbers, held_numbers = _numbers(labelled, held, config)
    learn = _plan(labelled, numbers, categories, config, storage)
    check = _plan(held or labelled, held_numbers, categories, config, storage)
    check = replace(check, min_score=0.0)
    job = TrainingJob(
        output=output,
        config=config,
        architecture=architecture,
        init=init,
        learn=learn,
        val=check,
        weights=_weights(Examples(learn, labelled), config),
        facts={
            "model": architecture or (init and "that of init") or "unet",
            "init": init,
            "datasets": [absolute_uri(place.labels) for place in places],
            "learned_from": len(learn.numbers),
            "validated_on": len(check.numbers),
            "licence": licence,
        },
        device=device,
        resume=resume,
        allow_pickle=allow_pickle,
    )
    output.mkdir(parents=True, exist_ok=True)
    if config.workers == 1:
        return job.work(report)
    from .workers import learn_together

    return learn_together(job, report)


def _absolute(place: LabelLocation) -> LabelLocation:
    """Places as every process finds them."""
    pictures = absolute_uri(place.pictures) if place.pictures else ""
    return replace(place, labels=absolute_uri(place.labels), pictures=pictures)


def _table(labelled: Sequence[LabelSource], config: SemanticTrainConfig) -> Categories:
    """What is learned: the user's table, those of the datasets, or what the pixels hold."""
    if config.categories:
        categories = chosen_table(config.categories)
    else:
        named = [
            (each.place.labels, each.source.categories)
            for each in labelled
            if each.source.categories is not None
        ]
        categories = joined_table([(where, table) for where, table in named])
        if len(named) < len(labelled):
            if named:
                raise ValueError(
                    "some datasets name their categories and others do not: set categories"
                )
            categories = numbered_table(_ids(labelled))
    if any(each.rest(config.rest) == "background" for each in labelled):
        categories = with_background(categories)
    if len(categories) < 2:
        raise ValueError(
            f"{len(categories)} category: a network tells two or more apart; rest = "
            '"background" makes pixels without a segment one'
        )
    return categories


def _ids(labelled: Sequence[LabelSource]) -> set[int]:
    """Every category id in the maps."""
    ids: set[int] = set()
    for each in labelled:
        for pair in each.pairs:
            ids.update(np.unique(each.source.read(pair.key).category_ids).tolist())
    return ids


def _check_metric(best_by: str, categories: Categories) -> None:
    names = [item.name for item in categories]
    kind, _, name = best_by.partition(":")
    if kind == "iou" and name not in names:
        raise ValueError(f"best_by: no category is called {name!r}; known: {', '.join(names)}")


def _numbers(
    labelled: Sequence[LabelSource], held: Sequence[LabelSource], config: SemanticTrainConfig
) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """(place, position) of the pictures to learn from, and of those to validate on."""
    learn: list[tuple[int, int]] = []
    check: list[tuple[int, int]] = []
    for place, each in enumerate(labelled):
        if held:
            sides = [pair.split for pair in each.pairs]
            learn += [(place, i) for i, side in enumerate(sides) if side in ("", "train")]
            continue
        train, val = split_pairs(each.pairs, val=config.val, seed=config.seed)
        learn += [(place, i) for i in train]
        check += [(place, i) for i in val]
    if held:
        pairs = held[0].pairs
        splits = any(pair.split == "val" for pair in pairs)
        check = [
            (0, i)
            for i, pair in enumerate(pairs)
            if not pair.is_copy and (pair.split == "val" or not splits)
        ]
    if not learn:
        raise ValueError("there is no picture to learn from")
    return learn, check


def _plan(
    labelled: Sequence[LabelSource],
    numbers: Sequence[tuple[int, int]],
    categories: Categories,
    config: SemanticTrainConfig,
    storage: Storage,
) -> ExamplesPlan:
    return ExamplesPlan(
        places=tuple(each.place for each in labelled),
        numbers=tuple(numbers),
        names=tuple(labelled[place].pairs[at].record.file_name for place, at in numbers),
        rests=tuple(each.rest(config.rest) for each in labelled),
        categories=categories,
        min_score=config.min_score,
        cache_bytes=config.cache_mb << 20,
        storage=storage,
    )


def _weights(examples: Examples, config: SemanticTrainConfig) -> tuple[float, ...]:
    """Reads the labels only where weights follow from them."""
    categories = examples.categories
    size = len(categories)
    pixels = around = np.zeros(size, np.int64)
    if isinstance(config.category_weights, str) and config.category_weights != "none":
        pixels, around = count_pixels(examples.some_maps(MOST), size)
    return weights_of(config.category_weights, categories, pixels, around, most=config.max_weight)
