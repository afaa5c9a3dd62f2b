"""Measure objects, or compare two versions: `python -m jobs.measure --dataset OUT --output F`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from jobs.console import exit_codes, say
from jobs.tables import print_changes, print_measurements
from pipeline.measuring.compare import compare as compare_datasets
from pipeline.measuring.measure import MAX_DISTANCE, images_uri, measure
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.job import StorageConfig

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(
    epilog="Example: python -m jobs.measure --dataset out/ --output objects.parquet "
    '--pixel-size "0.5 um"'
)
def main(
    dataset: Annotated[str, typer.Option(help="The dataset, a folder or s3:// URI.")] = "",
    output: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Table of objects, .parquet, .csv or .xlsx; FILE.images.… beside it counts them "
            "by image.",
        ),
    ] = "",
    pixel_size: Annotated[
        str,
        typer.Option(
            help="'0.5 um' (nm, um, mm, cm, m, km, in); auto: from TIFF and EXIF unless it is what "
            "screens and printers have; file: whatever they say; none."
        ),
    ] = "auto",
    intensity: Annotated[
        bool, typer.Option("--intensity/--no-intensity", help="Read the original pictures.")
    ] = True,
    neighbour_distance: Annotated[
        int,
        typer.Option(min=0, max=MAX_DISTANCE, help="Pixels between neighbours; 1 = touching."),
    ] = 1,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes; 0 = one a processor. Never changes a byte.")
    ] = 0,
    save: Annotated[
        bool, typer.Option("--save/--no-save", help="Keep a summary for the dataset's report.")
    ] = True,
    compare: Annotated[
        tuple[str, str] | None,
        typer.Option(
            metavar="A B",
            help="Instead: what became of each object from A to B, two datasets of the same "
            "pictures or files of versions/.",
        ),
    ] = None,
    min_iou: Annotated[
        float, typer.Option(min=0, max=1, help="Comparing: overlap of one and the same object.")
    ] = 0.3,
    tolerance: Annotated[
        float, typer.Option(min=0, help="Comparing: change of area that is none, a share.")
    ] = 0.1,
    json_: Annotated[
        str, typer.Option("--json", metavar="FILE", help="Write the summary there.")
    ] = "",
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without credentials.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables, no progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Logs, tracebacks.")] = False,
) -> None:
    """One row an object: area, perimeter, axes, shape, intensity, neighbours, units.

    docs/measuring.md explains every column. Pictures that cannot be read again give nulls and a
    note. Exit code 0: measured; 2: bad usage, or nothing in common.
    """
    with exit_codes(verbose=verbose):
        if bool(dataset) == bool(compare):
            raise ValueError("name either --dataset OUT or --compare A B")
        if dataset and not output:
            raise ValueError("name the file to write: --output FILE.parquet, FILE.csv or FILE.xlsx")
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        with _progress(quiet=quiet) as progress:
            if compare:
                result = compare_datasets(
                    *compare,
                    output=output or None,
                    min_iou=min_iou,
                    tolerance=tolerance,
                    storage=storage,
                    progress=progress,
                )
            else:
                result = measure(
                    dataset=dataset,
                    output=output,
                    pixel_size=pixel_size,
                    intensity=intensity,
                    neighbour_distance=neighbour_distance,
                    workers=workers,
                    save=save,
                    storage=storage,
                    progress=progress,
                )
        if json_:
            text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
            storage.write(absolute_uri(json_), text.encode())
        if quiet:
            return
        if compare:
            print_changes(result, Console())
        else:
            print_measurements(result, Console())
            say(absolute_uri(output))
            say(images_uri(absolute_uri(output)))


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("measuring", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    app(prog_name="python -m jobs.measure")
