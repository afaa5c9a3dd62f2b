"""Evaluation: predictions against ground truth, with the metrics that the tasks of both allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from schemas.records import Task

from .evaluation.categories import Table, match_categories
from .evaluation.coco_ap import MAX_DETS
from .evaluation.ground_truth import open_source
from .evaluation.ledger_source import LedgerSource
from .evaluation.matching import THRESHOLDS
from .evaluation.metric import Figures, Metric
from .evaluation.metrics import choose_metrics, make_metrics
from .evaluation.pair_reader import LISTED, PairReader
from .evaluation.pairing import pair_images
from .evaluation.source import ImageEntry
from .storage import Storage, absolute_uri, join


def evaluate(
    *,
    ground_truth: str,
    dataset: str | None = None,
    predictions: str | None = None,
    ground_truth_kind: str = "auto",
    task: Task | None = None,
    metrics: Sequence[str] = (),
    void: Collection[int] | None = None,
    pixel_offset: int = 0,
    ignore_categories: bool = False,
    group_by_folder: bool = False,
    save: bool = False,
    storage: Storage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compares predictions with ground truth, image by image.

    True images without a prediction count with an empty one; predicted images without ground
    truth are left out. Both are counted and listed.

    Args:
        ground_truth: Dataset of ours, COCO instances or panoptic JSON, folder of label maps or of
            semantic maps.
        dataset: Dataset of ours to be judged; also where `save` writes.
        predictions: A COCO results, instances or panoptic file, or a folder of maps, to be judged
            instead.
        ground_truth_kind: One of `pipeline.evaluation.source.KINDS`, or "auto".
        task: Which labels of a dataset of several tasks to judge; None = those that compare best
            with the ground truth.
        metrics: Some of `pipeline.evaluation.metrics.METRICS`; empty = all that the tasks of both
            sides allow.
        void: Pixel values of semantic maps that mean unlabelled; None = 0 and 255, or with a
            `pixel_offset` 255 alone.
        pixel_offset: Category id − pixel value in semantic maps.
        ignore_categories: Do not tell things apart by category.
        group_by_folder: Also figures for each first folder of the images' paths.
        save: Write the result to `<dataset>/report/evaluation.json`.
        storage: File access.
        progress: Called with (images done, images) after every image.

    Returns:
        Plain data for JSON with the keys overall, per_category, groups, worst_images, settings and
        counts; None where there was nothing to measure.

    Raises:
        ValueError: Bad arguments, unreadable contents, or sides that have nothing in common.
        StorageError: A file cannot be read or written.
    """
    judged = predictions or dataset
    if judged is None:
        raise ValueError("nothing to evaluate: name a dataset or a file of predictions")
    if save and dataset is None:
        raise ValueError("nowhere to save: name the dataset")
    storage = storage or Storage()
    maps: dict[str, Any] = {"void": void, "pixel_offset": pixel_offset, "storage": storage}
    predicted = open_source(judged, task=task, **maps)
    truth = open_source(ground_truth, ground_truth_kind, other=predicted, **maps)
    if isinstance(predicted, LedgerSource) and task is None:
        predicted = predicted.suited_to(truth.task)
    match = match_categories(
        truth.categories,
        predicted.categories,
        truth_is_one=truth.kind == "labels",
        predicted_is_one=predicted.kind == "labels",
        ignore=ignore_categories,
    )
    rest = None
    if truth.kind == "labels" and predicted.task == "semantic":
        rest = next((item.id for item in match.table.values() if item.is_background), None)
    chosen = choose_metrics(metrics, truth, predicted, whole_pictures=rest is not None)
    entries = truth.entries()
    pairing = pair_images([item for item in entries if not item.failed], predicted.entries())

    def fresh() -> dict[str, Metric]:
        return make_metrics(chosen, match.table, unlabelled=truth.task == "panoptic")

    reader = PairReader(truth, predicted, match, rest=rest)
    total = fresh()
    groups: dict[str, dict[str, Metric]] = {}
    sizes: dict[str, int] = {}
    for done, pair in enumerate(pairing.pairs, start=1):
        image = reader.compare(*pair)
        tallies = [total]
        if group_by_folder:
            group = _folder(*pair)
            sizes[group] = sizes.get(group, 0) + 1
            tallies.append(groups.setdefault(group, fresh()))
        for metric in (metric for tally in tallies for metric in tally.values()):
            metric.add(image)
        if progress:
            progress(done, len(pairing.pairs))

    counts = reader.counts(pairing, [item for item in entries if item.failed])
    figures = {name: metric.figures() for name, metric in total.items()}
    result = {
        "overall": {name: item.overall for name, item in figures.items()},
        "per_category": _per_category(figures, match.table),
        "groups": [
            {
                "group": group,
                "images": sizes[group],
                "overall": {name: metric.figures().overall for name, metric in tally.items()},
            }
            for group, tally in sorted(groups.items())
        ],
        "worst_images": _worst(figures),
        "settings": {
            "ground_truth": absolute_uri(ground_truth),
            "ground_truth_kind": truth.kind,
            "ground_truth_task": truth.task,
            "predictions": absolute_uri(judged),
            "predictions_kind": predicted.kind,
            "predictions_task": predicted.task,
            "metrics": list(chosen),
            "categories": match.how,
            "images_paired_by": pairing.how,
            "iou_thresholds": THRESHOLDS.tolist(),
            "max_dets": list(MAX_DETS[2:]),
            "missing_score": 1.0,
        },
        "counts": counts,
    }
    if save and dataset is not None:
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        storage.write(join(absolute_uri(dataset), "report", "evaluation.json"), text.encode())
    return result


def _per_category(figures: Mapping[str, Figures], table: Table) -> list[dict[str, Any]]:
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


def _worst(figures: Mapping[str, Figures]) -> list[dict[str, Any]]:
    rows = [row for item in figures.values() for row in item.images]
    measured = [row for row in rows if row["accuracy_50"] is not None]
    return sorted(measured, key=lambda row: (row["accuracy_50"], row["file_name"]))[:LISTED]


def _folder(true: ImageEntry, answer: ImageEntry | None) -> str:
    """The first folder of the predicted image's path, else of the true one's, else "."."""
    for entry in (answer, true):
        folder, slash, _ = (entry.name if entry and entry.name else "").partition("/")
        if slash:
            return folder
    return "."
