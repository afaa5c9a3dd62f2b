"""Evaluation: predictions against ground truth, with the metrics that the tasks of both allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pipeline.evaluation.metrics.coco_ap import AP_BACKENDS
from pipeline.evaluation.metrics.matching import THRESHOLDS
from pipeline.evaluation.metrics.metric import MAX_DETS, Figures, Metric
from pipeline.evaluation.metrics.overlay import overlay
from pipeline.evaluation.metrics.stack import stack
from pipeline.evaluation.metrics.table import VIEW_OF, choose_metrics, make_metrics
from pipeline.evaluation.metrics.views import VIEWS, Perspective, Unknown, unknown_named
from pipeline.evaluation.sources.categories import (
    CategoryMatch,
    Table,
    match_categories,
    read_category_map,
)
from pipeline.evaluation.sources.dataset import LedgerSource
from pipeline.evaluation.sources.open import open_source
from pipeline.evaluation.sources.source import Source
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.records import Task

from .pairs import ImagePair, PairReader, pair_images

# An evaluation's figures as plain data, in one order and with names.


def by_category(figures: Mapping[str, Figures], table: Table) -> list[dict[str, Any]]:
    """A row a category: id, name, isthing, and under each metric's name what it says of it."""
    rows = []
    for id_ in sorted({id_ for item in figures.values() for id_ in item.per_category}):
        known = table.get(id_)
        rows.append(
            {
                "category_id": id_,
                "name": known.name if known else str(id_),
                "isthing": known.isthing if known else None,
                **{n: f.per_category[id_] for n, f in figures.items() if id_ in f.per_category},
            }
        )
    return rows


def worst_images(figures: Mapping[str, Figures]) -> list[dict[str, Any]]:
    """The rows of the first metric that has some, the worst image first."""
    return next((item.images for item in figures.values() if item.images), [])


def further_parts(figures: Mapping[str, Figures]) -> dict[str, Any]:
    """What metrics have to say beyond numbers: curves, confusion."""
    return {name: part for item in figures.values() for name, part in item.more.items() if part}


__all__ = ["AP_BACKENDS", "evaluate", "read_category_map", "unknown_named"]


