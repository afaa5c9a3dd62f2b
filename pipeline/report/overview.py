"""The head of the page: what it is, the numbers, the status bar, histograms and categories."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.manifest import DatasetManifest
from schemas.notes import in_part_line
from schemas.prompts import prompt_lines
from schemas.records import Task

from .escape import isolated, text
from .survey import Tally, Unlabelled

STATUSES = (
    ("ok", "labelled"),
    ("empty", "nothing found"),
    ("failed", "failed"),
    ("skipped", "skipped"),
)
"""Status and what it means to a reader, in the order of the bar."""

_CATEGORIES_AT_ONCE = 12
_ALSO = "The dataset also holds {} labels: python -m jobs.report --task shows them."


def overview_section(
    manifest: DatasetManifest, tally: Tally, *, name: str, tasks: Sequence[Task]
) -> str:
    """Numbers, bar, places for the histograms, and the table of categories.

    Args:
        manifest: Of what is shown: the dataset, or one of its tasks.
        tally: Of the same.
        name: Of the dataset.
        tasks: All that the dataset holds; what is not shown is named.
    """
    others = " and ".join(task for task in tasks if task != manifest.task)
    also = f'<p class="muted">{text(_ALSO.format(others))}</p>' if others else ""
    asked = "".join(
        f'<p class="muted">{text(line)}</p>' for line in prompt_lines(manifest.prompt_counts)
    )
    model = manifest.model
    revision = str(model.get("revision", ""))[:12]
    made = f"{manifest.task} segmentation by {model.get('name', 'an unknown model')}"
    return f"""<section id="overview" aria-labelledby="title">
  <p class="eyebrow">{text(made)}{f" <code>{text(revision)}</code>" if revision else ""}</p>
  <h1 id="title">{isolated(name)}</h1>
  <p class="muted path">{isolated(manifest.input)}</p>{also}{asked}
  {_numbers(manifest, tally)}
  {_bar(manifest)}
  {_in_part(manifest)}
  <div class="charts">
    <figure class="chart" id="chart-area" data-title="Area of a segment" data-unit="px"></figure>
    <figure class="chart" id="chart-score" data-title="Score of a segment"></figure>
    <figure class="chart" id="chart-objects" data-title="Segments in an image"></figure>
  </div>
  {_categories(manifest, tally)}
</section>"""


def _numbers(manifest: DatasetManifest, tally: Tally) -> str:
    counts = manifest.counts
    named = [item for item in manifest.category_table() if not item.is_background]
    used = sum(1 for item in named if tally.category(item.id)["segments"])
    copies = counts.get("copies", 0)
    note = f"{copies:,} of them copies" if copies else ""
    cells = [("Images", counts["images"], note, "")]
    for status, _ in STATUSES:
        if counts[status] or status != "skipped":
            share = _share(counts[status], counts["images"])
            word = "OK" if status == "ok" else status.capitalize()
            cells.append((word, counts[status], share, status))
    cells.append(("Segments", manifest.objects, "", ""))
    total = len(named)
    cells.append(("Categories", used, f"of {total:,}" if used != total else "", ""))
    return '<dl class="numbers">' + "".join(_number(*cell) for cell in cells) + "</dl>"


def _in_part(manifest: DatasetManifest) -> str:
    """What was left out of images without a choice: a count of a z-stack's first plane is none."""
    said = in_part_line(manifest.in_part)
    return f'<p class="in-part" role="note">{text(said)}</p>' if said else ""


def _number(label: str, value: int, note: str, status: str) -> str:
    dot = f'<i class="dot {status}"></i>' if status else ""
    number = f"{value:,}"
    if status and value:
        number = f'<a href="#gallery" data-status="{status}">{number}</a>'
    small = f" <small>{text(note)}</small>" if note else ""
    return f"<div><dt>{dot}{label}</dt><dd>{number}{small}</dd></div>"


def _bar(manifest: DatasetManifest) -> str:
    """One bar, a part a status; widths are attributes of SVG, which no policy forbids."""
    total = manifest.counts["images"]
    if not total:
        return ""
    x, parts, said = 0.0, [], []
    for status, meaning in STATUSES:
        count = manifest.counts[status]
        if not count:
            continue
        width = 1000 * count / total
        parts.append(
            f'<rect class="{status}" x="{x:.2f}" width="{max(width, 2):.2f}" height="10">'
            f"<title>{count:,} {meaning} ({_share(count, total)})</title></rect>"
        )
        said.append(f"{count:,} {meaning}")
        x += width
    return (
        f'<svg class="status-bar" viewBox="0 0 1000 10" preserveAspectRatio="none" role="img" '
        f'aria-label="{text(", ".join(said))}">{"".join(parts)}</svg>'
    )


