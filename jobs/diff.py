"""What changed between two versions or datasets: `python -m jobs.diff A B`."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Mapping
from typing import Annotated, Any

import pyarrow.parquet as pq
import typer
from rich.console import Console

from jobs.console import exit_codes, say
from jobs.tables import print_changes
from pipeline.ledger.diff import diff_images
from pipeline.measuring.compare import compare, open_side
from pipeline.report.comparison import comparison_page
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.job import StorageConfig

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_KINDS = {
    "added": "added",
    "gone": "gone",
    "moved": "the same bytes under a new name",
    "changed": "other bytes under the same name",
    "recomputed": "other labels of the same bytes",
    "unchanged": "unchanged",
    "failed_now": "failed in B alone",
    "failed_no_more": "failed in A alone",
}


@app.command(epilog="Example: python -m jobs.diff out/versions/000041.json out/ --json diff.json")
def main(
    a: Annotated[str, typer.Argument(metavar="A", help="Dataset, or a file of its versions/.")],
    b: Annotated[str, typer.Argument(metavar="B", help="Likewise; the later one.")],
    min_iou: Annotated[
        float, typer.Option(min=0, max=1, help="Overlap of one and the same object.")
    ] = 0.3,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Change of area that is none, a share.")
    ] = 0.1,
    html: Annotated[
        str,
        typer.Option(
            metavar="FILE", help="Write a page there: the pictures that changed most, side by side."
        ),
    ] = "",
    json_: Annotated[str, typer.Option("--json", metavar="FILE", help="Write it there.")] = "",
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without credentials.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Logs, tracebacks.")] = False,
) -> None:
    """Pictures added, gone, moved, changed, failed; objects appeared, vanished, grown, shrunk.

    Objects are paired by mask IoU, by category. Exit code 0: compared; 2: bad usage.
    """
    with exit_codes(verbose=verbose):
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        images = diff_images(open_side(a, storage).ledger, open_side(b, storage).ledger)
        result: dict[str, Any] = {"pictures": images.to_json(), "objects": None}
        try:
            options: dict[str, Any] = {"min_iou": min_iou, "tolerance": tolerance}
            if html:
                result["objects"] = _with_page(a, b, html, options, storage)
            else:
                result["objects"] = compare(a, b, storage=storage, **options)
        except ValueError as error:
            if "nothing to compare" not in str(error) and "no image of" not in str(error):
                raise
            say(f"objects are not compared: {error}", err=True)
        if json_:
            text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
            storage.write(absolute_uri(json_), text.encode())
        if quiet:
            return
        say(str(images))
        for kind, text in _KINDS.items():
            if images.counts[kind]:
                names = ", ".join(images.names.get(kind, [])[:3])
                more = ", …" if images.counts[kind] > 3 and names else ""
                say(f"  {images.counts[kind]:>8} {text}{': ' if names else ''}{names}{more}")
        if result["objects"] is not None:
            print_changes(result["objects"], Console())


def _with_page(
    a: str, b: str, page: str, options: Mapping[str, Any], storage: Storage
) -> dict[str, Any]:
    """Compares the objects and writes the page of them."""
    with tempfile.TemporaryDirectory() as folder:
        rows = f"{folder}/changes.parquet"
        result = compare(a, b, output=rows, storage=storage, **options)
        changes = pq.read_table(rows).to_pylist()
    before, after = open_side(a, storage).ledger, open_side(b, storage).ledger
    names = [f"{uri} (version {one.manifest.version})" for uri, one in ((a, before), (b, after))]
    text = comparison_page(before, after, changes, names=names)
    storage.write(absolute_uri(page), text.encode("utf-8", errors="replace"))
    return result


if __name__ == "__main__":
    app(prog_name="python -m jobs.diff")
