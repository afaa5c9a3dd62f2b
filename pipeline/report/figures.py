"""Any figures as HTML: large ones, tables, and what can be opened."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .escape import isolated, text

# Charts of an evaluation as inline SVG: curves, and which category is taken for which.

_WIDTH, _HEIGHT = 420, 230
_LEFT, _RIGHT, _TOP, _BOTTOM = 34, 12, 8, 26
_SHOWN = 30
"""Categories of a confusion matrix; more are too small to be read."""


def curves(
    title: str, x_title: str, x: Sequence[float], lines: Mapping[str, Sequence[float | None]]
) -> str:
    """Lines with a legend; upwards from 0 to 1.

    Args:
        title: For those who cannot see it.
        x_title: What runs from left to right.
        x: n ascending numbers of 0…1.
        lines: Name → n numbers of 0…1; None leaves a gap at the end.
    """
    if len(x) < 2:
        return ""
    low, high = x[0], x[-1]
    marks = [k / 10 for k in range(11) if low <= k / 10 <= high]
    grid = "".join(
        f'<line x1="{_LEFT}" x2="{_WIDTH - _RIGHT}" y1="{_y(k / 5)}" y2="{_y(k / 5)}"/>'
        f'<text x="{_LEFT - 7}" y="{_y(k / 5) + 3.5}" text-anchor="end">{k / 5:g}</text>'
        for k in range(6)
    )
    ticks = "".join(
        f'<text x="{_x(mark, low, high)}" y="{_HEIGHT - 9}" text-anchor="middle">{mark:g}</text>'
        for mark in marks
    )
    drawn = "".join(
        f'<polyline class="line-{number}" points="{_points(x, values, low, high)}">'
        f"<title>{text(name)}</title></polyline>"
        for number, (name, values) in enumerate(lines.items())
    )
    legend = "".join(
        f'<li><svg viewBox="0 0 16 8" aria-hidden="true"><line class="line-{number}" x1="0" x2="16"'
        f' y1="4" y2="4"/></svg>{text(name)}</li>'
        for number, name in enumerate(lines)
    )
    return (
        f'<figure class="curves"><svg viewBox="0 0 {_WIDTH} {_HEIGHT}" role="img" '
        f'aria-label="{text(title)}">{grid}{ticks}{drawn}</svg>'
        f'<figcaption><span class="muted">{text(x_title)}</span><ul>{legend}</ul></figcaption>'
        "</figure>"
    )


def confusion_matrix(pixels: Mapping[str, Mapping[str, int]], names: Mapping[str, str]) -> str:
    """True categories down, predicted ones across; each cell its share of the true pixels.

    Args:
        pixels: True id → predicted id or "nothing" → pixels.
        names: Id → name.
    """
    totals = {true: sum(row.values()) for true, row in pixels.items()}
    ids = sorted(totals, key=lambda id_: -totals[id_])[:_SHOWN]
    others = sorted(
        {id_ for row in pixels.values() for id_ in row} - set(ids),
        key=lambda id_: -sum(row.get(id_, 0) for row in pixels.values()),
    )
    columns = [*ids, *others[: max(0, _SHOWN + 2 - len(ids))]]
    head = "".join(
        f'<th scope="col"><span>{isolated(names.get(id_, id_))}</span></th>' for id_ in columns
    )
    rows = "".join(
        f'<tr><th scope="row">{isolated(names.get(true, true))}</th>'
        + "".join(
            _confusion_cell(true, id_, pixels[true].get(id_, 0) / totals[true]) for id_ in columns
        )
        + "</tr>"
        for true in ids
    )
    left_out = f'<p class="muted">the {_SHOWN} categories with most pixels of {len(totals)}</p>'
    return (
        '<div class="table-box"><table class="confusion"><thead><tr>'
        f'<th scope="col" class="muted">true ↓ predicted →</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{left_out if len(totals) > _SHOWN else ''}"
    )


def _confusion_cell(true: str, id_: str, share: float) -> str:
    if not share:
        return "<td></td>"
    level = min(9, int(share * 10))
    kind = "right" if true == id_ else "wrong"
    shown = f"{share:.0%}" if share >= 0.005 else "·"
    return f'<td class="{kind} level-{level}">{shown}</td>'


def _points(x: Sequence[float], values: Sequence[float | None], low: float, high: float) -> str:
    return " ".join(
        f"{_x(at, low, high):g},{_y(value):g}"
        for at, value in zip(x, values, strict=True)
        if value is not None
    )


def _x(value: float, low: float, high: float) -> float:
    return round(_LEFT + (value - low) / (high - low) * (_WIDTH - _LEFT - _RIGHT), 1)


def _y(value: float) -> float:
    return round(_TOP + (1 - value) * (_HEIGHT - _TOP - _BOTTOM), 1)


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
        + "".join(
            f"<td{right[key]}>{_table_cell(key, row.get(key), digits[key])}</td>" for key in keys
        )
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


def _table_cell(key: str, value: Any, digits: int) -> str:
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
