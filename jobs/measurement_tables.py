"""Measurements and changes as tables on a terminal. Not a job itself."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

SHOWN_CATEGORIES = 30

_LEFT_OUT = {
    "only_in_a": "images are only in A",
    "only_in_b": "images are only in B",
    "failed": "images failed on one side, left out",
    "size_differs": "images differ in size, left out",
}
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
    """Prints what `pipeline.measure.measure` returned: means by category."""
    counts = summary["counts"]
    failed = f" ({counts['failed_images']} failed)" if counts["failed_images"] else ""
    sized = counts["images_with_pixel_size"]
    console.print(
        f"{counts['objects']:,} objects in {counts['images']:,} images{failed}; pixel size known "
        f"of {sized:,}",
        markup=False,
    )
    for note, number in summary["notes"].items():
        console.print(f"{number:,} × {note}: no intensities", markup=False)
    units = {item["name"]: item["unit"] for item in summary["properties"]}
    table = _table("Means", "category", "objects", *_HEADS.values())
    table.caption = (
        f"area in {units['area']}, Feret diameter in {units['feret_diameter_max']}, density in "
        f"objects {units['density']}"
    )
    several = len({row["task"] for row in summary["categories"]}) > 1
    for row in summary["categories"][:SHOWN_CATEGORIES]:
        name = row["category"] or "all"
        spreads = (row["distributions"][key]["spread"] for key in _HEADS)
        table.add_row(
            escape(f"{name} ({row['task']})" if several else name),
            f"{row['count']:,}",
            *(_number(spread and spread["mean"]) for spread in spreads),
        )
    console.print(table)


def print_changes(summary: Mapping[str, Any], console: Console) -> None:
    """Prints what `pipeline.compare.compare` returned."""
    images = summary["images"]
    overall = summary["overall"]
    console.print(
        f"{images['compared']:,} images compared: {overall['in_a']:,} objects in A, "
        f"{overall['in_b']:,} in B",
        markup=False,
    )
    for key, text in _LEFT_OUT.items():
        if images[key]:
            names = ", ".join(summary["names"][key][:3])
            more = ", …" if images[key] > 3 else ""
            console.print(f"{images[key]:,} {text}: {names}{more}", markup=False)
    table = _table("Objects from A to B", "category", *_CHANGES.values())
    for row in summary["categories"][:SHOWN_CATEGORIES]:
        table.add_row(escape(row["category"]), *(_number(row[key]) for key in _CHANGES))
    if len(summary["categories"]) > 1:
        table.add_section()
        table.add_row("all", *(_number(overall[key]) for key in _CHANGES))
    console.print(table)


def _table(title: str, first: str, *others: str) -> Table:
    table = Table(title=title, title_justify="left", box=box.SIMPLE_HEAD, caption_justify="left")
    table.add_column(first)
    for name in others:
        table.add_column(name, justify="right")
    return table


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    if isinstance(value, int):
        return f"{value:,}"
    return f"{value:.3f}" if abs(value) < 10 else f"{value:,.1f}"
