"""The page: template, styles, script, data and the parts that need no script to be read."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from string import Template
from typing import Any

from schemas.containers import Container
from schemas.manifest import DatasetManifest

from .escape import csp_hash, isolated, script_json, text
from .evaluation import evaluation_section
from .left_out import left_out_section
from .measurements import measured_for, measurements_section
from .overview import failures_section, overview_section
from .provenance import provenance_section
from .survey import Selection, Tally

_STATIC = Path(__file__).parent / "static"
_SCRIPTS = (
    "masks.js",
    "charts.js",
    "state.js",
    "gallery.js",
    "viewer.js",
    "evaluation.js",
    "measurements.js",
    "main.js",
)


def build_page(
    manifest: DatasetManifest,
    *,
    whole: DatasetManifest,
    tally: Tally,
    selection: Selection,
    entries: Sequence[Sequence[Any]],
    thumbs: Sequence[str],
    chunk: int,
    missing: int,
    evaluation: Any,
    measurements: Any,
    containers: Sequence[Container] = (),
) -> str:
    """The whole of index.html.

    Args:
        manifest: Of what is shown: the dataset, or one of its tasks.
        whole: Of the dataset.
        tally: Over all images.
        selection: Which images are shown.
        entries: A row each (`picture.Picture.entry`).
        thumbs: The first chunks of thumbnails as script-safe JSON.
        chunk: Thumbnails a chunk.
        missing: Shown images whose picture was gone.
        evaluation: Nested figures, or None.
        measurements: Contents of measurements.json, or None.
        containers: Those that could not be read, or not to their end.
    """
    style = (_STATIC / "report.css").read_text(encoding="utf-8")
    parts = [(_STATIC / name).read_text(encoding="utf-8") for name in _SCRIPTS]
    script = '"use strict";\n(() => {\n' + "\n".join(parts) + "\n})();\n"
    figures = evaluation_section(evaluation)
    measured = measured_for(measurements, manifest.tasks[0])
    failures = failures_section(manifest, selection.unlabelled)
    links = [("overview", "Overview"), ("gallery", "Pictures")]
    links += [("evaluation", "Evaluation")] if figures else []
    links += [("measurements", "Measurements")] if measured else []
    links += [("failures", "Failures")] if failures else []
    left_out = left_out_section(whole, containers)
    links += [("left-out", "Left out")] if left_out else []
    links += [("provenance", "Provenance")]
    return Template((_STATIC / "report.html").read_text(encoding="utf-8")).substitute(
        title=text(dataset_name(manifest)),
        style=style,
        style_hash=csp_hash(style),
        script=script,
        script_hash=csp_hash(script),
        nav="".join(f'<a href="#{key}">{label}</a>' for key, label in links),
        overview=overview_section(manifest, tally, name=dataset_name(manifest), tasks=whole.tasks),
        evaluation=figures,
        measurements=measurements_section(measured, version=whole.version),
        shown=_shown(manifest, len(entries)),
        notice=_notice(missing, len(entries)),
        failures=failures + left_out,
        provenance=provenance_section(whole),
        version=text(_version()),
        data=script_json(
            {
                "categories": [
                    {
                        "id": item.id,
                        "name": item.name,
                        "color": item.color,
                        "background": item.is_background,
                    }
                    for item in manifest.category_table()
                ],
                "histograms": tally.histograms(),
                "measurements": measured,
                "unscored": tally.unscored,
                "chunk": chunk,
                "embedded": len(thumbs),
                "rows": entries,
                "unlabelled": [
                    [item.image_id, item.file_name, item.status, item.code, item.message]
                    for item in selection.unlabelled
                ],
            }
        ),
        thumbs="\n".join(
            f'<script type="application/json" id="thumbs-{number}">{data}</script>'
            for number, data in enumerate(thumbs)
        ),
    )


def dataset_name(manifest: DatasetManifest) -> str:
    """A short name: the last part of where the images came from."""
    return manifest.input.rstrip("/").rpartition("/")[2] or "Dataset"


def _shown(manifest: DatasetManifest, shown: int) -> str:
    labelled = manifest.counts["ok"] + manifest.counts["empty"]
    if shown == labelled:
        return f"all {labelled:,} labelled images"
    return f"showing {shown:,} of {labelled:,} labelled images, a random sample"


def _notice(missing: int, shown: int) -> str:
    if not missing:
        return ""
    what = "The input is no longer there" if missing == shown else f"{missing:,} pictures are gone"
    reason = "or changed since they were labelled" if missing != shown else "or has changed"
    return (
        f'<p class="notice">{what} {reason}: their masks are drawn on a plain ground. '
        f"{isolated('Counts are not affected.')}</p>"
    )


def _version() -> str:
    try:
        return " " + version("maskmill")
    except PackageNotFoundError:
        return ""
