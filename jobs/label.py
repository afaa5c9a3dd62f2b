"""Label a folder, tar or Parquet of images: `python -m jobs.label --input … --output …`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from jobs.console import exit_codes, guarded, say, seconds_of
from pipeline.engine.estimate import Estimate, estimate
from pipeline.engine.progress import shown_progress
from pipeline.engine.run import label
from pipeline.engine.summary import RunResult
from pipeline.history.prune import prune
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig, StorageConfig
from schemas.config.layers import layered
from schemas.manifest import DatasetManifest
from schemas.notes import in_part_line
from schemas.prompts import prompt_lines

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)

Text = str | None
_SHOWN = 5
_KINDS = 12


@app.command(
    epilog="Example: python -m jobs.label --input photos/ --output out/ --model unet-nuclei "
    "--task panoptic"
)
def main(
    input: Annotated[  # noqa: A002
        Text,
        typer.Option(
            help="Folder, tar or Parquet file(s), a list of images; local, s3://… or a pattern; "
            "- reads a list from stdin."
        ),
    ] = None,
    output: Annotated[Text, typer.Option(help="The dataset's folder.")] = None,
    model: Annotated[
        Text,
        typer.Option(help="Short name (python -m jobs.models), hub id, or checkpoint folder."),
    ] = None,
    revision: Annotated[
        Text, typer.Option(help="Commit, tag or branch of a hub id.", show_default="the pinned one")
    ] = None,
    categories: Annotated[
        Text,
        typer.Option(help="Category table: a name or a JSON file.", show_default="the model's own"),
    ] = None,
    allow_pickle: Annotated[
        bool | None,
        typer.Option("--allow-pickle", help="Load .bin and .pth weights (weights_only=True)."),
    ] = None,
    prompt: Annotated[
        list[str] | None,
        typer.Option(help="What to look for, in words; repeatable. One category each."),
    ] = None,
    ontology: Annotated[
        Text, typer.Option(help="TOML file of categories and their prompts.")
    ] = None,
    exemplar: Annotated[
        list[str] | None,
        typer.Option(help="IMAGE:x,y,w,h=CATEGORY, SegGPT: IMAGE:@MASK=CATEGORY: find the like."),
    ] = None,
    prompts: Annotated[
        Text,
        typer.Option(help="Points or boxes for SAM: CSV, JSON, COCO, YOLO or a dataset of ours."),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            help="semantic, instance or panoptic; repeatable or with commas.",
            show_default="the model's first",
        ),
    ] = None,
    tile_size: Annotated[
        int | None,
        typer.Option(help="Side of tiles for large pictures, pixels.", show_default="0, no tiles"),
    ] = None,
    tile_overlap: Annotated[
        int | None, typer.Option(help="Pixels that tiles share.", show_default="128")
    ] = None,
    tta: Annotated[
        bool, typer.Option("--tta", help="Look at the mirrored picture too (model.tta.flips).")
    ] = False,
    config: Annotated[Path | None, typer.Option(help="TOML file with any of the keys.")] = None,
    set_: Annotated[
        list[str] | None,
        typer.Option("--set", help="Any key, e.g. model.threshold=0.4; repeatable."),
    ] = None,
    input_format: Annotated[
        Text,
        typer.Option(help="auto, folder, webdataset, tar, parquet or list.", show_default="auto"),
    ] = None,
    column: Annotated[Text, typer.Option(help="Image column or field of the input.")] = None,
    any_suffix: Annotated[
        bool | None,
        typer.Option("--any-suffix", help="Files without a known suffix too, by their content."),
    ] = None,
    base64: Annotated[
        bool | None, typer.Option("--base64", help="Strings of a table are images in base64.")
    ] = None,
    limit: Annotated[int | None, typer.Option(help="First N images only.")] = None,
    sample: Annotated[
        int | None, typer.Option(help="N images by chance only, the same ones in every run.")
    ] = None,
    max_failures: Annotated[
        Text,
        typer.Option(
            help="Failed images with which a version is still published: a count, '5%', any, or "
            "auto: 5%, or 10 if that is more, at most half.",
            show_default="auto",
        ),
    ] = None,
    max_shrink: Annotated[
        Text,
        typer.Option(
            help="Images that the input may have lost since the last version: a count, '20%', or "
            "any.",
            show_default="any",
        ),
    ] = None,
    keep: Annotated[
        int | None, typer.Option(help="Versions that stay; older ones go.", show_default="all")
    ] = None,
    workers: Annotated[
        int | None, typer.Option(help="Worker processes.", show_default="as many as fit")
    ] = None,
    address: Annotated[
        Text, typer.Option(help="Ray cluster.", show_default="RAY_ADDRESS, else a local one")
    ] = None,
    endpoint_url: Annotated[Text, typer.Option(help="S3 endpoint.")] = None,
    anonymous: Annotated[bool | None, typer.Option(help="S3 without credentials.")] = None,
    inline: Annotated[
        bool | None, typer.Option(help="One process without Ray, for debugging.")
    ] = None,
    export: Annotated[bool, typer.Option(help="Write COCO and PNG exports.")] = True,
    report: Annotated[bool, typer.Option(help="Write the HTML report.")] = True,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Again where reading or a worker failed.")
    ] = False,
    reread: Annotated[
        bool,
        typer.Option("--reread", help="Read every picture again, also under an unchanged time."),
    ] = False,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Compare hashes of standing parts; write damaged ones anew."),
    ] = False,
    wait: Annotated[
        bool, typer.Option("--wait", help="Wait for another run that writes the dataset.")
    ] = False,
    older_than: Annotated[
        Text, typer.Option(help="--prune: younger files stay, e.g. 12h or 30d.", show_default="0s")
    ] = None,
    plan: Annotated[
        bool,
        typer.Option(
            "--plan", help="Say what would be done, by reason, how long and how much; do nothing."
        ),
    ] = False,
    price_per_hour: Annotated[
        float | None, typer.Option(help="--plan: of one worker, for the cost.")
    ] = None,
    json_: Annotated[
        bool, typer.Option("--json", help="One line of JSON instead of the text, as in run.json.")
    ] = False,
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="As --plan; with --prune alone: what would go.")
    ] = False,
    prune_: Annotated[
        bool,
        typer.Option("--prune", help="Remove parts that no version names; alone: nothing else."),
    ] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Logs, tracebacks.")] = False,
) -> None:
    """Label every image of the input and publish a dataset: Parquet, COCO, PNG, HTML report.

    Run again: only new and changed images are computed. Exit code 0: all accounted for; 1: more
    failures than allowed; 2: bad usage; 3: stopped, the same command goes on.
    """
    flags = {
        "input.uri": input,
        "input.format": input_format,
        "input.column": column,
        "input.any_suffix": any_suffix,
        "input.base64": base64,
        "input.limit": limit,
        "input.sample": sample,
        "output": output,
        "model.name": model,
        "model.revision": revision,
        "model.categories": categories,
        "model.allow_pickle": allow_pickle,
        "prompts.text": prompt or None,
        "prompts.ontology": ontology,
        "prompts.exemplars": exemplar or None,
        "prompts.file": prompts,
        "task": ",".join(task) if task else None,
        "tiling.size": tile_size,
        "tiling.overlap": tile_overlap,
        "model.tta.flips": ["horizontal"] if tta else None,
        "max_failures": max_failures,
        "max_shrink": max_shrink,
        "history.keep": keep,
        "execution.workers": workers,
        "execution.address": address,
        "execution.inline": inline,
        "execution.engine": "inline" if inline else None,  # over what a file says
        "storage.endpoint_url": endpoint_url,
        "storage.anonymous": anonymous,
    }
    with exit_codes(verbose=verbose):
        data = layered(config, set_ or (), flags)
        if prune_ and "input" not in data and "model" not in data:
            storage = StorageConfig.parse(data.get("storage", {}))
            _prune(_output(data), Storage(storage), older_than, dry_run=dry_run, wait=wait)
            return
        job = JobConfig.parse(_named(data))
        if plan or dry_run:
            with shown_progress(quiet=quiet) as progress:
                found = estimate(
                    job,
                    progress=progress,
                    retry_failed=retry_failed,
                    price_per_hour=price_per_hour,
                )
            say(json.dumps(found.to_json())) if json_ else _say_plan(found)
            return
        with shown_progress(quiet=quiet) as progress:
            result = label(
                job,
                progress=progress,
                export=export,
                report=report,
                retry_failed=retry_failed,
                reread=reread,
                verify=verify,
                wait=wait,
            )
        if json_:
            say(json.dumps(result.to_json()))
        else:
            _say(result)
        if prune_:
            _prune(result.dataset, Storage(job.storage), older_than, dry_run=dry_run, wait=wait)


def _named(data: dict) -> dict:  # type: ignore[type-arg]
    """The data, if the three things without a default are there.

    Raises:
        ValueError: Names the flags that are missing.
    """
    wanted = {
        "--input": _inside(data.get("input"), "uri"),
        "--output": data.get("output"),
        "--model": _inside(data.get("model"), "name"),
    }
    missing = [flag for flag, value in wanted.items() if not value]
    if missing:
        raise ValueError(f"missing {', '.join(missing)} (a flag, or a key of --config)")
    return data


def _inside(section: Any, key: str) -> Any:
    """A section's value; what is no section is left to `JobConfig.parse` to complain about."""
    return section.get(key) if isinstance(section, dict) else section


