"""Compare a dataset or COCO files with ground truth: `python -m jobs.evaluate --dataset …`."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Annotated

import typer
from rich.console import Console
from rich.progress import Progress

from jobs.console import exit_codes
from jobs.tables import print_evaluation
from pipeline.evaluation.evaluate import evaluate
from pipeline.evaluation.metrics.coco_ap import AP_BACKENDS
from pipeline.evaluation.metrics.views import unknown_named
from pipeline.evaluation.sources.categories import read_category_map
from pipeline.evaluation.sources.source import iou_type_named
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.config.job import StorageConfig
from schemas.records import task_named

app = typer.Typer(add_completion=False, rich_markup_mode="rich", pretty_exceptions_enable=False)


@app.command(
    epilog="Example: python -m jobs.evaluate --dataset out/ --ground-truth labels/ "
    "--json figures.json"
)
def main(
    ground_truth: Annotated[
        str,
        typer.Option(
            help="COCO instances or panoptic JSON, folder of label maps (0 = background, 1…n) or "
            "of semantic PNG, or a dataset of ours."
        ),
    ],
    dataset: Annotated[str | None, typer.Option(help="Dataset of ours to judge.")] = None,
    predictions: Annotated[
        str | None,
        typer.Option(
            help="Judge this instead: COCO results, instances or panoptic JSON, folder of maps."
        ),
    ] = None,
    ground_truth_kind: Annotated[
        str,
        typer.Option(
            help="dataset, coco-instances, coco-panoptic, labels, semantic, or auto: find it."
        ),
    ] = "auto",
    predictions_kind: Annotated[str, typer.Option(help="Likewise of the predictions.")] = "auto",
    task: Annotated[
        str | None,
        typer.Option(
            help="Of a dataset of several tasks: semantic, instance or panoptic.",
            show_default="what suits the ground truth",
        ),
    ] = None,
    metrics: Annotated[
        list[str] | None,
        typer.Option(
            help="matching, ap, boundary, pq, miou; repeatable or with commas.",
            show_default="all that fit, without boundary",
        ),
    ] = None,
    ap_backend: Annotated[
        str, typer.Option(help=f"Who computes COCO's AP, same digits: {', '.join(AP_BACKENDS)}.")
    ] = AP_BACKENDS[0],
    iou_type: Annotated[
        str,
        typer.Option(help="segm: masks; bbox: boxes, for ground truth of boxes alone (AP only)."),
    ] = "segm",
    pair_by: Annotated[
        str | None,
        typer.Option(
            help="What makes images of both sides the same: path (without the extension), name, "
            "stem or id.",
            show_default="the first that pairs them",
        ),
    ] = None,
    min_paired: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of the images, and of the categories, of the smaller side that must be on "
            "the other, too.",
        ),
    ] = 0.5,
    skip_invalid: Annotated[
        bool,
        typer.Option(
            "--skip-invalid", help="Leave out and count entries of JSON that cannot be used."
        ),
    ] = False,
    locked_only: Annotated[
        bool,
        typer.Option(
            "--locked-only", help="Of a dataset as ground truth, only what a person corrected."
        ),
    ] = False,
    category_map: Annotated[
        str | None,
        typer.Option(
            metavar="FILE",
            help="JSON object: name in the predictions → name in the ground truth; numbers for "
            "folders of maps. PASCAL VOC's and COCO's names are known to agree.",
        ),
    ] = None,
    unknown_categories: Annotated[
        str | None,
        typer.Option(
            help="True categories that the predictions do not have: missed, background or void.",
            show_default="missed; background where objects are painted",
        ),
    ] = None,
    void: Annotated[
        str | None,
        typer.Option(
            help="Unlabelled values of semantic PNG, e.g. 255 or none.",
            show_default="as categories.json there says; without it 0,255; with an offset 255",
        ),
    ] = None,
    pixel_offset: Annotated[
        int, typer.Option(help="Category id − pixel value in semantic PNG (COCO-Stuff: 1).")
    ] = 0,
    ignore_categories: Annotated[
        bool, typer.Option("--ignore-categories", help="All things are one category.")
    ] = False,
    group_by_folder: Annotated[
        bool, typer.Option("--group-by-folder", help="Also figures for each first folder.")
    ] = False,
    workers: Annotated[
        int, typer.Option(min=0, help="Processes; 0 = one a processor. Never changes a digit.")
    ] = 0,
    json_: Annotated[
        str | None, typer.Option("--json", metavar="FILE", help="Write all figures there.")
    ] = None,
    save: Annotated[
        bool, typer.Option("--save", help="Write them into the dataset, for its report.")
    ] = False,
    endpoint_url: Annotated[str, typer.Option(help="S3 endpoint.")] = "",
    anonymous: Annotated[bool, typer.Option("--anonymous", help="S3 without credentials.")] = False,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No tables, no progress.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Logs, tracebacks.")] = False,
) -> None:
    """Measure predictions against ground truth: matching accuracy, COCO AP, PQ, mean IoU.

    What is measured follows from the tasks of both sides; --metrics asks for more, such as mean
    IoU of objects, which are then painted over one another. Images without a prediction count as
    missed, images without ground truth are left out. Exit code 0: measured; 2: bad usage, a file
    that cannot mean what it says, or too little in common.
    """
    with exit_codes(verbose=verbose):
        storage = Storage(StorageConfig(endpoint_url=endpoint_url, anonymous=anonymous))
        with _progress(quiet=quiet) as progress:
            result = evaluate(
                ground_truth=ground_truth,
                dataset=dataset,
                predictions=predictions,
                ground_truth_kind=ground_truth_kind,
                predictions_kind=predictions_kind,
                task=task_named(task) if task else None,
                metrics=[name for item in metrics or () for name in item.split(",") if name],
                ap_backend=ap_backend,
                category_map=read_category_map(category_map, storage) if category_map else None,
                unknown_categories=unknown_named(unknown_categories),
                void=_values(void),
                pixel_offset=pixel_offset,
                ignore_categories=ignore_categories,
                group_by_folder=group_by_folder,
                pair_by=pair_by or "",
                min_paired=min_paired,
                iou_type=iou_type_named(iou_type),
                skip_invalid=skip_invalid,
                locked_only=locked_only,
                workers=workers,
                save=save,
                storage=storage,
                progress=progress,
            )
        if json_:
            text = json.dumps(result, indent=1, ensure_ascii=False) + "\n"
            storage.write(absolute_uri(json_), text.encode("utf-8", "backslashreplace"))
        if not quiet:
            print_evaluation(result, Console())


def _values(void: str | None) -> list[int] | None:
    """Numbers between commas; "none" and "" = no value is void.

    Raises:
        ValueError: Something else.
    """
    if void is None:
        return None
    try:
        return [int(value) for value in void.split(",")] if void not in ("", "none") else []
    except ValueError:
        raise ValueError(f"--void wants numbers like 0,255, or none; got {void!r}") from None


@contextmanager
def _progress(*, quiet: bool) -> Iterator[Callable[[int, int], None] | None]:
    if quiet or not sys.stderr.isatty():
        yield None
        return
    with Progress(console=Console(stderr=True), transient=True) as bar:
        task = bar.add_task("comparing", total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total)


if __name__ == "__main__":
    app(prog_name="python -m jobs.evaluate")
