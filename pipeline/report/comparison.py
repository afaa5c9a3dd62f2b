"""A page of two versions side by side: what appeared, vanished, grew and shrank."""

from __future__ import annotations

import base64
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt

from pipeline.ledger.ledger import Ledger
from pipeline.masks import codec
from pipeline.masks.resample import Size, fit, shrink
from schemas.config.job import ImagesConfig
from schemas.rows import AnnotationRow, ImageRow, size_of

from .escape import csp_hash, isolated, text
from .pictures import find_originals, original_pixels, read_or_none

SHOWN = 24
"""Pictures of the page: those with the most changes."""

_SIDE = 520
_COLOURS = {
    "vanished": (213, 94, 0),
    "appeared": (0, 158, 115),
    "grown": (230, 159, 0),
    "shrunk": (86, 180, 233),
    "renamed": (204, 121, 167),
    "matched": (190, 194, 204),
}
"""What became of an object → colour, red, green, blue: Okabe and Ito's, which colour-blind readers
tell apart."""

_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 1180px; padding: 36px 24px; font: 15px/1.5 system-ui, sans-serif;
  background: light-dark(#fbfbf9, #101217); color: light-dark(#16181d, #f1f2f5); }
h1 { font-size: 30px; line-height: 1.2; margin: 0; } h2 { font-size: 16px; margin: 36px 0 8px; }
h1, h2 { overflow-wrap: anywhere; }
ul { display: flex; flex-wrap: wrap; gap: 6px 20px; margin: 10px 0; padding: 0; list-style: none; }
ul svg { width: 12px; height: 12px; margin-right: 7px; }
section > div { display: grid; gap: 14px;
  grid-template-columns: repeat(auto-fit, minmax(min(100%, 340px), 1fr)); }
figure { margin: 0; } img { display: block; width: 100%; border-radius: 9px; }
figcaption, p, ul { font-size: 13.5px; color: light-dark(#5a5f6a, #a0a7b4); }
"""


def comparison_page(
    before: Ledger, after: Ledger, changes: Sequence[Mapping[str, Any]], *, names: Sequence[str]
) -> str:
    """HTML that needs no other file.

    Args:
        before: The first version.
        after: The second.
        changes: Rows with the schema `schemas.measurements.CHANGES`.
        names: What the two are called.
    """
    kind: dict[str, dict[int, str]] = {"a": {}, "b": {}}
    counts: dict[str, Counter[str]] = {}
    for row in changes:
        change = "renamed" if row["category_changed"] else row["change"]
        counts.setdefault(row["file_name"], Counter())[change] += 1
        for side, known in kind.items():
            known[row[f"annotation_id_{side}"]] = change
    changed = {name: sum(found.values()) - found["matched"] for name, found in counts.items()}
    chosen = sorted((name for name in changed if changed[name]), key=lambda name: -changed[name])
    shown = chosen[:SHOWN]
    sides = [
        _drawn(ledger, set(shown), kind[side])
        for ledger, side in zip((before, after), "ab", strict=True)
    ]
    sections = "\n".join(_section(name, counts[name], sides, names) for name in shown)
    total: Counter[str] = sum(counts.values(), Counter())
    rest = f" Shown are the {SHOWN} with the most changes." if len(chosen) > SHOWN else ""
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src {csp_hash(_STYLE)}">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>What changed · maskmill</title><style>{_STYLE}</style></head>
<body><header><h1>{isolated(names[0])} → {isolated(names[1])}</h1>
{_legend(total)}
<p>Pictures with objects: {len(counts):,}, with changes: {len(chosen):,}.{rest}</p></header>
<main>{sections or "<p>No object changed.</p>"}</main></body></html>
"""


def _legend(counts: Mapping[str, int]) -> str:
    items = "".join(
        f'<li><svg viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect width="12" height="12" rx="3" fill="rgb{colour}"/></svg>'
        f"{counts.get(change, 0):,} {change}</li>"
        for change, colour in _COLOURS.items()
    )
    return f"<ul>{items}</ul>"


def _section(
    name: str, counts: Mapping[str, int], sides: Sequence[Mapping[str, str]], names: Sequence[str]
) -> str:
    told = ", ".join(f"{counts[change]} {change}" for change in _COLOURS if counts[change])
    figures = "".join(
        f'<figure><img src="data:image/jpeg;base64,{side[name]}" alt="{text(name)}: {text(which)}">'
        f"<figcaption>{isolated(which)}</figcaption></figure>"
        for side, which in zip(sides, names, strict=True)
    )
    return f"<section><h2>{isolated(name)}</h2><p>{told}</p><div>{figures}</div></section>"


def _drawn(ledger: Ledger, names: set[str], kind: Mapping[int, str]) -> dict[str, str]:
    """File name → JPEG in base 64: the picture, grey where it is gone, with its objects."""
    records, read = find_originals(ledger, names)
    config = ImagesConfig.model_validate(ledger.manifest.config.get("images", {}))
    drawn: dict[str, str] = {}
    for row, found in ledger.rows():
        name = row["file_name"]
        if name not in names:
            continue
        record = records.get(name)
        pixels = original_pixels(row, record, read_or_none(read, record), config)
        small = fit(size_of(row), _SIDE)
        canvas = np.full((*small, 3), 128, np.uint8)
        if pixels is not None:
            canvas[:] = cv2.resize(pixels, small[::-1], interpolation=cv2.INTER_AREA)
        for mask, change in _masks(row, found, small, kind):
            _paint(canvas, mask, _COLOURS[change], outline=change == "matched")
        data = cv2.imencode(".jpg", cv2.cvtColor(canvas, cv2.COLOR_RGB2BGR))[1]
        drawn[name] = base64.b64encode(data.tobytes()).decode()
    return drawn


def _masks(
    row: ImageRow, found: Sequence[AnnotationRow], small: Size, kind: Mapping[int, str]
) -> Iterator[tuple[npt.NDArray[np.uint8], str]]:
    """Masks as they are seen small, and what became of each; the largest first."""
    known = [item for item in found if item["annotation_id"] in kind]
    known.sort(key=lambda item: -item["area"])
    texts = shrink([item["rle"]["counts"] for item in known], size_of(row), small)
    for item, counts in zip(known, texts, strict=True):
        if counts is not None:
            yield codec.decode(counts, *small), kind[item["annotation_id"]]


def _paint(
    canvas: npt.NDArray[np.uint8],
    mask: npt.NDArray[np.uint8],
    colour: tuple[int, int, int],
    *,
    outline: bool,
) -> None:
    """Lays a mask over the picture, or its outline alone."""
    inside = mask > 0
    if not outline:
        canvas[inside] = (canvas[inside] * 0.5 + np.array(colour) * 0.5).astype(np.uint8)
    edge = inside & (cv2.erode(mask, np.ones((3, 3), np.uint8), borderValue=0) == 0)
    canvas[edge] = colour
