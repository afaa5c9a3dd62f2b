"""Show the models that `--model` knows by name: `python -m jobs.models [NAME]`."""

from __future__ import annotations

import json
from itertools import groupby
from typing import Annotated, Any

import typer

from jobs.book import write_book
from jobs.console import exit_codes, say
from pipeline.models.checkpoints.catalog import CatalogEntry
from pipeline.models.checkpoints.info import (
    ModelInfo,
    bundled,
    describe,
    how_to_ask,
    how_to_get,
    is_present,
    known_models,
    parameters,
    table_of,
)
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri
from schemas.categories import Categories

app = typer.Typer(add_completion=False, rich_markup_mode=None, pretty_exceptions_enable=False)


@app.command(epilog="Example: python -m jobs.models oneformer-swin-l-coco")
def main(
    name: Annotated[
        str | None,
        typer.Argument(help="One model: a short name, a folder, or a hub id, which is fetched."),
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Plain data.")] = False,
    book: Annotated[
        str,
        typer.Option(
            metavar="FILE.html",
            help="Write a page with a picture of what each family finds, licences, sizes, speeds.",
        ),
    ] = "",
    verbose: Annotated[bool, typer.Option("--verbose", "-v", help="Tracebacks.")] = False,
) -> None:
    """List the models that --model knows by name, or show one: what it finds and how to get it."""
    with exit_codes(verbose=verbose):
        if name is not None:
            row, categories = _one(name)
            if as_json:
                say(json.dumps({**row, "categories": categories.to_json()}, indent=1))
            else:
                _show(row, categories)
            return
        rows = [_bundled(model) for model in bundled()]
        rows += [_catalogued(entry) for entry in known_models()]
        if book:
            Storage().write(absolute_uri(book), write_book(rows).encode())
            say(f"written: {book}")
            return
        if as_json:
            say(json.dumps(rows, indent=1))
            return
        _list(rows)


def _one(name: str) -> tuple[dict[str, Any], Categories]:
    for entry in known_models():
        if name in (entry.name, entry.repo):
            command, place = how_to_get(entry)
            more = {"fetch": command, "place": place}
            if entry.gated:
                more["access"] = how_to_ask(entry)
            return {**_catalogued(entry), **more}, table_of(entry)
    model = describe(name)
    row = {**_bundled(model), "folder": model.folder, "category_ids": list(model.category_ids)}
    return row, model.categories


def _bundled(model: ModelInfo) -> dict[str, Any]:
    return {
        "name": model.name,
        "family": model.family,
        "tasks": list(model.tasks),
        "repo": model.repo,
        "revision": model.revision,
        "licence": model.licence,
        "gated": False,
        "parameters": parameters(model),
        "input": "",
        "table": model.table,
        "weights_sha256": model.weights_sha256,
        "present": True,
    }


def _catalogued(entry: CatalogEntry) -> dict[str, Any]:
    return {
        "name": entry.name,
        "family": entry.family,
        "tasks": list(entry.tasks),
        "repo": entry.repo or entry.weights or entry.origin,
        "revision": entry.revision or entry.file,
        "pinned": entry.pinned,
        "licence": entry.licence,
        "gated": entry.gated,
        "parameters": round(entry.parameters * 1e6),
        "input": entry.input,
        "table": entry.categories,
        "pickle": bool(entry.file),
        "checked": entry.checked,
        "present": is_present(entry),
    }


def _list(rows: list[dict[str, Any]]) -> None:
    """One line a model, under a line for what neighbours share."""
    for shared, group in groupby(rows, key=_shared):
        say(shared)
        for row in group:
            million = row["parameters"] / 1e6
            origin = f"{row['repo']} @{row['revision'][-10:]}" if row["repo"] else "bundled"
            here = "here" if row["present"] else ""
            say(f"  {row['name']:<38} {million:>6.1f} M  {here:<5} {origin}")
    say(
        "\nhere: on this machine; M: million parameters; @: end of the pinned revision or branch.\n"
        "--model also takes a hub id or a folder. python -m jobs.models NAME shows one: what it "
        "finds,\nits whole revision, how to get it."
    )


def _shared(row: dict[str, Any]) -> str:
    facts = [row["family"], ", ".join(row["tasks"]), row["table"] or _unnamed(row)]
    facts += [row["input"], f"licence {row['licence']}", "gated" if row["gated"] else ""]
    return " · ".join(fact for fact in facts if fact)


def _unnamed(row: dict[str, Any]) -> str:
    return "own categories" if "weights_sha256" in row else "what it is asked for"


def _show(row: dict[str, Any], categories: Categories) -> None:
    for key, value in row.items():
        text = ", ".join(str(item) for item in value) if isinstance(value, list) else value
        say(f"{key:<15} {text}")
    say(f"{'categories':<15} {len(categories)}")
    for item in categories:
        kind = "background" if item.is_background else "thing" if item.isthing else "stuff"
        say(f"  {item.id:>5}  {kind:<10}  {item.color}  {item.name}")


if __name__ == "__main__":
    app()
