"""Figures of an evaluation as tiles, curves and tables, whatever metrics it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeGuard

from .escape import isolated, text
from .figures import confusion_matrix, curves, folded, headlines, table, tiles, title

_LIMIT = "max_dets_100"
_WORST = 12

_HEADLINES: dict[str, tuple[str, ...]] = {
    "matching": ("accuracy_50", "accuracy_75", "accuracy_50_95"),
    "ap": ("AP", "AP50", "AP75", "AP_small", "AP_medium", "AP_large", "AR_max"),
    "pq": ("pq", "sq", "rq"),
    "miou": ("iou", "recall", "precision"),
}
"""Columns of the table by category; other metrics show their first three figures."""

_OF_GROUPS = {
    "accuracy_50": ("matching", "accuracy_50"),
    "accuracy_50_95": ("matching", "accuracy_50_95"),
    "AP": ("ap", _LIMIT, "AP"),
    "AP50": ("ap", _LIMIT, "AP50"),
    "PQ": ("pq", "all", "pq"),
    "mean_iou_present": ("miou", "mean_iou_present"),
    "pixel_accuracy": ("miou", "pixel_accuracy"),
}
"""Columns of the table by folder, and where they are in a folder's figures."""

_TILES: dict[str, tuple[str, ...]] = {
    "miou": ("pixel_accuracy", "mean_accuracy", "mean_iou_present", "mean_iou"),
}
"""Large figures, where they are not all of a metric's plain ones."""


def evaluation_section(figures: Any) -> str:
    """The section, or "" where there are no figures.

    Args:
        figures: What `evaluate` returned. Of parts that are not known here,
            plain numbers become large figures and groups of them tables to open.
    """
    if not isinstance(figures, Mapping) or not figures:
        return ""
    overall = figures.get("overall")
    metrics = overall if isinstance(overall, Mapping) else {}
    blocks = "".join(
        f'<div class="metric" id="metric-{text(name)}"><h3>{title(name)}</h3>'
        f"{_metric(name, value, figures)}</div>"
        for name, value in metrics.items()
        if isinstance(value, Mapping)
    )
    plain = {k: v for k, v in {**figures, **metrics}.items() if not isinstance(v, Mapping | list)}
    return f"""<section id="evaluation" aria-labelledby="evaluation-title">
  <div class="section-head"><h2 id="evaluation-title">Evaluation</h2>
  <p class="muted">{_against(figures)}</p></div>
  {tiles(plain)}<div class="metrics">{blocks}</div>
  {_categories(figures)}{_groups(figures)}{_confusion(figures)}{_worst(figures)}{_rest(figures)}
</section>"""


def _against(figures: Mapping[str, Any]) -> str:
    settings, counts = figures.get("settings"), figures.get("counts")
    if not isinstance(settings, Mapping) or not isinstance(counts, Mapping):
        return "against ground truth"
    truth = str(settings.get("ground_truth", "")).rstrip("/").rpartition("/")[2]
    images = counts.get("images")
    count = f", {images:,} images" if isinstance(images, int) else ""
    return f"against {isolated(truth or 'ground truth')}{count}"


