"""Train the embedded U-Net on pictures with label maps."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.train import train
from schemas.overrides import layered
from schemas.train_config import TrainConfig

from .console import exit_codes

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(
    epilog="Example: python -m jobs.train --data nuclei --output out/unet "
    "--config jobs/configs/unet-nuclei.toml"
)
def main(
    data: Annotated[Path, typer.Option(help="Folder with index.json, pictures and label maps.")],
    output: Annotated[Path, typer.Option(help="Folder for weights, log and last.pt.")],
    config: Annotated[Path | None, typer.Option(help="TOML file; flags win over it.")] = None,
    negatives: Annotated[
        Path | None, typer.Option(help="Folder of pictures that show no nuclei.")
    ] = None,
    init: Annotated[
        Path | None, typer.Option(help="Checkpoint folder to start from (fine-tuning).")
    ] = None,
    epochs: Annotated[int | None, typer.Option(help="Overrides the configuration.")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", help="Any key, as in --set learning_rate=0.001")
    ] = None,
    device: Annotated[str, typer.Option(help="auto, cpu, cuda, cuda:N")] = "auto",
    resume: Annotated[bool, typer.Option("--resume", help="Go on from OUTPUT/last.pt.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """Train the embedded U-Net on pictures with label maps.

    OUTPUT becomes a checkpoint that --model OUTPUT loads. Ctrl-C keeps the last epoch: the same
    command with --resume goes on.
    """
    with exit_codes(verbose=verbose):
        logging.getLogger().setLevel(logging.INFO)
        values = layered(config, settings or (), {"epochs": epochs})
        parsed = TrainConfig.parse(values)
        with _shown(parsed.epochs) as report:
            best = train(
                data,
                output,
                parsed,
                negatives=negatives,
                init=init,
                device=device,
                resume=resume,
                report=report,
            )
        typer.echo(f"best epoch {best['epoch']}: {_figures(best)}\nmodel: {output}")


@contextmanager
def _shown(epochs: int) -> Iterator[Callable[[Mapping[str, Any]], None]]:
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
            progress.update(bar, completed=line["epoch"], description=_figures(line))
            if progress.disable:
                rate = line["images_per_second"]
                typer.echo(
                    f"epoch {line['epoch']}/{epochs}  {_figures(line)}  {rate} img/s", err=True
                )

        yield report


def _figures(line: Mapping[str, Any]) -> str:
    parts = [f"loss {line['loss']:.4f}"] if "loss" in line else []
    if "accuracy" in line:
        parts += [f"{kind} {value:.3f}" for kind, value in line["accuracy"].items()]
        parts += [f"mean {line['mean_accuracy']['all']:.3f}"]
    return "  ".join(parts)


if __name__ == "__main__":
    app()
