"""Write a dataset in one more format: `python -m jobs.export --dataset OUT --format NAME …`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.console import exit_codes, say
from pipeline.engine.progress import shown_progress
from pipeline.exporters import EXPORTERS, export
from pipeline.ledger.ledger import open_ledger
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.config.export import ExportConfig
from schemas.config.job import StorageConfig
from schemas.config.layers import layered
from schemas.records import task_named

_KEYS = [key for key in ExportConfig.model_fields if key != "formats"]

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(
    epilog="Example: python -m jobs.export --dataset out/ --format coco-instances --output coco/"
)
def main(
    dataset: Annotated[str, typer.Option(help="the dataset, a folder or s3:// URI")],
    format_: Annotated[str, typer.Option("--format", help=", ".join(EXPORTERS))],
    output: Annotated[str, typer.Option(help="folder or s3:// URI to write into")],
    sets: Annotated[
        list[str] | None,
        typer.Option(
            "--set",
            metavar="KEY=VALUE",
            help=f"a key of \\[export]: {', '.join(_KEYS)}; repeatable",
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="of a dataset of several tasks: semantic, instance or panoptic",
            show_default="what suits the format best",
        ),
    ] = None,
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint, if not Amazon's")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without a key")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log and tracebacks")] = False,
) -> None:
    """Writes a dataset in one format into a folder; needs no model and no GPU.

    A format of many files wants a folder of its own: new, empty, or from an earlier export.
    Those that carry the pictures read them again from where they were labelled. docs/formats.md
    says which format suits which program.
    """
    with exit_codes(verbose=verbose):
        config = ExportConfig.parse(layered(None, sets or (), {}))
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        ledger = open_ledger(dataset, storage)
        if task:
            ledger = ledger.view(task_named(task))
        with shown_progress(quiet=quiet) as progress:
            progress.phase(f"exporting {ledger.manifest.counts['images']:,} images")
            artifacts = export(ledger, format_, output, config=config)
        for item in artifacts:
            say(f"{join(absolute_uri(output), item.path.removeprefix('./'))}: {item.count}")


if __name__ == "__main__":
    app(prog_name="python -m jobs.export")
