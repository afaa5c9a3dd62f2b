"""python -m jobs.config: every key of a job, with type, default, range and meaning."""

from __future__ import annotations

import json
from typing import Annotated, Any

import typer

from jobs.console import exit_codes
from schemas.config.job import JobConfig
from schemas.config.keys import Key, keys_of, toml_template
from schemas.suggest import nearest

app = typer.Typer(add_completion=False)


@app.command(
    epilog="Example: python -m jobs.config model.   python -m jobs.config --toml > job.toml"
)
def main(
    prefix: Annotated[
        str, typer.Argument(help="Only keys that begin so.", show_default="all")
    ] = "",
    toml: Annotated[bool, typer.Option("--toml", help="A TOML file to start from.")] = False,
    schema: Annotated[
        bool, typer.Option("--json-schema", help="JSON schema, for editors.")
    ] = False,
    as_json: Annotated[bool, typer.Option("--json", help="Plain data.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """Print every key that --config and --set take: type, allowed values, default, meaning."""
    with exit_codes(verbose=verbose):
        if toml + schema + as_json > 1:
            raise ValueError("--toml, --json-schema and --json: give one of them")
        if schema:
            typer.echo(json.dumps(JobConfig.model_json_schema(), indent=1))
            return
        keys = keys_of(JobConfig)
        found = [key for key in keys if key.name.startswith(prefix)]
        if not found:
            raise ValueError(
                f"no key begins with {prefix!r}{nearest(prefix, [k.name for k in keys])}"
            )
        if toml:
            typer.echo(toml_template(found), nl=False)
        elif as_json:
            typer.echo(json.dumps([key.to_json() for key in found], indent=1))
        else:
            _show(found)


def _show(keys: list[Key]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False, show_edge=False)
    for title in ("key", "type", "default", "meaning"):
        table.add_column(title, overflow="fold")
    for key in keys:
        cells: list[Any] = [key.name, key.kind, key.default, key.meaning]
        table.add_row(*(Text(str(cell)) for cell in cells))
    Console(width=None if Console().is_terminal else 160).print(table)


if __name__ == "__main__":
    app()
