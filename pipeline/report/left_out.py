"""What the input held beside images: containers that broke, files that were left out."""

from __future__ import annotations

from collections.abc import Sequence

from schemas.containers import Container
from schemas.manifest import DatasetManifest

from .escape import isolated, text

_SHOWN = 200


def left_out_section(manifest: DatasetManifest, containers: Sequence[Container]) -> str:
    """Two tables, pictures first; "" where everything was taken.

    Args:
        manifest: Of the dataset.
        containers: The rows of its table that are not ok.
    """
    if not containers and not manifest.left_out:
        return ""
    files = sum(item["files"] for item in manifest.left_out)
    pictures = sum(item["files"] for item in manifest.left_out if item["picture"])
    said = f"{files:,} files are no input" if files else "every file was taken"
    loud = f"; <strong>{pictures:,} of them are pictures</strong>" if pictures else ""
    return f"""<section id="left-out" aria-labelledby="left-out-title">
  <div class="section-head"><h2 id="left-out-title">Left out</h2>
  <p class="muted">{said}{loud}</p></div>
  {_containers(containers)}{_files(manifest)}
</section>"""


def _containers(containers: Sequence[Container]) -> str:
    rows = [
        (isolated(one.uri), text(one.status), isolated(one.reason), f"{one.images:,}")
        for one in containers[:_SHOWN]
    ]
    if len(containers) > _SHOWN:
        rows.append((f"and {len(containers) - _SHOWN:,} more", "", "", ""))
    return _table(("Container", "Status", "Reason", "Images read"), rows)


def _files(manifest: DatasetManifest) -> str:
    rows = [
        (text(item["suffix"]), isolated(item["reason"]), f"{item['files']:,}")
        for item in manifest.left_out[:_SHOWN]
    ]
    return _table(("Files", "Reason", "Number"), rows)


def _table(titles: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    if not rows:
        return ""
    head = "".join(f'<th scope="col">{title}</th>' for title in titles)
    body = "".join(
        f'<tr><th scope="row">{first}</th>{"".join(f"<td>{cell}</td>" for cell in rest)}</tr>'
        for first, *rest in rows
    )
    return (
        f'<div class="table-box"><table><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )
