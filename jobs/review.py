"""Choose labels for a person to correct, take corrections back: `python -m jobs.review OUT …`."""

from __future__ import annotations

import getpass
import hashlib
from datetime import UTC, datetime
from typing import Annotated

import typer

from jobs.console import FAILED, exit_codes
from pipeline.exporters import export, export_all
from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.ledger.locks import LockConflict, find_conflicts, read_locks
from pipeline.review.locking import ImportResult, import_corrections
from pipeline.review.read import read_corrections
from pipeline.review.selection import (
    FILE,
    candidates,
    choose_candidates,
    open_others,
    read_given,
    write_selection,
)
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.config.job import StorageConfig
from schemas.suggest import nearest

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

_FORMATS = {"coco": "coco-instances"}
_TOOLS = ("label-studio", "cvat", "coco")
_SHOWN = 20


@app.command(
    epilog="Example: python -m jobs.review out/ --format label-studio --worst 5% --output review/ "
    "… and then: python -m jobs.review out/ --import corrected.json"
)
def main(
    dataset: Annotated[str, typer.Argument(help="The dataset, a folder or s3:// URI.")],
    import_: Annotated[
        str,
        typer.Option(
            "--import",
            metavar="FILE",
            help="Corrections: a JSON export of Label Studio, CVAT for images 1.1 (XML or zip), or "
            "COCO instances. Their pictures are locked as the file has them.",
        ),
    ] = "",
    conflicts: Annotated[
        bool, typer.Option("--conflicts", help="List corrections that do not hold any more.")
    ] = False,
    format_: Annotated[
        str, typer.Option("--format", help=f"Write for this tool: {', '.join(_TOOLS)}.")
    ] = "label-studio",
    worst: Annotated[
        str, typer.Option(help="Pictures of least trust: a share like 5%, or a number.")
    ] = "5%",
    random: Annotated[
        str, typer.Option(help="Further ones by chance, which tell what trust does not see.")
    ] = "1%",
    second: Annotated[
        list[str] | None,
        typer.Option(
            help="Another dataset of the same pictures, by another model or another view; what it "
            "sees otherwise is trusted less. Repeatable."
        ),
    ] = None,
    seed: Annotated[int, typer.Option(help="Of the chance.")] = 0,
    output: Annotated[str, typer.Option(metavar="DIR", help="Where the selection goes.")] = "",
    by: Annotated[
        str, typer.Option(help="Who corrected, where the file does not say.", show_default="you")
    ] = "",
    at: Annotated[
        str, typer.Option(help="When, where the file does not say, ISO 8601.", show_default="now")
    ] = "",
    selection: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="selection.json of what was given out: pictures that changed since are conflicts.",
        ),
    ] = "",
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without credentials.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="Conflicts only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Logs, tracebacks.")] = False,
) -> None:
    """Give the labels worth a person's time to an annotation tool, and take them back for good.

    What comes back is locked: no later run changes it until the picture's bytes change. Exit code
    0: done; 1: some corrections could not be taken or do not hold, and are listed; 2: bad usage.
    """
    with exit_codes(verbose=verbose):
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        ledger = open_ledger(dataset, storage)
        if import_:
            given = read_given(absolute_uri(selection), storage) if selection else {}
            data = storage.read(absolute_uri(import_))
            name = absolute_uri(import_).rpartition("/")[2]
            result = import_corrections(
                ledger,
                read_corrections(import_, storage),
                by=by or getpass.getuser(),
                at=at or datetime.now(UTC).isoformat(timespec="seconds"),
                source=f"{name}@{hashlib.sha256(data).hexdigest()[:12]}",
                given=given,
            )
            _renew_exports(result.ledger, storage)
            _tell(result, quiet=quiet)
            _list(result.conflicts)
        elif conflicts:
            _list(find_conflicts(read_locks(storage, ledger.uri), ledger))
        else:
            if not output:
                raise ValueError("name what to do: --output DIR, --import FILE or --conflicts")
            if format_ not in _TOOLS:
                raise ValueError(
                    f"unknown format {format_!r}{nearest(format_, _TOOLS)}; "
                    f"known: {', '.join(_TOOLS)}"
                )
            found = list(candidates(ledger, open_others(second or (), storage)))
            chosen = choose_candidates(found, worst=worst, random=random, seed=seed)
            out = absolute_uri(output)
            small = write_selection(ledger, chosen, out, storage)
            export(small, _FORMATS.get(format_, format_), join(out, format_))
            if not quiet:
                kinds = [why for _, why in chosen]
                typer.echo(
                    f"{kinds.count('worst')} pictures of least trust and {kinds.count('random')} "
                    f"by chance, of {len(found)}: {out}"
                )
                typer.echo(f"what was given out stands in {join(out, FILE)}")


def _renew_exports(ledger: Ledger, storage: Storage) -> None:
    """Brings the exports that lie with the dataset up to its version."""
    if storage.exists(join(ledger.uri, "exports")):
        wanted = ledger.manifest.config.get("export", {}).get("formats", ())
        export_all(ledger, formats=wanted)


def _tell(result: ImportResult, *, quiet: bool) -> None:
    if quiet:
        return
    typer.echo(
        f"{len(result.locked)} pictures locked, {len(result.replaced)} locked anew, "
        f"{len(result.unchanged)} known; version {result.ledger.manifest.version} of "
        f"{result.ledger.uri}"
    )
    for name in result.replaced[:_SHOWN]:
        typer.echo(f"replaced an earlier correction of {name}")
    if result.waiting:
        typer.echo(
            f"{len(result.waiting)} of them have augmented copies and follow with the next run of "
            "jobs.label"
        )


def _list(conflicts: tuple[LockConflict, ...] | list[LockConflict]) -> None:
    for item in conflicts:
        typer.echo(f"not taken: {item.file_name}: {item.reason}", err=True)
    if conflicts:
        raise typer.Exit(FAILED)


if __name__ == "__main__":
    app(prog_name="python -m jobs.review")
