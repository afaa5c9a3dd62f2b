"""Figures of an evaluation: whatever nesting of names and numbers, as tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from .embed import isolated, text

_TILES = 6


def evaluation_section(figures: Any) -> str:
    """The section, or "" where there are no figures.

    Plain numbers become a line of large figures, nested names a table, lists of objects a table
    with a column a key.
    """
    if not isinstance(figures, Mapping) or not figures:
        return ""
    body = _block(figures, title="")
    return f"""<section id="evaluation" aria-labelledby="evaluation-title">
  <div class="section-head"><h2 id="evaluation-title">Evaluation</h2>
  <p class="muted">against ground truth</p></div>
  {body}
</section>"""


def _block(value: Mapping[str, Any], *, title: str) -> str:
    plain = {k: v for k, v in value.items() if not isinstance(v, Mapping | list)}
    nested = {k: v for k, v in value.items() if isinstance(v, Mapping | list) and v}
    out = [f"<h3>{isolated(_words(title))}</h3>"] if title else []
    if plain and len(plain) <= _TILES:
        cells = "".join(
            f"<div><dt>{isolated(_words(key))}</dt><dd>{_value(item)}</dd></div>"
            for key, item in plain.items()
        )
        out.append(f'<dl class="numbers figures">{cells}</dl>')
    elif plain:
        out.append(_table([{"": key, "value": item} for key, item in plain.items()]))
    for key, item in nested.items():
        if isinstance(item, Mapping):
            inner = [v for v in item.values() if isinstance(v, Mapping)]
            if len(inner) == len(item):  # {"nucleus": {"pq": 0.8, …}, …}: a row a key
                out.append(f"<h3>{isolated(_words(key))}</h3>")
                out.append(_table([{"": name, **v} for name, v in item.items()]))
            else:
                out.append(_block(item, title=key))
        elif all(isinstance(entry, Mapping) for entry in item):
            out.append(f"<h3>{isolated(_words(key))}</h3>")
            out.append(_table(item))
        else:
            out.append(f"<h3>{isolated(_words(key))}</h3>")
            out.append(_table([{"": n, "value": entry} for n, entry in enumerate(item)]))
    return "".join(out)


def _table(rows: Sequence[Mapping[str, Any]]) -> str:
    keys = list(dict.fromkeys(key for row in rows for key in row))
    number = {
        key: all(isinstance(row.get(key), int | float | None) for row in rows) for key in keys
    }
    head = "".join(
        f'<th scope="col"{_right(number[key])}>{isolated(_words(key))}</th>' for key in keys
    )
    body = "".join(
        "<tr>"
        + "".join(f"<td{_right(number[k])}>{_value(row.get(k))}</td>" for k in keys)
        + "</tr>"
        for row in rows
    )
    return (
        f'<div class="table-box"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def _right(number: bool) -> str:
    return ' class="num"' if number else ""


def _value(value: Any) -> str:
    if value is None:
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, float):
        return f"{value:.4f}" if abs(value) < 100 else f"{value:,.1f}"
    if isinstance(value, str):
        return isolated(value)
    return f"<code>{text(value)}</code>"


def _words(key: object) -> str:
    return str(key).replace("_", " ")
