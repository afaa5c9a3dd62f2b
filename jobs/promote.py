"""Publish what a gate held back: `python -m jobs.promote --dataset …`."""

from __future__ import annotations

import json
from typing import Annotated

import typer

from jobs.console import exit_codes, say
from pipeline.history.versions import promote
from pipeline.storage.storage import Storage
from schemas.config.job import StorageConfig

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(epilog="Example: python -m jobs.promote --dataset out/")
def main(
    dataset: Annotated[str, typer.Option(help="The dataset's folder.")],
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a run that writes it.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="One line of JSON.")] = False,
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without credentials.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Logs, tracebacks.")] = False,
) -> None:
    """Publish the version that a limit of \\[gate] held back, after a person looked at it.

    All of its parts must still be there. Exit code 0: published; 2: nothing is held back, or parts
    are gone; 3: another run writes the dataset.
    """
    with exit_codes(verbose=verbose):
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        manifest = promote(dataset, storage, wait=wait)
        if json_:
            say(json.dumps({"version": manifest.version, "counts": dict(manifest.counts)}))
            return
        say(
            f"version {manifest.version} is published: {manifest.counts['images']} images, "
            f"{manifest.objects} segments"
        )
        say("exports and report: python -m jobs.label or jobs.export, jobs.report")


if __name__ == "__main__":
    app(prog_name="python -m jobs.promote")