def _categories(manifest: DatasetManifest, tally: Tally) -> str:
    rows = []
    items = [(item, tally.category(item.id)) for item in manifest.category_table()]
    # Background last: the remainder of every picture says nothing of what was found.
    items.sort(key=lambda pair: (pair[0].is_background, -pair[1]["segments"], pair[0].id))
    found = (entry["segments"] for item, entry in items if not item.is_background)
    widest = max(found, default=0)
    for place, (item, entry) in enumerate(items):
        kind = "background" if item.is_background else "thing" if item.isthing else "stuff"
        share = min(100 * entry["segments"] / widest, 100) if widest else 0
        area = f"{entry['area']['mean']:,.0f}" if entry["area"] else "–"
        score = f"{entry['score']['mean']:.3f}" if entry["score"] else "–"
        name = isolated(item.name)
        if entry["segments"]:
            name = f'<a href="#gallery" data-category="{item.id}">{name}</a>'
        rows.append(
            f"<tr{' class=more hidden' if place >= _CATEGORIES_AT_ONCE else ''}>"
            f'<th scope="row">{chip(item.color)}{name}</th><td class="kind">{kind}</td>'
            f'<td class="spark"><svg viewBox="0 0 100 6" preserveAspectRatio="none" '
            f'aria-hidden="true"><rect width="{share:.1f}" height="6" fill="{item.color}"/></svg>'
            f'</td><td class="num">{entry["segments"]:,}</td>'
            f'<td class="num">{entry["images"]:,}</td>'
            f'<td class="num">{area}</td><td class="num">{score}</td></tr>'
        )
    more = len(rows) - _CATEGORIES_AT_ONCE
    button = (
        f'<button type="button" class="ghost" id="more-categories">Show {more:,} more</button>'
        if more > 0
        else ""
    )
    return (
        '<div class="table-box" id="categories"><table><thead><tr><th scope="col">Category</th>'
        '<th scope="col">Kind</th><td class="spark"></td><th scope="col" class="num">Segments</th>'
        '<th scope="col" class="num">Images</th><th scope="col" class="num">Mean area, px</th>'
        '<th scope="col" class="num">Mean score</th></tr></thead><tbody>'
        f"{''.join(rows)}</tbody></table>{button}</div>"
    )


def chip(color: str) -> str:
    """A square of a category's colour, an SVG because style attributes are forbidden."""
    return (
        '<svg class="chip" viewBox="0 0 12 12" aria-hidden="true">'
        f'<rect width="12" height="12" rx="3" fill="{text(color)}"/></svg>'
    )


def _share(count: int, total: int) -> str:
    if not count or not total:
        return ""
    percent = 100 * count / total
    if percent < 0.1:
        return "< 0.1 %"
    # Rounding must not turn "nearly all" into all.
    return f"{min(percent, 99.9) if count < total else 100:.3g} %"


# The images that got no labels, grouped by reason.

MEANING = {
    "read_error": "the bytes could not be read",
    "empty_file": "the file holds no bytes",
    "not_an_image": "the bytes are no picture of a known format",
    "truncated": "the picture ends too early",
    "decode_error": "the picture is damaged",
    "too_large": "more pixels than the configured limit",
    "unsupported": "a kind of picture that is not supported",
    "model_error": "the model failed on it",
    "too_many_segments": "more segments than an image may have",
    "bad_prompt": "the file of prompts asks of it what cannot be",
    "crashed": "the worker died on it again and again",
}


def failures_section(manifest: DatasetManifest, listed: Sequence[Unlabelled]) -> str:
    """A group a code, the most frequent first; "" where every image was labelled."""
    counts = sorted(manifest.error_counts.items(), key=lambda item: (-item[1], item[0]))
    total = sum(manifest.error_counts.values())
    if not total:
        return ""
    groups = "".join(
        _group(code, count, [item for item in listed if item.code == code], first=not place)
        for place, (code, count) in enumerate(counts)
    )
    return f"""<section id="failures" aria-labelledby="failures-title">
  <div class="section-head"><h2 id="failures-title">Failures</h2>
  <p class="muted">{total:,} of {manifest.counts["images"]:,} images have no labels</p></div>
  {groups}
</section>"""


def _group(code: str, count: int, items: Sequence[Unlabelled], *, first: bool) -> str:
    rows = "".join(
        f'<tr><th scope="row">{isolated(item.file_name)}</th><td>{isolated(item.message)}</td></tr>'
        for item in items
    )
    more = count - len(items)
    rest = f'<p class="muted more-note">and {more:,} more</p>' if more > 0 else ""
    return (
        f'<details class="group-box"{" open" if first or count <= 10 else ""}><summary>'
        f'<code>{text(code)}</code><span class="muted">{text(MEANING.get(code, ""))}</span>'
        f'<b class="num">{count:,}</b></summary><div class="table-box"><table><thead><tr>'
        '<th scope="col">File</th><th scope="col">What was said</th></tr></thead>'
        f"<tbody>{rows}</tbody></table>{rest}</div></details>"
    )
