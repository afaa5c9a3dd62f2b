"""The versions of a dataset: `python -m jobs.versions --dataset …`."""

from __future__ import annotations

import json
import time
from typing import Annotated

import typer

from jobs.console import exit_codes, say, seconds_of
from pipeline.history.versions import Version, list_versions, retire, roll_back
from pipeline.storage.storage import Storage
from schemas.config.job import StorageConfig

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(
    epilog="Example: python -m jobs.versions --dataset out/ --keep 3 --older-than 30d && "
    "python -m jobs.label --output out/ --prune"
)
def main(
    dataset: Annotated[str, typer.Option(help="The dataset's folder.")],
    rollback: Annotated[
        int | None,
        typer.Option(min=1, help="Publish what this version held, as a new version."),
    ] = None,
    keep: Annotated[
        int | None,
        typer.Option(min=1, help="Forget versions but the last N; --prune then frees their parts."),
    ] = None,
    older_than: Annotated[
        str | None, typer.Option(help="--keep: younger versions stay, e.g. 30d.")
    ] = None,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="--keep: only say which.")] = False,
    wait: Annotated[bool, typer.Option("--wait", help="Wait for a run that writes it.")] = False,
    json_: Annotated[bool, typer.Option("--json", help="The list as JSON.")] = False,
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without credentials.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Logs, tracebacks.")] = False,
) -> None:
    """List the versions that are kept, go back to one, or let old ones go.

    Exit code 0: done; 2: bad usage; 3: another run writes the dataset.
    """
    with exit_codes(verbose=verbose):
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        if rollback is not None:
            manifest = roll_back(dataset, rollback, storage, wait=wait)
            say(f"version {manifest.version} holds what version {rollback} held")
            say("exports and report: python -m jobs.label or jobs.export, jobs.report")
            return
        if keep is not None:
            gone = retire(
                dataset,
                storage,
                keep=keep,
                older_than_s=seconds_of(older_than or "0s", flag="--older-than"),
                dry_run=dry_run,
                wait=wait,
            )
            verb = "would forget" if dry_run else "forgot"
            say(f"{verb} {len(gone)} versions: {', '.join(map(str, gone)) or 'none'}")
            return
        versions = list_versions(dataset, storage)
        if json_:
            say(json.dumps([_plain(one) for one in versions], indent=1))
            return
        for one in versions:
            row = _plain(one)
            mark = "*" if one.current else " "
            say(
                f"{mark} {row['version']:>6}  {row['published']}  {row['images']:>9} images  "
                f"{row['failed']:>6} failed  {row['annotations']:>10} segments  {row['model']}"
            )


def _plain(one: Version) -> dict[str, object]:
    counts = one.manifest.counts
    stamp = time.strftime("%Y-%m-%d %H:%M", time.localtime(one.written)) if one.written else ""
    return {
        "version": one.manifest.version,
        "current": one.current,
        "published": stamp,
        "images": counts["images"],
        "failed": counts["failed"],
        "annotations": counts["annotations"],
        "model": one.manifest.model.get("name", ""),
        "config_fingerprint": one.manifest.config_fingerprint,
    }


if __name__ == "__main__":
    app(prog_name="python -m jobs.versions")