def _metric(name: str, value: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    plain = {k: v for k, v in value.items() if not isinstance(v, Mapping | list)}
    groups = {k: v for k, v in value.items() if isinstance(v, Mapping)}
    lists = {k: v for k, v in value.items() if isinstance(v, list) and v}
    shown = {k: plain[k] for k in _TILES.get(name, ()) if k in plain} or plain
    if name == "ap" and isinstance(value.get(_LIMIT), Mapping):
        shown = {key: value[_LIMIT].get(key) for key in ("AP", "AP50", "AP75")}
    rows = [{"": headlines(k), **_plain(v)} for k, v in groups.items()]
    if len(rows) < 4 and max(map(len, rows), default=0) > 8:  # few long rows: turn the table
        keys = [key for key in rows[0] if key]
        rows = [{"": headlines(key), **{row[""]: row.get(key) for row in rows}} for key in keys]
    more = {k: v for k, v in plain.items() if k not in shown} if name in _TILES else {}
    return (
        tiles(shown)
        + _chart(name, value, figures)
        + (table(rows) if rows else "")
        + (folded("more", more) if more else "")
        + "".join(folded(k, v) for k, v in lists.items())
    )


def _chart(name: str, value: Mapping[str, Any], figures: Mapping[str, Any]) -> str:
    if name == "matching" and _is_rows(steps := value.get("thresholds")):
        lines = {
            key: [row.get(key) for row in steps] for key in ("accuracy", "precision", "recall")
        }
        return curves(
            "Accuracy by IoU threshold", "IoU threshold", [row["iou"] for row in steps], lines
        )
    found = figures.get("precision_recall")
    if name == "ap" and isinstance(found, Mapping) and found:
        lines = {
            "IoU 0.50": found["precision_50"],
            "IoU 0.75": found["precision_75"],
            "IoU 0.50–0.95": found["precision_50_95"],
        }
        return curves("Precision by recall", "Recall → precision", found["recall"], lines)
    return ""


def _categories(figures: Mapping[str, Any]) -> str:
    """One row a category; those in which no metric found anything to measure are left out."""
    rows = figures.get("per_category")
    if not _is_rows(rows):
        return ""
    found = [_category(row) for row in rows]
    # Not every metric speaks of every category; the fullest row has the columns in their order.
    order = dict.fromkeys([*max(found, key=len), *(key for row in found for key in row)])
    shown = [{key: row.get(key) for key in order} for row in found]
    measured = [row for row, full in zip(shown, rows, strict=True) if _measured(row, full)]
    note = f' <span class="muted">{len(rows) - len(measured)} more do not occur</span>'
    return (
        f"<h3>{title('per_category')}{note if len(measured) < len(rows) else ''}</h3>"
        f"{table(measured or shown, sortable=True)}"
    )


def _measured(shown: Mapping[str, Any], full: Mapping[str, Any]) -> bool:
    of_metrics = [v for v in full.values() if isinstance(v, Mapping)]
    return not of_metrics or any(isinstance(v, float) for v in shown.values())


def _category(row: Mapping[str, Any]) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for key, value in row.items():
        if isinstance(value, Mapping):
            plain = _plain(value[_LIMIT] if isinstance(value.get(_LIMIT), Mapping) else value)
            known = _HEADLINES.get(key)
            out |= {name: plain[name] for name in known or list(plain)[:3] if name in plain}
        elif not isinstance(value, list) and key not in ("category_id", "isthing"):
            out[key] = value
    return out


def _groups(figures: Mapping[str, Any]) -> str:
    rows = figures.get("groups")
    if not _is_rows(rows):
        return ""
    shown = []
    for row in rows:
        found = {heading: _at(row.get("overall"), path) for heading, path in _OF_GROUPS.items()}
        plain = {k: v for k, v in row.items() if not isinstance(v, Mapping | list)}
        shown.append(plain | {k: v for k, v in found.items() if v is not None})
    return f"<h3>{title('groups')}</h3>{table(shown, sortable=True)}"


def _at(value: Any, path: Sequence[str]) -> Any:
    for key in path:
        value = value.get(key) if isinstance(value, Mapping) else None
    return value


def _confusion(figures: Mapping[str, Any]) -> str:
    found = figures.get("confusion")
    if not isinstance(found, Mapping) or not found.get("pixels"):
        return ""
    names = {
        str(row.get("category_id")): str(row.get("name")) for row in figures.get("per_category", ())
    }
    top = folded("most_confused", found["top"]) if _is_rows(found.get("top")) else ""
    return f"<h3>Confusion of pixels</h3>{confusion_matrix(found['pixels'], names)}{top}"


def _worst(figures: Mapping[str, Any]) -> str:
    rows = figures.get("worst_images")
    if not _is_rows(rows):
        return ""
    rest = folded(f"{len(rows) - _WORST} more", rows[_WORST:]) if len(rows) > _WORST else ""
    return f"<h3>{title('worst_images')}</h3>{table(rows[:_WORST], sortable=True)}{rest}"


def _rest(figures: Mapping[str, Any]) -> str:
    known = {
        "overall", "per_category", "groups", "confusion", "precision_recall", "worst_images"
    }  # fmt: skip
    return "".join(
        folded(key, value)
        for key, value in figures.items()
        if key not in known and isinstance(value, Mapping | list) and value
    )


def _plain(value: Mapping[str, Any]) -> dict[str, Any]:
    return {k: v for k, v in value.items() if not isinstance(v, Mapping | list)}


def _is_rows(value: Any) -> TypeGuard[list[Mapping[str, Any]]]:
    return bool(value) and isinstance(value, list) and all(isinstance(v, Mapping) for v in value)
