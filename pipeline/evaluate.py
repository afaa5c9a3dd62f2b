"""Evaluation: predictions against ground truth, with the metrics that the tasks of both allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from schemas.records import Task

from .evaluation.categories import CategoryMatch, match_categories
from .evaluation.coco_ap import AP_BACKENDS
from .evaluation.coco_rules import MAX_DETS
from .evaluation.comparison import compare
from .evaluation.ground_truth import open_source
from .evaluation.ledger_source import LedgerSource
from .evaluation.matching import THRESHOLDS
from .evaluation.metric import Metric
from .evaluation.metrics import VIEW_OF, choose_metrics, make_metrics
from .evaluation.names import read_category_map
from .evaluation.pair_reader import ImagePair, PairReader
from .evaluation.pairing import pair_images
from .evaluation.result import by_category, further_parts, worst_images
from .evaluation.source import Source
from .evaluation.stack import stack
from .evaluation.views import VIEWS, Unknown, View, unknown_named
from .storage import Storage, absolute_uri, join

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
        ground_truth_kind: One of `pipeline.evaluation.source.KINDS`, or "auto".
        predictions_kind: Likewise of what is judged.
        task: Which labels of a dataset of several tasks to judge; None = those that compare best
            with the ground truth.
        metrics: Some of `pipeline.evaluation.metrics.METRICS`; empty = all that say something
            about the tasks of both sides.
        ap_backend: One of `pipeline.evaluation.coco_ap.AP_BACKENDS`: who computes COCO's AP. All
            give the same digits.
        void: Pixel values of semantic maps that mean unlabelled; None = what `categories.json`
            beside them says, without it 0 and 255, or with a `pixel_offset` 255 alone.
        pixel_offset: Category id − pixel value in semantic maps.
        category_map: Name in the predictions → name in the ground truth, or the number in its
            pixels; categories that it leaves out are matched by name.
        unknown_categories: What becomes of true segments whose category the predictions do not
            have: one of `pipeline.evaluation.views.UNKNOWN`. None = "missed", but "background"
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
    pairs: Sequence[ImagePair], views: Mapping[str, View], tallies: Sequence[Mapping[str, Metric]]
) -> None:
    """Shows images to metrics, each in the view that it wants."""
    images = [pair.image for pair in pairs]
    true = stack([p.truth for p in pairs], [f"ground truth of {i.name}" for i in images])
    answers = stack([p.predicted for p in pairs], [f"predictions of {i.name}" for i in images])
    for name, view in views.items():
        compared = compare(images, view.truth(true), view.predicted(answers))
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
