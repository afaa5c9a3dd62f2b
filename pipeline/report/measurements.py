"""What jobs.measure found: distributions of the main properties, by category."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from schemas.measurements import MEASUREMENTS_VERSION

from .escape import text
from .figures import table

Shown = dict[str, Any]


def measured_for(summary: Any, task: str) -> Shown | None:
    """The part of `pipeline.measuring.summary.summarise`'s result that a page about a task shows.

    Args:
        summary: Contents of measurements.json, or anything else.
        task: Whose segments the page shows.

    Returns:
        properties: a list of name, title and unit; categories: a list of name, count and
        distributions; notes, version. None where there is nothing to show.
    """
    if not isinstance(summary, Mapping):
        return None
    if summary.get("measurements_version") != MEASUREMENTS_VERSION:
        return None
    own = [row for row in summary["categories"] if row["task"] == task]
    if len(own) == 2:  # all, and the one category that there is
        own = own[1:]
    if not own:
        return None
    return {
        "properties": summary["properties"],
        "categories": [
            {
                "name": row["category"] or "all categories",
                "count": row["count"],
                "distributions": row["distributions"],
            }
            for row in own
        ],
        "notes": summary["notes"],
        "version": summary["version"],
    }


def measurements_section(shown: Shown | None, *, version: int) -> str:
    """The section, or "" where nothing was measured.

    Args:
        shown: Of `measured_for`; the script draws the same.
        version: Of the dataset that the page is about.
    """
    if shown is None:
        return ""
    figures = "".join(
        f'<figure class="chart" data-property="{text(item["name"])}" '
        f'data-title="{text(item["title"])}" data-unit="{text(item["unit"])}"></figure>'
        for item in shown["properties"]
    )
    options = "".join(
        f'<option value="{place}">{text(row["name"])} ({row["count"]:,})</option>'
        for place, row in enumerate(shown["categories"])
    )
    rows = [
        {
            "category": row["name"],
            "objects": row["count"],
            **{_head(item): _mean(row, item["name"]) for item in shown["properties"]},
        }
        for row in shown["categories"]
    ]
    return f"""<section id="measurements" aria-labelledby="measurements-title">
  <div class="section-head"><h2 id="measurements-title">Measurements</h2>
  <select aria-label="Category measured"{" hidden" * (len(rows) < 2)}>{options}</select></div>
  {_notice(shown, version)}<div class="charts many">{figures}</div>
  <h3>Means</h3>{table(rows)}
</section>"""


def _head(item: Mapping[str, str]) -> str:
    return f"{item['title'].lower()}, {item['unit']}" if item["unit"] else item["title"].lower()


def _mean(row: Mapping[str, Any], name: str) -> float | None:
    spread = row["distributions"][name]["spread"]
    return spread and float(spread["mean"])


def _notice(shown: Shown, version: int) -> str:
    said = []
    if shown["version"] != version:
        said.append(f"Measured on version {shown['version']} of the dataset; this is {version}.")
    said += [
        f"{number:,} images without intensities: {note}." for note, number in shown["notes"].items()
    ]
    return f'<p class="notice">{text(" ".join(said))}</p>' if said else ""
