"""List the models that `--model` knows by name: `python -m jobs.models`."""

from __future__ import annotations

import json
from typing import Annotated

import typer
from rich.console import Console
from rich.table import Table

from pipeline.models.info import ModelInfo, bundled

from .console import exit_codes

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog="Example: python -m jobs.models --json")
def main(
    as_json: Annotated[bool, typer.Option("--json", help="One JSON list.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """List the models that --model knows by name. A checkpoint folder can be given as well."""
    with exit_codes(verbose=verbose):
        models = bundled()
        if as_json:
            typer.echo(json.dumps([_plain(model) for model in models], indent=1))
            return
        table = Table("model", "family", "tasks", "categories", "licence", "revision")
        for model in models:
            names = ", ".join(item.name for item in model.categories)
            tasks = ", ".join(model.tasks)
            table.add_row(model.name, model.family, tasks, names, model.licence, model.revision)
        Console().print(table)


def _plain(model: ModelInfo) -> dict[str, object]:
    return {
        "name": model.name,
        "family": model.family,
        "tasks": list(model.tasks),
        "categories": model.categories.to_json(),
        "licence": model.licence,
        "revision": model.revision,
        "weights_sha256": model.weights_sha256,
    }


if __name__ == "__main__":
    app()