def _output(data: dict) -> str:  # type: ignore[type-arg]
    output = data.get("output")
    if not isinstance(output, str) or not output:
        raise ValueError("missing --output (the dataset to prune)")
    return output


def _prune(
    output: str, storage: Storage, older_than: str | None, *, dry_run: bool, wait: bool
) -> None:
    age = seconds_of(older_than or "0s", flag="--older-than")
    removed = prune(output, storage, older_than_s=age, dry_run=dry_run, wait=wait)
    if dry_run:
        for path in removed:
            say(path)
    say(f"{'would prune' if dry_run else 'pruned'} {len(removed)} files")


def _say_plan(found: Estimate) -> None:
    say(f"{found.images} images")
    for kind, count in found.counts.items():
        if count:
            say(f"  {count:>9} {kind.replace('_', ' ')}")
    if found.reasons:
        say(f"  computed anew because of: {', '.join(found.reasons)}")
    if found.hours is not None and found.images_per_second is not None:
        cost = f", costs {found.cost:.2f}" if found.cost is not None else ""
        say(
            f"  about {found.hours:.2f} hours on {found.workers} workers{cost} "
            f"(the last run: {found.images_per_second:.1f} images/s)"
        )
    if found.bytes is not None:
        say(f"  about {found.bytes:,} bytes of Parquet")


