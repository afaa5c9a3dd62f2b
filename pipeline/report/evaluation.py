"""Figures of an evaluation as tiles and tables, whatever metrics it holds."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from itertools import islice
from typing import Any

from .embed import isolated, text

_TITLES = {
    "ap": "Average precision",
    "groups": "By folder",
    "miou": "Mean IoU",
    "per_category": "By category",
    "pq": "Panoptic quality",
}
_OPEN = ("per_category", "groups")
_TRANSPARENT = "overall"
_COLUMNS_A_METRIC = 3
_LEFT_OUT = ("category_id", "isthing")
_DIGITS = 4
_CAPITALS = {
    "miou": "mIoU",
    "iou": "IoU",
    **{w: w.upper() for w in ("ap", "f1", "fn", "fp", "pq", "rq", "sq", "tp")},
}


def evaluation_section(figures: Any) -> str:
    """The section, or "" where there are no figures.

    Args:
        figures: {"overall": {metric: …}, "per_category": [row, …], …}. A metric's plain numbers
            become large figures, its named groups of numbers a table, its lists a table to open.
            Rows of "per_category" and "groups" show the first figures of each metric. All other
            keys can be opened.
    """
    if not isinstance(figures, Mapping) or not figures:
        return ""
    overall = figures.get("overall")
    metrics = overall if isinstance(overall, Mapping) else {}
    blocks = "".join(
        f'<div class="metric"><h3>{_title(name)}</h3>{_metric(value)}</div>'
        for name, value in metrics.items()
        if isinstance(value, Mapping)
    )
    plain = {k: v for k, v in {**figures, **metrics}.items() if not isinstance(v, Mapping | list)}
    tables = "".join(
        f"<h3>{_title(key)}</h3>{_table([_headline(row) for row in figures[key]])}"
        for key in _OPEN
        if _is_rows(figures.get(key))
    )
    rest = "".join(
        _folded(key, value)
        for key, value in figures.items()
        if key not in ("overall", *_OPEN) and isinstance(value, Mapping | list) and value
    )
    return f"""<section id="evaluation" aria-labelledby="evaluation-title">
  <div class="section-head"><h2 id="evaluation-title">Evaluation</h2>
  <p class="muted">against ground truth</p></div>
  {_tiles(plain)}<div class="metrics">{blocks}</div>
  {tables}{rest}
</section>"""


def _metric(value: Mapping[str, Any]) -> str:
    plain = {k: v for k, v in value.items() if not isinstance(v, Mapping | list)}
    groups = {k: v for k, v in value.items() if isinstance(v, Mapping)}
    lists = {k: v for k, v in value.items() if isinstance(v, list) and v}
    rows = [{"": _words(k), **_leaves(v)} for k, v in groups.items()]
    if len(rows) < 4 and max(map(len, rows), default=0) > 8:  # few long rows: turn the table
        keys = [key for key in rows[0] if key]
        rows = [{"": _words(key), **{row[""]: row.get(key) for row in rows}} for key in keys]
    return (
        _tiles(plain)
        + (_table(rows) if rows else "")
        + "".join(_folded(k, v) for k, v in lists.items())
    )


def _headline(row: Mapping[str, Any]) -> dict[str, Any]:
    """A row's plain values, and the first few figures of each metric in it."""
    out: dict[str, Any] = {}
    for key, value in row.items():
        if key == _TRANSPARENT and isinstance(value, Mapping):
            out |= _headline(value)
        elif isinstance(value, Mapping):
            first = islice(_leaves(value).items(), _COLUMNS_A_METRIC)
            out |= {k if k.lower().startswith(key) else f"{key}_{k}": v for k, v in first}
        elif not isinstance(value, list) and key not in _LEFT_OUT:
            out[key] = value
    return out


def _leaves(value: Mapping[str, Any]) -> dict[str, Any]:
    """Plain values, and those of the first group where there are only groups."""
    plain = {k: v for k, v in value.items() if not isinstance(v, Mapping | list)}
    groups = [v for v in value.values() if isinstance(v, Mapping)]
    return plain if plain or not groups else _leaves(groups[0])


def _folded(key: str, value: Any) -> str:
    if isinstance(value, Mapping):
        body = _table([{"": _words(k), "value": v} for k, v in value.items()])
    elif _is_rows(value):
        body = _table(value)
    else:
        body = f"<p>{_value(value)}</p>"
    return (
        f'<details class="group-box plain"><summary>{_title(key)}</summary>'
        f'<div class="table-box">{body}</div></details>'
    )


def _is_rows(value: Any) -> bool:
    return bool(value) and isinstance(value, list) and all(isinstance(v, Mapping) for v in value)


def _tiles(plain: Mapping[str, Any]) -> str:
    cells = "".join(
        f"<div><dt>{isolated(_words(key))}</dt><dd>{_value(item)}</dd></div>"
        for key, item in plain.items()
    )
    return f'<dl class="numbers figures">{cells}</dl>' if cells else ""


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    right = {
        key: ' class="num"' * all(isinstance(row.get(key), int | float | None) for row in rows)
        for key in keys
    }
    digits = {key: max((_decimals(row.get(key)) for row in rows), default=0) for key in keys}
    head = "".join(f'<th scope="col"{right[key]}>{isolated(_words(key))}</th>' for key in keys)
    body = "".join(
        "<tr>"
        + "".join(f"<td{right[key]}>{_cell(key, row.get(key), digits[key])}</td>" for key in keys)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="table-box"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _cell(key: str, value: Any, digits: int) -> str:
    if key == "file_name" and isinstance(value, str):
        return f'<a href="#gallery" data-search="{text(value)}">{isolated(value)}</a>'
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
        return isolated("; ".join(f"{_words(k)}: {_plain(v)}" for k, v in value.items()))
    return isolated(value)


def _plain(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _title(key: str) -> str:
    words = _TITLES.get(key) or _words(key)
    return text(words[:1].upper() + words[1:])


def _words(key: object) -> str:
    words = str(key).replace("50_95", "50–95").split("_")
    return " ".join(_CAPITALS.get(word, word) for word in words)
