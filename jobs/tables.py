"""The figures of an evaluation as tables on a terminal. Not a job itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from schemas.names import printable

SHOWN_CATEGORIES = 30
SHOWN_CONFUSIONS = 10

_AMISS = {
    "without_prediction": "images without a prediction, counted as missed",
    "failed_predictions": "images that the model failed on, counted as missed",
    "size_differs": "predictions of another size than the ground truth, counted as missed",
    "without_ground_truth": "images without ground truth, left out",
    "failed_ground_truth": "images that failed in the ground truth, left out",
    "invalid_ground_truth": "invalid entries of the ground truth, left out",
    "invalid_predictions": "invalid entries of the predictions, left out",
}


def print_evaluation(result: Mapping[str, Any], console: Console) -> None:
    """Prints what `pipeline.evaluation.evaluate.evaluate` returned."""
    counts, settings = result["counts"], result["settings"]
    console.print(
        f"{counts['images']} images, {counts['true_segments']} true segments "
        f"({settings['ground_truth_kind']}), {counts['predicted_segments']} predicted "
        f"({settings['predictions_kind']}); categories: {settings['categories']}",
        markup=False,
    )
    for key, text in _AMISS.items():
        if counts[key]:
            names = printable(", ".join(counts["names"][key][:3]))
            more = ", …" if counts[key] > 3 else ""
            console.print(f"{counts[key]} {text}: {names}{more}", markup=False)
    for key, text in (
        ("unknown_categories", "predicted, but not in the ground truth"),
        (
            "unpredictable_categories",
            "in the ground truth, but none of the predictions' categories",
        ),
        (
            "undeclared_categories",
            "annotations of categories that the ground truth does not list, left out as COCOeval "
            "does",
        ),
    ):
        if names := counts[key]:
            more = f" and {len(names) - 9} more" if len(names) > 9 else ""
            console.print(
                f"{text}: {printable(', '.join(map(str, names[:9])))}{more}", markup=False
            )
    for view, policy in settings["unknown_categories"].items():
        if counts["unpredictable_categories"]:
            console.print(f"the latter's {view}: {policy}", markup=False)
    for name, figures in result["overall"].items():
        table = _METRICS[name](figures)
        if settings["iou_type"] == "bbox":
            table.title = _TITLES["bbox"]
        console.print(table)
    if len(result["per_category"]) > 1:
        boxes = settings["iou_type"] == "bbox"
        _print_categories(result["per_category"], list(result["overall"]), console, boxes=boxes)
    if top := result.get("confusion", {}).get("top"):
        console.print(_confusion(top))
    if result["groups"]:
        rows = [{**row["overall"], "name": row["group"], **row} for row in result["groups"]]
        console.print(_summaries("folder", "By folder", rows, _OF_FOLDERS))


def _print_categories(
    rows: Sequence[Mapping[str, Any]], metrics: Sequence[str], console: Console, *, boxes: bool
) -> None:
    for metric in metrics:
        columns = {name: (metric, *path) for name, path in _OF_CATEGORIES[metric].items()}
        first = next(iter(columns.values()))
        occurring = [row for row in rows if _at(row, first) is not None]
        if occurring:
            title = f"By category: {_TITLES['bbox' if boxes else metric]}"
            console.print(_summaries("category", title, occurring, columns))
        if len(occurring) > SHOWN_CATEGORIES:
            console.print(f"… {len(occurring)} categories occur: see --json")
    console.print(f"{len(rows)} categories in all", markup=False)


def _matching(figures: Mapping[str, Any]) -> Table:
    table = _table("Matching: TP / (TP + FP + FN)", "IoU ≥", "accuracy", "precision", "recall")
    for name in ("F1", "TP", "FP", "FN"):
        table.add_column(name, justify="right")
    for step in figures["thresholds"]:
        values = [step[key] for key in ("accuracy", "precision", "recall", "f1")]
        counts = [str(step[key]) for key in ("tp", "fp", "fn")]
        table.add_row(f"{step['iou']:.2f}", *map(_number, values), *counts)
    table.add_section()
    table.add_row("mean", _number(figures["accuracy_50_95"]))
    by_image = figures["by_image"]
    table.caption = (
        f"mean by image: {_number(by_image['accuracy_50'])} at 0.5, "
        f"{_number(by_image['accuracy_50_95'])} over all"
    )
    return table


def _ap(figures: Mapping[str, Any]) -> Table:
    limits = list(figures)
    table = _table("COCO, masks", "", *(f"{name.rpartition('_')[2]} an image" for name in limits))
    for name in figures[limits[0]]:
        table.add_row(name, *(_number(figures[limit][name]) for limit in limits))
        if name in ("AP75", "AP_large", "AR_max"):
            table.add_section()
    return table


def _boundary(figures: Mapping[str, Any]) -> Table:
    pairs = figures["pairs"]
    table = _ap({name: item for name, item in figures.items() if name != "pairs"})
    table.title = "COCO, masks and their boundaries"
    table.caption = (
        f"{pairs['count']:,} pairs of IoU ≥ 0.5: mean IoU {_number(pairs['mean_iou'])}, mean "
        f"Boundary IoU {_number(pairs['mean_boundary_iou'])}"
    )
    return table


def _pq(figures: Mapping[str, Any]) -> Table:
    table = _table("Panoptic quality", "", "PQ", "SQ", "RQ", "categories")
    for name, row in figures.items():
        values = (_number(row[key]) for key in ("pq", "sq", "rq"))
        table.add_row(name, *values, str(row["categories"]))
    return table


def _miou(figures: Mapping[str, Any]) -> Table:
    table = _table("Pixels", "", "", "categories")
    present, occurring = figures["categories_present"], figures["categories"]
    for name, label, categories in (
        ("pixel_accuracy", "pixel accuracy", None),
        ("mean_accuracy", "mean accuracy", present),
        ("mean_iou_present", "mean IoU, of those in the truth", present),
        ("mean_iou", "mean IoU, of those on either side", occurring),
        ("frequency_weighted_iou", "frequency-weighted IoU", present),
    ):
        table.add_row(label, _number(figures[name]), str(categories or ""))
    return table


def _confusion(top: Sequence[Mapping[str, Any]]) -> Table:
    table = _table("Most confused", "true", "predicted", "pixels", "of the true ones")
    for row in top[:SHOWN_CONFUSIONS]:
        share = f"{row['share_of_true']:.1%}"
        table.add_row(*map(escape, (row["true"], row["predicted"], f"{row['pixels']:,}", share)))
    return table


_METRICS: dict[str, Callable[[Mapping[str, Any]], Table]] = {
    "matching": _matching,
    "ap": _ap,
    "boundary": _boundary,
    "pq": _pq,
    "miou": _miou,
}

_TITLES = {
    "matching": "matching",
    "ap": "COCO, masks",
    "bbox": "COCO, boxes",
    "boundary": "COCO, masks and their boundaries",
    "pq": "panoptic quality",
    "miou": "pixels",
}

_Columns = Mapping[str, tuple[str, ...]]
"""Heading → where a row holds the figure; columns that no row fills are not shown."""

_OF_CATEGORIES: dict[str, _Columns] = {
    "matching": {
        "accuracy@.5": ("accuracy_50",),
        "@.75": ("accuracy_75",),
        "@.5:.95": ("accuracy_50_95",),
    },
    "ap": {
        "AP": ("max_dets_100", "AP"),
        "AP50": ("max_dets_100", "AP50"),
        "AP75": ("max_dets_100", "AP75"),
        "small": ("max_dets_100", "AP_small"),
        "medium": ("max_dets_100", "AP_medium"),
        "large": ("max_dets_100", "AP_large"),
        "AR": ("max_dets_100", "AR_max"),
    },
    "boundary": {
        "AP": ("max_dets_100", "AP"),
        "AP50": ("max_dets_100", "AP50"),
        "AP75": ("max_dets_100", "AP75"),
    },
    "pq": {name: (name.lower(),) for name in ("PQ", "SQ", "RQ", "TP", "FP", "FN")},
    "miou": {"IoU": ("iou",), "recall": ("recall",), "precision": ("precision",)},
}
"""By metric; paths begin below it."""

_OF_FOLDERS: _Columns = {
    "images": ("images",),
    "accuracy@.5": ("matching", "accuracy_50"),
    "accuracy": ("matching", "accuracy_50_95"),
    "AP": ("ap", "max_dets_100", "AP"),
    "AP50": ("ap", "max_dets_100", "AP50"),
    "PQ": ("pq", "all", "pq"),
    "mean IoU": ("miou", "mean_iou_present"),
    "pixel accuracy": ("miou", "pixel_accuracy"),
}


def _summaries(what: str, title: str, rows: Sequence[Mapping[str, Any]], wanted: _Columns) -> Table:
    found = {name: [_at(row, path) for row in rows] for name, path in wanted.items()}
    columns = {name: cells for name, cells in found.items() if any(c is not None for c in cells)}
    table = _table(title, what, *columns)
    for index, row in enumerate(rows[:SHOWN_CATEGORIES]):
        table.add_row(escape(row["name"]), *(_number(cells[index]) for cells in columns.values()))
    return table


def _at(row: Any, path: Sequence[str]) -> Any:
    for key in path:
        row = row.get(key) if isinstance(row, Mapping) else None
    return row


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return str(value) if isinstance(value, int) else f"{value:.3f}"


# Measurements and changes as tables on a terminal. Not a job itself.


_LEFT_OUT = {
    "only_in_a": "images are only in A",
    "only_in_b": "images are only in B",
    "failed": "images failed on one side, left out",
    "size_differs": "images differ in size, left out",
}
_KNOWN_HEADS = {"area_known": "area", "feret_diameter_max_known": "Feret"}
"""Beside those in pixels, where some images know the size of theirs."""

_HEADS = {
    "area": "area",
    "feret_diameter_max": "Feret",
    "circularity": "circularity",
    "intensity_mean": "intensity",
    "density": "density",
}
_CHANGES = {
    "matched": "matched",
    "grown": "grown",
    "shrunk": "shrunk",
    "appeared": "appeared",
    "vanished": "vanished",
    "category_changed": "renamed",
    "mean_iou": "IoU",
}


def print_measurements(summary: Mapping[str, Any], console: Console) -> None:
    """Prints what `pipeline.measuring.measure.measure` returned: means by category."""
    counts = summary["counts"]
    failed = f" ({counts['failed_images']} failed)" if counts["failed_images"] else ""
    sized = counts["images_with_pixel_size"]
    console.print(
        f"{counts['objects']:,} objects in {counts['images']:,} images{failed}; pixel size known "
        f"of {sized:,}",
        markup=False,
    )
    if said := summary.get("read_in_part"):
        console.print(said, markup=False)
    for note, number in summary["notes"].items():
        console.print(f"{number:,} × {note}: no intensities", markup=False)
    units = {item["name"]: item["unit"] for item in summary["properties"]}
    heads = dict(_HEADS)
    caption = (
        f"area in {units['area']}, Feret diameter in {units['feret_diameter_max']}, density in "
        f"objects {units['density']}"
    )
    if "area_known" in units:
        for key, head in _KNOWN_HEADS.items():
            heads[key] = f"{head}, {units[key]}"
        caption += "; in px only where the pixel size is not known"
    table = _table("Means", "category", "objects", *heads.values())
    table.caption = caption
    several = len({row["task"] for row in summary["categories"]}) > 1
    for row in summary["categories"][:SHOWN_CATEGORIES]:
        name = row["category"] or "all"
        spreads = (row["distributions"][key]["spread"] for key in heads)
        table.add_row(
            escape(f"{name} ({row['task']})" if several else name),
            f"{row['count']:,}",
            *(_rounded(spread and spread["mean"]) for spread in spreads),
        )
    console.print(table)


def print_changes(summary: Mapping[str, Any], console: Console) -> None:
    """Prints what `pipeline.measuring.compare.compare` returned."""
    images = summary["images"]
    overall = summary["overall"]
    console.print(
        f"{images['compared']:,} images compared: {overall['in_a']:,} objects in A, "
        f"{overall['in_b']:,} in B",
        markup=False,
    )
    for key, text in _LEFT_OUT.items():
        if images[key]:
            names = printable(", ".join(summary["names"][key][:3]))
            more = ", …" if images[key] > 3 else ""
            console.print(f"{images[key]:,} {text}: {names}{more}", markup=False)
    table = _table("Objects from A to B", "category", *_CHANGES.values())
    for row in summary["categories"][:SHOWN_CATEGORIES]:
        table.add_row(escape(row["category"]), *(_rounded(row[key]) for key in _CHANGES))
    if len(summary["categories"]) > 1:
        table.add_section()
        table.add_row("all", *(_rounded(overall[key]) for key in _CHANGES))
    console.print(table)


def _rounded(value: float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