def _of_tasks(manifest: DatasetManifest) -> str:
    """ " (semantic 3, instance 12)" where there are several tasks."""
    if len(manifest.tasks) == 1:
        return ""
    each = (f"{task} {manifest.view(task).objects}" for task in manifest.tasks)
    return f" ({', '.join(each)})"


def _say(result: RunResult) -> None:
    counts = result.manifest.counts
    copies = counts.get("copies", 0)
    inputs = counts["images"] - copies
    if not result.new_version and not result.computed and not result.reused:
        written = [
            name
            for name, anew in (("exports", result.artifacts), ("report", result.report_written))
            if anew
        ]
        end = f"{' and '.join(written)} written anew" if written else "nothing computed"
        say(
            f"nothing changed: {inputs} images are up to date "
            f"(version {result.manifest.version}), {end}"
        )
    else:
        unchanged = inputs - result.computed - result.reused
        say(
            f"version {result.manifest.version}: {inputs} images "
            f"({result.computed} computed, {result.reused} reused, {unchanged} unchanged) "
            f"in {result.seconds:.1f} s"
        )
    if result.since is not None:
        say(f"  {result.since}")
    if copies:
        say(f"  and {copies} augmented copies, counted below")
    say(
        f"  ok {counts['ok']}, empty {counts['empty']}, failed {counts['failed']}, "
        f"skipped {counts['skipped']}; {result.manifest.objects} segments"
        f"{_of_tasks(result.manifest)}"
    )
    for code, count in result.manifest.error_counts.items():
        say(f"  failed: {count} × {code}")
    for line in prompt_lines(result.manifest.prompt_counts, result.absent):
        say(f"  {line}")
    if said := in_part_line(result.manifest.in_part):
        say(f"  {said}")
    _say_input(result)
    if told := str(result.time):
        say(f"  {told}")
    say(f"  {'dataset':<14} {result.dataset}")
    for artifact in result.artifacts:
        say(f"  {artifact.kind:<14} {result.exports}/{artifact.path}")
    if result.report:
        say(f"  {'report':<14} {result.report}")


def _shown(name: str) -> str:
    """A name without what would steer the terminal."""
    return "".join(c if c.isprintable() else ascii(c)[1:-1] for c in name)


def _say_input(result: RunResult) -> None:
    """Containers that failed and files that were left out, pictures first and louder."""
    manifest = result.manifest
    faulty = manifest.faulty_containers
    if faulty:
        shown = result.containers[:_SHOWN]
        say(f"  {faulty} of the input's tars, tables, lists and folders could not be read:")
        for one in shown:
            say(f"    {one.status}: {_shown(one.uri)}: {_shown(one.reason)}")
        if faulty > len(shown):
            say(f"    and {faulty - len(shown)} more (manifest.json: containers)")
    for item in manifest.left_out:
        if item["picture"]:
            say(f"  PICTURES LEFT OUT: {item['files']} × {item['suffix']}: {item['reason']}")
    others = [item for item in manifest.left_out if not item["picture"]]
    if others:
        kinds = ", ".join(
            f"{item['files']} × {item['suffix']}"
            + (f" ({item['reason']})" if item["reason"] != "not a picture" else "")
            for item in others[:_KINDS]
        )
        more = f" and {len(others) - _KINDS} more kinds" if len(others) > _KINDS else ""
        say(f"  not images, left out: {kinds}{more}")


if __name__ == "__main__":
    guarded(app)
