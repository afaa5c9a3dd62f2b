"""Train a network: on datasets of categories of pixels, or the embedded U-Net on label maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Annotated, Any, cast, get_args

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

import pipeline
from jobs.console import exit_codes, say
from pipeline.training.data import LabelLocation
from pipeline.training.semantic import train_semantic
from schemas.config.layers import layered
from schemas.config.training import Architecture, SemanticTrainConfig, TrainConfig
from schemas.records import task_named
from schemas.suggest import nearest

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)

_DATASETS = "Of a dataset"
_EMBEDDED = "Of the embedded U-Net"


@app.command(
    epilog="Examples: python -m jobs.train --dataset out/streets --model segformer "
    "--output out/model --config jobs/configs/train-camvid.toml; "
    "python -m jobs.train --data nuclei --output out/unet --config jobs/configs/unet-nuclei.toml"
)
def main(
    output: Annotated[Path, typer.Option(help="Folder for weights, log and last.pt.")],
    dataset: Annotated[
        list[str] | None,
        typer.Option(
            help="A dataset of ours, a COCO instances or panoptic file, or a folder of PNG maps "
            "of categories. May be given several times.",
            rich_help_panel=_DATASETS,
        ),
    ] = None,
    images: Annotated[
        list[str] | None,
        typer.Option(
            help="Pictures of each --dataset, in the same order; a dataset of ours knows its own.",
            rich_help_panel=_DATASETS,
        ),
    ] = None,
    val: Annotated[
        str | None,
        typer.Option(
            help="Labels to validate on, of the same kinds. Without: as the dataset's splits say, "
            "else a share of its pictures.",
            rich_help_panel=_DATASETS,
        ),
    ] = None,
    val_images: Annotated[
        str, typer.Option(help="Pictures of --val.", rich_help_panel=_DATASETS)
    ] = "",
    model: Annotated[
        str | None,
        typer.Option(
            help="unet, fcn, deeplabv3 or segformer; with --init that of the checkpoint.",
            rich_help_panel=_DATASETS,
        ),
    ] = None,
    workers: Annotated[
        int | None,
        typer.Option(
            help="GPUs, or CPU processes, that learn together (Ray Train).",
            rich_help_panel=_DATASETS,
        ),
    ] = None,
    task: Annotated[
        str | None,
        typer.Option(
            help="Which labels of a dataset that has several tasks.", rich_help_panel=_DATASETS
        ),
    ] = None,
    locked_only: Annotated[
        bool,
        typer.Option(
            "--locked-only",
            help="Of each --dataset only pictures whose labels a person corrected (jobs.review).",
            rich_help_panel=_DATASETS,
        ),
    ] = False,
    licence: Annotated[
        str, typer.Option(help="Of the weights, for those who use them.", rich_help_panel=_DATASETS)
    ] = "unknown",
    allow_pickle: Annotated[
        bool,
        typer.Option(
            "--allow-pickle", help="Of --init: read pickled weights.", rich_help_panel=_DATASETS
        ),
    ] = False,
    data: Annotated[
        list[Path] | None,
        typer.Option(
            help="Folder with index.json, pictures and label maps; may be repeated.",
            rich_help_panel=_EMBEDDED,
        ),
    ] = None,
    negatives: Annotated[
        Path | None,
        typer.Option(help="Folder of pictures that show no nuclei.", rich_help_panel=_EMBEDDED),
    ] = None,
    config: Annotated[Path | None, typer.Option(help="TOML file; flags win over it.")] = None,
    init: Annotated[
        str, typer.Option(help="Checkpoint to start from (fine-tuning): a folder, or a model.")
    ] = "",
    epochs: Annotated[int | None, typer.Option(help="Overrides the configuration.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any key, as in --set learning_rate=0.001")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUTPUT/last.pt.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """Train a network: on --dataset, or the embedded U-Net on --data.

    OUTPUT becomes a checkpoint that jobs.label --model OUTPUT loads; labels get the ids, names and
    colours of the dataset's categories. Ctrl-C keeps the last epoch: the same command with
    --resume goes on.
    """
    with exit_codes(verbose=verbose), _resumable():
        logging.getLogger().setLevel(logging.DEBUG if verbose else logging.INFO)
        logging.getLogger("PIL").setLevel(logging.INFO)  # it speaks of every block of a PNG
        flags = {"epochs": epochs}
        own = {"--dataset": dataset, "--images": images, "--val": val, "--model": model}
        own |= {"--locked-only": locked_only}
        own |= {"--workers": workers, "--task": task, "--val-images": val_images}
        if bool(dataset) == bool(data):
            raise ValueError("name either --dataset or --data")
        if data:
            _refuse(own, "--dataset")
            values = TrainConfig.parse(layered(config, settings or (), flags))
            with _shown(values.epochs, _embedded_figures) as report:
                best = pipeline.train_nuclei(
                    data,
                    output,
                    values,
                    negatives=negatives,
                    init=init,
                    device=device,
                    resume=resume,
                    report=report,
                )
            figures = _embedded_figures(best)
        else:
            _refuse({"--negatives": negatives}, "--data")
            parsed = SemanticTrainConfig.parse(
                layered(config, settings or (), {**flags, "workers": workers})
            )
            places = [
                replace(place, locked_only=locked_only)
                for place in _places(dataset or [], images or [], task, parsed)
            ]
            with _shown(parsed.epochs, _semantic_figures) as report:
                best = train_semantic(
                    places,
                    output,
                    parsed,
                    val=_place(val, val_images, task, parsed) if val else None,
                    architecture=_architecture(model),
                    init=init,
                    licence=licence,
                    device=device,
                    resume=resume,
                    allow_pickle=allow_pickle,
                    report=report,
                )
            figures = _semantic_figures(best)
        say(f"best epoch {best['epoch']}: {figures}\nmodel: {output}")


@contextmanager
def _resumable() -> Iterator[None]:
    """Says how to go on after Ctrl-C; the exit code is `exit_codes`'s."""
    try:
        yield
    except KeyboardInterrupt:
        say("the last finished epoch is kept: add --resume", err=True)
        raise


