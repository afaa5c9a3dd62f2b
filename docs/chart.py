"""Draws docs/images/forward-passes.svg from the first table of docs/performance.md.

`python -m docs.generate` writes it with the reference; a test compares it with what is there, so
that the picture says what the table says.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from xml.sax.saxutils import escape

ROOT = Path(__file__).resolve().parents[1]
CHART = ROOT / "docs" / "images" / "forward-passes.svg"

_ROW = re.compile(
    r"^\| ([^|]+) \| (\d+)(?: images/s)? \| (\d+) \| (\d+) \| [\d.]+× \|$", re.MULTILINE
)
_LEFT, _TOP, _ROW_HEIGHT, _BAR, _UNIT = 236, 78, 42, 13, 92
"""Pixels: where bars begin, the first row, a row, a bar, and once the library's rate."""
_PLAIN, _COMPILED, _INK, _SOFT = "#9cc4bd", "#1f7a6c", "#1c2526", "#5d6b6d"


@dataclass(frozen=True, slots=True)
class Rates:
    """Forward passes of one network in images/s.

    Attributes:
        network: Its name.
        library: The library's own, compiled.
        plain: Ours.
        compiled: Ours with `model.compile`.
    """

    network: str
    library: int
    plain: int
    compiled: int


def rates(page: str) -> list[Rates]:
    """Rows of the table of networks in the text of docs/performance.md."""
    return [
        Rates(re.sub(r" \(.*\)", "", name), *map(int, numbers))
        for name, *numbers in _ROW.findall(page)
    ]


def chart(rows: list[Rates]) -> str:
    """The SVG: bars of our rates, the library's compiled rate as the unit."""
    most = max(row.compiled / row.library for row in rows)
    width = _LEFT + round(_UNIT * most) + 160
    height = _TOP + _ROW_HEIGHT * len(rows) + 12
    one = _LEFT + _UNIT
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" '
        f'font-family="system-ui, sans-serif" font-size="13" fill="{_INK}">',
        "<title>Forward passes on one H200, in multiples of the library's compiled rate</title>",
        f'<rect width="{width}" height="{height}" rx="6" fill="#ffffff"/>',
        '<text x="16" y="28" font-size="15" font-weight="600">'
        "Images/s on one H200, against the library's own compiled network</text>",
        f'<rect x="16" y="42" width="12" height="12" fill="{_PLAIN}"/>'
        '<text x="34" y="53">maskmill</text>'
        f'<rect x="116" y="42" width="12" height="12" fill="{_COMPILED}"/>'
        '<text x="134" y="53">maskmill, model.compile</text>'
        f'<path d="M310 42v12" stroke="{_INK}" stroke-dasharray="3 3"/>'
        '<text x="318" y="53">the library, compiled, bfloat16 (1×)</text>',
    ]
    parts.append(
        f'<path d="M{one} {_TOP - 8}V{height - 10}" stroke="{_INK}" stroke-dasharray="3 3"/>'
    )
    for number, row in enumerate(rows):
        top = _TOP + number * _ROW_HEIGHT
        parts.append(
            f'<text x="{_LEFT - 12}" y="{top + 19}" text-anchor="end">{escape(row.network)}</text>'
        )
        for y, rate, colour in (
            (top, row.plain, _PLAIN),
            (top + _BAR + 2, row.compiled, _COMPILED),
        ):
            length = round(_UNIT * rate / row.library)
            parts.append(
                f'<rect x="{_LEFT}" y="{y}" width="{length}" height="{_BAR}" fill="{colour}"/>'
                f'<text x="{_LEFT + length + 6}" y="{y + 11}" font-size="11" fill="{_SOFT}" '
                'paint-order="stroke" stroke="#ffffff" stroke-width="3">'
                f"{rate} · {rate / row.library:.1f}×</text>"
            )
    return "\n".join([*parts, "</svg>\n"])


def drawn() -> str:
    """The chart of the page as it is."""
    page = (ROOT / "docs" / "performance.md").read_text(encoding="utf-8")
    return chart(rates(page))
