"""Any figures as HTML: large ones, tables, and what can be opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .embed import isolated, text

_TITLES = {
    "ap": "Average precision",
    "groups": "By folder",
    "miou": "Pixels",
    "per_category": "By category",
    "pq": "Panoptic quality",
    "worst_images": "Worst images",
}
_DIGITS = 4
_WORDS = {
    "miou": "mIoU",
    "iou": "IoU",
    **{w: w.upper() for w in ("ap", "f1", "fn", "fp", "pq", "rq", "sq", "tp")},
}
_PHRASES = {
    "accuracy_50": "accuracy at IoU 0.5",
    "accuracy_75": "at 0.75",
    "accuracy_50_95": "mean of 0.5–0.95",
    "AP_small": "AP small",
    "AP_medium": "AP medium",
    "AP_large": "AP large",
    "AR_max": "AR",
    "mean_iou_present": "mean IoU (true categories)",
    "mean_iou": "mean IoU (all that occur)",
    "max_dets_100": "100 an image",
    "max_dets_1000": "1000 an image",
    "share_of_true": "of the true ones",
    "file_name": "image",
}


def title(key: str) -> str:
    """A heading."""
    words = _TITLES.get(key) or headlines(key)
    return text(words[:1].upper() + words[1:])


def headlines(key: object) -> str:
    """The words for a key."""
    if str(key) in _PHRASES:
        return _PHRASES[str(key)]
    return " ".join(_WORDS.get(word, word) for word in str(key).split("_"))


def tiles(plain: Mapping[str, Any]) -> str:
    """Large figures side by side."""
    cells = "".join(
        f"<div><dt>{isolated(headlines(key))}</dt><dd>{_value(item)}</dd></div>"
        for key, item in plain.items()
    )
    return f'<dl class="numbers figures">{cells}</dl>' if cells else ""


def table(rows: Sequence[Mapping[str, Any]], *, sortable: bool = False) -> str:
    """Rows of plain values; columns of numbers stand to the right.

    Args:
        rows: Key → value.
        sortable: A click on a heading orders the rows by it.
    """
    keys = list(dict.fromkeys(key for row in rows for key in row))
    right = {
        key: ' class="num"' * all(isinstance(row.get(key), int | float | None) for row in rows)
        for key in keys
    }
    digits = {key: max((_decimals(row.get(key)) for row in rows), default=0) for key in keys}
    head = "".join(
        f'<th scope="col"{right[key]}>{_heading(key, sortable=sortable and len(rows) > 1)}</th>'
        for key in keys
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{right[key]}>{_cell(key, row.get(key), digits[key])}</td>" for key in keys)
        + "</tr>"
        for row in rows
    )
    kind = ' class="sortable"' if sortable and len(rows) > 1 else ""
    return (
        f'<div class="table-box"><table{kind}><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def folded(key: str, value: Any) -> str:
    """Something to open: a table where it is one."""
    if isinstance(value, Mapping):
        body = table([{"": headlines(k), "value": v} for k, v in value.items()])
    elif value and all(isinstance(item, Mapping) for item in value):
        body = table(value)
    else:
        body = f"<p>{_value(value)}</p>"
    return (
        f'<details class="group-box plain"><summary>{title(key)}</summary>'
        f'<div class="table-box">{body}</div></details>'
    )


def _heading(key: str, *, sortable: bool) -> str:
    words = isolated(headlines(key))
    return f'<button type="button">{words}</button>' if sortable else words


def _cell(key: str, value: Any, digits: int) -> str:
    if key == "file_name" and isinstance(value, str):
        return f'<a href="#gallery" data-open="{text(value)}">{isolated(value)}</a>'
    return _value(value, digits)


def _decimals(value: Any) -> int:
    """Digits behind the point that say all there is, 4 at most."""
    if not isinstance(value, float):
        return 0
    return len(f"{value:.{_DIGITS}f}".rstrip("0").rpartition(".")[2]) or 1


def _value(value: Any, digits: int = _DIGITS) -> str:
    if value is None or value in ([], {}):
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.{digits}f}" if abs(value) < 100 else f"{value:,.1f}"
    if isinstance(value, list):
        return isolated(", ".join(map(_plain, value)))
    if isinstance(value, Mapping):
        return isolated("; ".join(f"{headlines(k)}: {_plain(v)}" for k, v in value.items()))
    return isolated(value)


def _plain(value: Any) -> str:
    if isinstance(value, list):
        return ", ".join(map(_plain, value))
    return f"{value:g}" if isinstance(value, float) else str(value)
