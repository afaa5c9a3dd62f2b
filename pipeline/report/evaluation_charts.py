"""Charts of an evaluation as inline SVG: curves, and which category is taken for which."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .embed import isolated, text

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
        + "".join(_cell(true, id_, pixels[true].get(id_, 0) / totals[true]) for id_ in columns)
        + "</tr>"
        for true in ids
    )
    left_out = f'<p class="muted">the {_SHOWN} categories with most pixels of {len(totals)}</p>'
    return (
        '<div class="table-box"><table class="confusion"><thead><tr>'
        f'<th scope="col" class="muted">true ↓ predicted →</th>{head}</tr></thead>'
        f"<tbody>{rows}</tbody></table></div>{left_out if len(totals) > _SHOWN else ''}"
    )


def _cell(true: str, id_: str, share: float) -> str:
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
