"""The images that got no labels, grouped by reason."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.manifest import DatasetManifest

from .embed import isolated, text
from .selection import Unlabelled

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
