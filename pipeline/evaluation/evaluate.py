"""Evaluation: predictions against ground truth, with the metrics that the tasks of both allow."""

from __future__ import annotations

import json
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from pipeline.evaluation.metrics.coco_ap import AP_BACKENDS
from pipeline.evaluation.metrics.matching import THRESHOLDS
from pipeline.evaluation.metrics.metric import MAX_DETS, Figures
from pipeline.evaluation.metrics.table import VIEW_OF, choose_metrics
from pipeline.evaluation.metrics.views import VIEWS, Unknown, unknown_named
from pipeline.evaluation.sources.categories import (
    CategoryMatch,
    Table,
    match_categories,
    read_category_map,
)
from pipeline.evaluation.sources.coco import CocoSource
from pipeline.evaluation.sources.dataset import LedgerSource
from pipeline.evaluation.sources.open import open_source
from pipeline.evaluation.sources.source import IouType, Source, iou_type_named
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.processes import map_in_order, processors
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.records import Task

from .pairs import pair_images
from .tally import Comparer

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
    ledger: Ledger | None = None,
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
    pair_by: str = "",
    min_paired: float = 0.5,
    iou_type: IouType = "segm",
    skip_invalid: bool = False,
    locked_only: bool = False,
    workers: int = 1,
    save: bool = False,
    storage: Storage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Compares predictions with ground truth, a stretch of images after the other.

    Of each prediction some 30 bytes are kept for AP, of each entry of a JSON file 20; of each
    image its name and id. Nothing else grows with the data.

    True images without a prediction count with an empty one; predicted images without ground
    truth are left out. Both are counted and listed.

    Args:
        ground_truth: Dataset of ours, COCO instances or panoptic JSON, folder of label maps or of
            semantic maps.
        dataset: Dataset of ours to be judged; also where `save` writes.
        predictions: A COCO results, instances or panoptic file, or a folder of maps, to be judged
            instead.
        ledger: An opened version of a dataset, published or not, to be judged instead.
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
        pair_by: One of `pairs.PAIR_BY`: what makes images of both sides the same; "" = find it.
        min_paired: Least share of the images, and of the categories, of the smaller side that must
            have a partner on the other: fewer are a mistake, not a figure.
        iou_type: "segm" compares masks, "bbox" boxes: those of COCO files as they are written, of
            anything else the tight boxes of masks. Boxes have AP alone.
        skip_invalid: Leave out entries of JSON files that cannot be used, and count them.
        locked_only: Of a ground truth that is a dataset of ours, only the images that a person
            corrected (`jobs.review`).
        workers: Processes; 0 = one a processor. The figures do not depend on it. A script that
            asks for more than one must be importable (`if __name__ == "__main__":`).
        save: Write the result to `<dataset>/report/evaluation.json`.
        storage: File access.
        progress: Called with (images compared, images) after every thousand or so.

    Returns:
        Plain data for JSON with the keys overall, per_category, groups, worst_images, settings and
        counts, and precision_recall and confusion where AP and mean IoU are measured; None where
        there was nothing to measure.

    Raises:
        ValueError: Bad arguments, unreadable contents, or sides that have nothing in common.
        StorageError: A file cannot be read or written.
    """
    judged = ledger.uri if ledger is not None else predictions or dataset
    if judged is None:
        raise ValueError("nothing to evaluate: name a dataset or a file of predictions")
    if save and dataset is None:
        raise ValueError("nowhere to save: name the dataset")
    iou_type_named(iou_type)
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    if not 0 <= min_paired <= 1:
        raise ValueError(f"min_paired is a share in 0…1, got {min_paired}")
    unknown_categories = unknown_named(unknown_categories)
    storage = storage or Storage()
    how: dict[str, Any] = {
        "void": void,
        "pixel_offset": pixel_offset,
        "iou_type": iou_type,
        "skip_invalid": skip_invalid,
        "storage": storage,
    }
    if ledger is not None:
        predicted = LedgerSource(ledger, task)
    else:
        predicted = open_source(judged, predictions_kind, task=task, **how)
    truth = open_source(
        ground_truth, ground_truth_kind, other=predicted, locked_only=locked_only, **how
    )
    if isinstance(predicted, LedgerSource) and task is None:
        predicted = predicted.suited_to(truth.task)
    undeclared = _undeclared(truth)
    match = match_categories(
        _declared(truth),
        predicted.categories,
        truth_is_one=truth.kind == "labels",
        predicted_is_one=predicted.kind == "labels",
        ignore=ignore_categories,
        category_map=category_map,
        min_paired=min_paired,
    )
    chosen = choose_metrics(metrics, truth, predicted, iou_type=iou_type)
    views = {
        name: VIEWS[name](match, truth, predicted, unknown_categories)
        for name in dict.fromkeys(VIEW_OF[metric] for metric in chosen)
    }
    entries = truth.entries()
    pairing = pair_images(
        [item for item in entries if not item.failed],
        predicted.entries(),
        by=pair_by,
        min_paired=min_paired,
    )

    comparer = Comparer(
        truth=truth,
        predicted=predicted,
        metrics=chosen,
        views=views,
        ap_backend=ap_backend,
        iou_type=iou_type,
        by_folder=group_by_folder,
    )
    tally = comparer.fresh()
    for number, side in enumerate((truth, predicted)):
        tally.note_left_out(number, side.left_out.count, side.left_out.examples)
    stretches = list(comparer.stretches(pairing))
    done = 0
    counted = map_in_order(
        comparer,
        stretches,
        # A process needs a second or two before it can begin.
        workers=min(workers or processors(), max(len(stretches) // 2, 1)),
        name="comparing",
    )
    for stretch, part in zip(stretches, counted, strict=True):
        tally.merge(part)
        done += len(stretch)
        if progress:
            progress(done, len(pairing.pairs))

    counts = tally.counts(pairing, [item for item in entries if item.failed])
    figures = {name: metric.figures() for name, metric in tally.total.items()}
    table = {id_: item for view in views.values() for id_, item in view.table.items()}
    result = {
        "overall": {name: item.overall for name, item in figures.items()},
        "per_category": by_category(figures, table),
        "groups": [
            {
                "group": group,
                "images": tally.sizes[group],
                "overall": {name: metric.figures().overall for name, metric in metrics.items()},
            }
            for group, metrics in sorted(tally.groups.items())
        ],
        "worst_images": worst_images(figures),
        **further_parts(figures),
        "settings": {
            "ground_truth": absolute_uri(ground_truth),
            "predictions": absolute_uri(judged),
            **_how_compared(match, truth, predicted),
            "metrics": list(chosen),
            "ap_backend": ap_backend,
            "iou_type": iou_type,
            "void": None if void is None else sorted(void),
            "pixel_offset": pixel_offset,
            "category_map": dict(category_map or {}),
            "unknown_categories": {name: view.unknown for name, view in views.items()},
            "images_paired_by": pairing.how,
            "locked_only": locked_only,
            "skip_invalid": skip_invalid,
            "iou_thresholds": THRESHOLDS.tolist(),
            "max_dets": list(MAX_DETS[2:]),
            "missing_score": 1.0,
        },
        "counts": {
            **counts,
            "unknown_categories": list(match.unknown),
            "unpredictable_categories": [match.table[i].name for i in match.unpredictable],
            "undeclared_categories": sorted(undeclared),
        },
    }
    if save and dataset is not None:
        text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
        storage.write(
            join(absolute_uri(dataset), "report", "evaluation.json"),
            text.encode("utf-8", "backslashreplace"),
        )
    return result


def _undeclared(truth: Source) -> frozenset[int]:
    return truth.undeclared if isinstance(truth, CocoSource) else frozenset()


def _declared(truth: Source) -> Table | None:
    """What the ground truth says there is: COCOeval leaves out annotations of other categories."""
    strange = _undeclared(truth)
    if not strange or truth.categories is None:
        return truth.categories
    return {id_: item for id_, item in truth.categories.items() if id_ not in strange}


def _how_compared(match: CategoryMatch, truth: Source, predicted: Source) -> dict[str, Any]:
    return {
        "ground_truth_kind": truth.kind,
        "ground_truth_task": truth.task,
        "predictions_kind": predicted.kind,
        "predictions_task": predicted.task,
        "categories": match.how,
    }