def _refuse(flags: Mapping[str, Any], of: str) -> None:
    given = [flag for flag, value in flags.items() if value]
    if given:
        raise ValueError(f"{given[0]} belongs to {of}")


def _architecture(model: str | None) -> Architecture | None:
    known = get_args(Architecture)
    if model is not None and model not in known:
        raise ValueError(
            f"--model: {model!r} is not known{nearest(model, known)}; known: {', '.join(known)}; "
            "a checkpoint to start from is --init"
        )
    return cast("Architecture | None", model)


def _places(
    datasets: Sequence[str], images: Sequence[str], task: str | None, config: SemanticTrainConfig
) -> list[LabelLocation]:
    if images and len(images) != len(datasets):
        raise ValueError(f"--images: name one for each of the {len(datasets)} datasets")
    pictures = images or [""] * len(datasets)
    return [
        _place(labels, folder, task, config)
        for labels, folder in zip(datasets, pictures, strict=True)
    ]


def _place(
    labels: str, pictures: str, task: str | None, config: SemanticTrainConfig
) -> LabelLocation:
    return LabelLocation(
        labels,
        pictures,
        task=task_named(task) if task else None,
        void=config.void,
        pixel_offset=config.pixel_offset,
    )


@contextmanager
def _shown(
    epochs: int, figures: Callable[[Mapping[str, Any]], str]
) -> Iterator[Callable[[Mapping[str, Any]], None]]:
    """What to call with each epoch's line: a bar on a terminal, lines elsewhere."""
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    console = Console(stderr=True)
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        bar = progress.add_task("epochs", total=epochs)

        def report(line: Mapping[str, Any]) -> None:
            progress.update(bar, completed=line["epoch"], description=figures(line))
            if progress.disable:
                rate = line.get("images_per_second")
                end = f"  {rate} img/s" if rate else ""
                say(f"epoch {line['epoch']}/{epochs}  {figures(line)}{end}", err=True)

        yield report


def _embedded_figures(line: Mapping[str, Any]) -> str:
    parts = [f"loss {line['loss']:.4f}"] if "loss" in line else []
    if "accuracy" in line:
        parts += [f"{kind} {value:.3f}" for kind, value in line["accuracy"].items()]
        parts += [f"mean {line['mean_accuracy']['all']:.3f}"]
    return "  ".join(parts)


def _semantic_figures(line: Mapping[str, Any]) -> str:
    parts = [f"loss {line['loss']:.4f}"] if "loss" in line else []
    for key in ("mean_iou", "pixel_accuracy"):
        if key in line:
            parts.append(f"{key} {line[key]:.4f}")
    return "  ".join(parts)


if __name__ == "__main__":
    app()
