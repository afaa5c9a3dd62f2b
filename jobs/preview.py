"""Show what preprocessing does: `python -m jobs.preview --config FILE --image X --output PNG`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.console import exit_codes, say
from pipeline.images.preview import preview
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.job import ImagesConfig, JobConfig, StorageConfig
from schemas.config.layers import layered
from schemas.config.preprocess import PreprocessConfig
from schemas.config.section import Section
from schemas.suggest import nearest

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


class _Sections(Section):
    """The sections of a job that decide what a model sees."""

    images: ImagesConfig = ImagesConfig()
    preprocess: PreprocessConfig = PreprocessConfig()


@app.command(
    epilog="Example: python -m jobs.preview --config job.toml --image photo.jpg --output steps.png"
)
def main(
    image: Annotated[str, typer.Option(help="A picture; local or s3://.")],
    output: Annotated[str, typer.Option(metavar="FILE.png", help="The sheet to write.")],
    config: Annotated[
        Path | None, typer.Option(help="The job's TOML file, with a \\[preprocess] section.")
    ] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", metavar="KEY=VALUE", help="Any config field; repeatable."),
    ] = None,
    side: Annotated[
        int, typer.Option(min=32, max=4096, help="Longer side of a panel, pixels.")
    ] = 480,
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without credentials.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No lines.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Logs, tracebacks.")] = False,
) -> None:
    """One row a step of \\[preprocess]: the picture before, after, and where it changed.

    Nothing is labelled; the sections \\[preprocess] and \\[images] alone are read.
    """
    with exit_codes(verbose=verbose):
        sections = _sections(layered(config, set_ or (), {}))
        lines = preview(
            sections.preprocess,
            image,
            output,
            images=sections.images,
            side=side,
            storage=Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous)),
        )
        if not quiet:
            say("\n".join([*lines, absolute_uri(output)]))


def _sections(data: dict[str, Any]) -> _Sections:
    """What a job's file says about preprocessing.

    Raises:
        ValueError: A section that no job has, or something wrong in these two.
    """
    for key in data:
        if key not in JobConfig.model_fields:
            known = list(JobConfig.model_fields)
            raise ValueError(
                f"unknown key {key!r}{nearest(key, known)}; allowed: {', '.join(known)}"
            )
    return _Sections.parse({key: data[key] for key in _Sections.model_fields if key in data})


if __name__ == "__main__":
    app(prog_name="python -m jobs.preview")
