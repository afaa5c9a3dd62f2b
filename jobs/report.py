"""Write the HTML report of a dataset: `python -m jobs.report --dataset OUT`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.console import exit_codes, say
from pipeline.engine.progress import shown_progress
from pipeline.ledger.ledger import open_ledger
from pipeline.report import write_report
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.config.job import ReportConfig, StorageConfig
from schemas.records import task_named

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_TELL_EVERY = 200


@app.command(epilog="Example: python -m jobs.report --dataset out/ --max-images 500")
def main(
    dataset: Annotated[str, typer.Option(help="the dataset, a folder or s3:// URI")],
    output: Annotated[
        str, typer.Option(help="folder for the report", show_default="DATASET/report")
    ] = "",
    max_images: Annotated[
        int, typer.Option(min=0, help="pictures shown; counts cover all images")
    ] = ReportConfig().max_images,
    task: Annotated[
        str | None,
        typer.Option(
            help="of a dataset of several tasks: semantic, instance or panoptic",
            show_default="panoptic, else instance",
        ),
    ] = None,
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint, if not Amazon's")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without a key")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log and tracebacks")] = False,
) -> None:
    """Writes index.html: pictures with their masks, counts, histograms, failures, provenance."""
    with exit_codes(verbose=verbose):
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        ledger = open_ledger(dataset, storage)
        with shown_progress(quiet=quiet) as progress:
            progress.phase("counting")

            def tell(done: int, total: int) -> None:
                if done % _TELL_EVERY == 0 or done == total:
                    progress.phase(f"drawing pictures: {done:,} of {total:,}")

            page = write_report(
                ledger,
                output or join(ledger.uri, "report"),
                task=task_named(task) if task else None,
                max_images=max_images,
                progress=tell,
            )
        say(page)


if __name__ == "__main__":
    app()
