"""Train the embedded U-Net on pictures with label maps."""

from __future__ import annotations

import logging
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from pipeline.train import TrainConfig, train

app = typer.Typer(add_completion=False, rich_markup_mode=None)


@app.command()
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

    Example: python -m jobs.train --data nuclei --output out/unet --config
    jobs/configs/unet-nuclei.toml
    """
    logging.basicConfig(level=logging.INFO, format="%(asctime)s %(message)s")
    try:
        best = _run(data, output, config, negatives, init, epochs, settings or [], device, resume)
    except (ValueError, OSError) as error:
        if verbose:
            raise
        print(f"error: {error}", file=sys.stderr)
        raise typer.Exit(2) from None
    except KeyboardInterrupt:
        print(f"interrupted; go on with --resume --output {output}", file=sys.stderr)
        raise typer.Exit(3) from None
    print(f"best epoch {best['epoch']}: {_figures(best)}\nmodel: {output}")


def _run(
    data: Path,
    output: Path,
    config: Path | None,
    negatives: Path | None,
    init: Path | None,
    epochs: int | None,
    settings: list[str],
    device: str,
    resume: bool,
) -> Mapping[str, Any]:
    values: dict[str, Any] = tomllib.loads(config.read_text("utf-8")) if config else {}
    for setting in settings:
        key, separator, value = setting.partition("=")
        if not separator:
            raise ValueError(f"--set wants key=value, got {setting!r}")
        values[key.strip()] = _parse(value.strip())
    if epochs is not None:
        values["epochs"] = epochs
    parsed = TrainConfig.parse(values)
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, disable=not sys.stderr.isatty()) as progress:
        bar = progress.add_task("epochs", total=parsed.epochs)

        def report(line: Mapping[str, Any]) -> None:
            progress.update(bar, completed=line["epoch"], description=_figures(line))
            if progress.disable:
                rate = line["images_per_second"]
                logging.info(
                    "epoch %d/%d  %s  %s img/s", line["epoch"], parsed.epochs, _figures(line), rate
                )

        return train(
            data,
            output,
            parsed,
            negatives=negatives,
            init=init,
            device=device,
            resume=resume,
            report=report,
        )


def _parse(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def _figures(line: Mapping[str, Any]) -> str:
    parts = [f"loss {line['loss']:.4f}"] if "loss" in line else []
    if "accuracy" in line:
        parts += [f"{kind} {value:.3f}" for kind, value in line["accuracy"].items()]
        parts += [f"mean {line['mean_accuracy']['all']:.3f}"]
    return "  ".join(parts)


if __name__ == "__main__":
    app()