def evaluate(
    *,
    ground_truth: str,
    dataset: str | None = None,
    predictions: str | None = None,
    ground_truth_kind: str = "auto",
    predictions_kind: str = "auto",
    task: Task | None = None,
    metrics: Sequence[str] = (),
    ap_backend: str = AP_BACKENDS[0],
    void: Collection[int] | None = None,
    pixel_offset: int = 0,
    category_map: Mapping[str, str] | None = None,
    unknown_categories: Unknown | None = None,
    ignore_categories: bool = False,
    group_by_folder: bool = False,
    save: bool = False,
    storage: Storage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compares predictions with ground truth, batch by batch: memory does not grow with images.

    True images without a prediction count with an empty one; predicted images without ground
    truth are left out. Both are counted and listed.

    Args:
        ground_truth: Dataset of ours, COCO instances or panoptic JSON, folder of label maps or of
            semantic maps.
        dataset: Dataset of ours to be judged; also where `save` writes.
        predictions: A COCO results, instances or panoptic file, or a folder of maps, to be judged
            instead.
        ground_truth_kind: One of `pipeline.evaluation.sources.source.KINDS`, or "auto".
        predictions_kind: Likewise of what is judged.
        task: Which labels of a dataset of several tasks to judge; None = those that compare best
            with the ground truth.
        metrics: Some of `table.METRICS`; empty = all that say something
            about the tasks of both sides.
        ap_backend: One of `coco_ap.AP_BACKENDS`: who computes COCO's AP. All give the same
            digits.
        void: Pixel values of semantic maps that mean unlabelled; None = what `categories.json`
            beside them says, without it 0 and 255, or with a `pixel_offset` 255 alone.
        pixel_offset: Category id − pixel value in semantic maps.
        category_map: Name in the predictions → name in the ground truth, or the number in its
            pixels; categories that it leaves out are matched by name.
        unknown_categories: What becomes of true segments whose category the predictions do not
            have: one of `views.UNKNOWN`. None = "missed", but "background"
            where objects are painted to be compared with labelled pixels.
        ignore_categories: Do not tell things apart by category.
        group_by_folder: Also figures for each first folder of the images' paths.
        save: Write the result to `<dataset>/report/evaluation.json`.
        storage: File access.
        progress: Called with (images read, images) after every image.

    Returns:
        Plain data for JSON with the keys overall, per_category, groups, worst_images, settings and
        counts, and precision_recall and confusion where AP and mean IoU are measured; None where
        there was nothing to measure.

    Raises:
        ValueError: Bad arguments, unreadable contents, or sides that have nothing in common.
        StorageError: A file cannot be read or written.
    """
    judged = predictions or dataset
    if judged is None:
        raise ValueError("nothing to evaluate: name a dataset or a file of predictions")
    if save and dataset is None:
        raise ValueError("nowhere to save: name the dataset")
    unknown_categories = unknown_named(unknown_categories)
    storage = storage or Storage()
    maps: dict[str, Any] = {"void": void, "pixel_offset": pixel_offset, "storage": storage}
    predicted = open_source(judged, predictions_kind, task=task, **maps)
    truth = open_source(ground_truth, ground_truth_kind, other=predicted, **maps)
    if isinstance(predicted, LedgerSource) and task is None:
        predicted = predicted.suited_to(truth.task)
    match = match_categories(
        truth.categories,
        predicted.categories,
        truth_is_one=truth.kind == "labels",
        predicted_is_one=predicted.kind == "labels",
        ignore=ignore_categories,
        category_map=category_map,
    )
    chosen = choose_metrics(metrics, truth, predicted)
    views = {
        name: VIEWS[name](match, truth, predicted, unknown_categories)
        for name in dict.fromkeys(VIEW_OF[metric] for metric in chosen)
    }
    entries = truth.entries()
    pairing = pair_images([item for item in entries if not item.failed], predicted.entries())

    def fresh() -> dict[str, Metric]:
        return make_metrics(chosen, views, ap_backend=ap_backend)

    reader = PairReader(truth, predicted, pairing)
    total = fresh()
    groups: dict[str, dict[str, Metric]] = {}
    sizes: dict[str, int] = {}
    for batch in reader.batches(progress):
        for group, pairs in _by_folder(batch).items() if group_by_folder else [("", batch)]:
            tallies = [total]
            if group_by_folder:
                sizes[group] = sizes.get(group, 0) + len(pairs)
                tallies.append(groups.setdefault(group, fresh()))
            _measure(pairs, views, tallies)

    counts = reader.counts([item for item in entries if item.failed])
    figures = {name: metric.figures() for name, metric in total.items()}
    table = {id_: item for view in views.values() for id_, item in view.table.items()}
    result = {
        "overall": {name: item.overall for name, item in figures.items()},
        "per_category": by_category(figures, table),
        "groups": [
            {
                "group": group,
                "images": sizes[group],
                "overall": {name: metric.figures().overall for name, metric in tally.items()},
            }
            for group, tally in sorted(groups.items())
        ],
        "worst_images": worst_images(figures),
        **further_parts(figures),
        "settings": {
            "ground_truth": absolute_uri(ground_truth),
            "predictions": absolute_uri(judged),
            **_how_compared(match, truth, predicted),
            "metrics": list(chosen),
            "ap_backend": ap_backend,
            "void": None if void is None else sorted(void),
            "pixel_offset": pixel_offset,
            "category_map": dict(category_map or {}),
            "unknown_categories": {name: view.unknown for name, view in views.items()},
            "images_paired_by": pairing.how,
            "iou_thresholds": THRESHOLDS.tolist(),
            "max_dets": list(MAX_DETS[2:]),
            "missing_score": 1.0,
        },
        "counts": {
            **counts,
            "unknown_categories": list(match.unknown),
            "unpredictable_categories": [match.table[i].name for i in match.unpredictable],
        },
    }
    if save and dataset is not None:
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        storage.write(join(absolute_uri(dataset), "report", "evaluation.json"), text.encode())
    return result


def _measure(
    pairs: Sequence[ImagePair],
    views: Mapping[str, Perspective],
    tallies: Sequence[Mapping[str, Metric]],
) -> None:
    """Shows images to metrics, each in the view that it wants."""
    images = [pair.image for pair in pairs]
    true = stack([p.truth for p in pairs], [f"ground truth of {i.name}" for i in images])
    answers = stack([p.predicted for p in pairs], [f"predictions of {i.name}" for i in images])
    for name, view in views.items():
        compared = overlay(images, view.truth(true), view.predicted(answers))
        for tally in tallies:
            for metric in (metric for key, metric in tally.items() if VIEW_OF[key] == name):
                metric.add(compared)


def _by_folder(pairs: Sequence[ImagePair]) -> dict[str, list[ImagePair]]:
    folders: dict[str, list[ImagePair]] = {}
    for pair in pairs:
        folders.setdefault(pair.group, []).append(pair)
    return folders


def _how_compared(match: CategoryMatch, truth: Source, predicted: Source) -> dict[str, Any]:
    return {
        "ground_truth_kind": truth.kind,
        "ground_truth_task": truth.task,
        "predictions_kind": predicted.kind,
        "predictions_task": predicted.task,
        "categories": match.how,
    }
