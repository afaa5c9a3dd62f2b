"""Check a dataset against the rules of its readers: `python -m jobs.validate --dataset OUT`."""

from __future__ import annotations

from typing import Annotated

import typer

from jobs.console import FAILED, exit_codes, say
from pipeline.engine.progress import shown_progress
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from pipeline.validation.findings import ValidationReport
from pipeline.validation.validate import validate
from schemas.config.job import StorageConfig

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_TELL_EVERY = 100


@app.command(epilog="Example: python -m jobs.validate --dataset out/ --json report.json")
def main(
    dataset: Annotated[str, typer.Option(help="the dataset, a folder or s3:// URI")],
    exports: Annotated[bool, typer.Option(help="also read back what is in exports/")] = True,
    workers: Annotated[int, typer.Option(min=0, help="processes; 0 = one a processor")] = 0,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="write the findings there")
    ] = None,
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint, if not Amazon's")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without a key")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="no progress")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="log and tracebacks")] = False,
) -> None:
    """Reads every row, mask and export of a dataset and lists what breaks a rule.

    Exit code 0: all is well; 1: something is not, with the offending ids; 2: there is no dataset.
    """
    with exit_codes(verbose=verbose):
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        with shown_progress(quiet=quiet) as progress:

            def tell(done: int, total: int) -> None:
                if done % _TELL_EVERY == 0 or done == total:
                    progress.phase(f"validating: {done:,} of {total:,} parts")

            report = validate(dataset, storage, exports=exports, workers=workers, progress=tell)
        if json_:
            storage.write(absolute_uri(json_), report.to_json().encode())
        _show(report, exports=exports)
        if not report.ok:
            raise typer.Exit(FAILED)


def _show(report: ValidationReport, *, exports: bool) -> None:
    for item in report.violations:
        say(f"{item.rule}: {item.count} ({item.meaning})")
        for example in item.examples:
            say(f"  {example!r}" if "\n" in example else f"  {example}")
        if item.count > len(item.examples):
            say(f"  … and {item.count - len(item.examples)} more")
    if report.stale:
        say(
            f"warning: {report.stale} files in images/ and annotations/ belong to no part of this "
            "version, and whoever reads *.parquet there counts them too: the next jobs.label moves "
            "them to versions/, jobs.label --prune removes those that no version names"
        )
    names = ", ".join(report.exports) or ("none checked" if exports else "not asked for")
    verdict = "valid" if report.ok else f"{len(report.violations)} rules broken"
    say(
        f"{report.uri} version {report.version}: {report.images} images, "
        f"{report.annotations} annotations, exports: {names}: {verdict}"
    )


if __name__ == "__main__":
    app(prog_name="python -m jobs.validate")
