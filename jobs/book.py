"""The picture book of `jobs.models --book`: a page of what each family finds, with pictures."""

from __future__ import annotations

import base64
import tomllib
from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path
from typing import Any

_DATA = Path(__file__).parent / "families"
_SKY, _ROAD, _TREE, _CAR, _OTHER, _NONE = (
    "#7cb7e8", "#a9a4b8", "#6ab187", "#e2725b", "#e8b04a", "#d9d9d4",
)  # fmt: skip
_COLOURS = {
    "semantic": (_SKY, _ROAD, _TREE, _CAR, _CAR),
    "instances": (_NONE, _NONE, _NONE, _CAR, _OTHER),
    "panoptic": (_SKY, _ROAD, _TREE, _CAR, _OTHER),
    "words": (_NONE, _NONE, _NONE, _CAR, _OTHER),
    "boxes": (_NONE, _NONE, _NONE, _CAR, _NONE),
}
"""Kind of answer → colours of sky, road, tree and two cars in the drawing."""
_WORDS = {
    "semantic": "every pixel gets a category; two cars side by side are one region",
    "instances": "every object gets a mask of its own; the rest is left alone",
    "panoptic": "every object gets a mask of its own, the rest a category",
    "words": "asked for “car”: a mask for each",
    "boxes": "asked by a box: the mask of what is in it",
}
"""Kind of answer → what the drawing shows."""

_STYLE = """
:root { color-scheme: light dark; }
body { margin: 0 auto; max-width: 1180px; padding: 40px 24px; font: 15px/1.5 system-ui, sans-serif;
  background: light-dark(#fbfbf9, #101217); color: light-dark(#16181d, #f1f2f5); }
h1 { font-size: 34px; margin: 0; } h2 { font-size: 18px; margin: 0; }
p { margin: 8px 0; max-width: 70ch; }
main { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 340px), 1fr));
  gap: 28px; margin-top: 32px; }
article { border: 1px solid light-dark(#dedfd9, #2a2e37); border-radius: 12px;
  overflow: hidden; }
article > div { padding: 14px 18px 18px; }
figure { margin: 0; } img, svg { display: block; width: 100%; aspect-ratio: 8 / 5;
  object-fit: contain; background: light-dark(#ecece8, #0a0b0e); }
details { margin-top: 8px; } summary { cursor: pointer; }
figcaption, dl, details { font-size: 13px; color: light-dark(#5a5f6a, #a0a7b4); }
figcaption { padding: 8px 18px 0; } dl { margin: 10px 0 0; }
dt { float: left; clear: left; width: 5.5em; } dd { margin: 0 0 3px 6em; }
"""


def write_book(rows: Sequence[Mapping[str, Any]]) -> str:
    """A page that needs no other file: a card a family.

    Args:
        rows: The models, as `jobs.models --json` gives them.

    Returns:
        HTML.
    """
    families = tomllib.loads((_DATA / "families.toml").read_text(encoding="utf-8"))
    cards = "\n".join(
        _card(name, about, [row for row in rows if row["family"] == name])
        for name, about in families.items()
    )
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>Models · maskmill</title>
<meta name="viewport" content="width=device-width, initial-scale=1">
<style>{_STYLE}</style></head>
<body><header><h1>What each family finds</h1>
<p>A photograph or a micrograph below was labelled by real weights of that family, mistakes and all.
Where the weights could not be had while this was written there is a drawing of the kind of answer
instead, and it says so. Speeds were measured as each line says, or not at all.
<code>maskmill models NAME</code> shows one model and how to get it.</p></header>
<main>
{cards}
</main></body></html>
"""


def _card(name: str, about: Mapping[str, str], models: Sequence[Mapping[str, Any]]) -> str:
    facts = {
        "licence": ", ".join(sorted({row["licence"] for row in models})) or "your checkpoint's",
        "size": _sizes(models),
        "speed": about["speed"] or "not measured",
    }
    listed = "".join(f"<dt>{key}</dt><dd>{escape(value)}</dd>" for key, value in facts.items())
    names = ", ".join(row["name"] for row in models)
    told = f"<details><summary>{len(models)} by name</summary>{names}</details>"
    return (
        f'<article id="{name}">{_figure(about)}<div><h2>{name}</h2>'
        f"<p>{escape(about['finds'])}</p><dl>{listed}</dl>"
        f"{told if models else '<p>Takes a folder or a file of yours.</p>'}</div></article>"
    )


def _sizes(models: Sequence[Mapping[str, Any]]) -> str:
    sizes = sorted(row["parameters"] / 1e6 for row in models)
    if not sizes:
        return "your checkpoint's"
    if sizes[-1] == 0:
        return "no weights"
    low, high = (f"{size:.1f}" if size < 10 else f"{size:.0f}" for size in (sizes[0], sizes[-1]))
    return f"{low} million parameters" if low == high else f"{low} to {high} million parameters"


def _figure(about: Mapping[str, str]) -> str:
    if "picture" not in about:
        told = f"Drawing: {_WORDS[about['answer']]}"
        return f"<figure>{_drawing(about['answer'], told)}<figcaption>{told}</figcaption></figure>"
    code = base64.b64encode((_DATA / about["picture"]).read_bytes()).decode()
    told = escape(about["shown"])
    picture = f'<img src="data:image/webp;base64,{code}" alt="{told}">'
    return f"<figure>{picture}<figcaption>{told}</figcaption></figure>"


def _drawing(answer: str, told: str) -> str:
    sky, road, tree, car, other = _COLOURS[answer]
    asked = {
        "words": '<text x="12" y="30" font-size="18" fill="#16181d">“car”</text>',
        "boxes": '<rect x="84" y="112" width="118" height="60" fill="none" stroke="#16181d" '
        'stroke-width="3" stroke-dasharray="7 5"/>',
    }
    wheels = "".join(
        f'<circle cx="{x}" cy="164" r="11" fill="{colour}"/>'
        for x, colour in ((116, car), (170, car), (222, other), (276, other))
    )
    return (
        f'<svg viewBox="0 0 320 200" role="img" aria-label="{told}">'
        f'<rect width="320" height="130" fill="{sky}"/>'
        f'<rect y="130" width="320" height="70" fill="{road}"/>'
        f'<rect x="40" y="90" width="14" height="60" fill="{tree}"/>'
        f'<circle cx="47" cy="72" r="38" fill="{tree}"/>'
        f'<path d="M90 160v-22l22-4 14-18h40l14 18 16 4v22z" fill="{car}"/>'
        f'<path d="M196 160v-22l22-4 14-18h40l14 18 16 4v22z" fill="{other}"/>'
        f"{wheels}{asked.get(answer, '')}</svg>"
    )
