"""Writes docs/reference/ from the programs themselves: `python -m docs.generate` from the root.

cli.md comes from the jobs' own options, config.md from the fields of a job, python.md from
signatures and docstrings, the exit codes from the README, a chart from the table of
docs/performance.md. `make docs` runs it before the site is
built; a test compares what it would write with what is there.
"""

from __future__ import annotations

import importlib
import importlib.util
import inspect
import re
import typing
from collections.abc import Callable, Iterator
from pathlib import Path

import typer

import maskmill
from docs.chart import CHART, drawn
from maskmill.command import COMMANDS
from maskmill.model import Answer
from schemas.config.export import ExportConfig
from schemas.config.job import JobConfig
from schemas.config.keys import Key, keys_of
from schemas.config.training import SemanticTrainConfig, TrainConfig

ROOT = Path(__file__).resolve().parents[1]
REFERENCE = ROOT / "docs" / "reference"

NOTE = "<!-- Written by `python -m docs.generate`; change the source instead. -->\n"

KINDS = {str: "text", int: "integer", float: "number", Path: "path", bool: ""}
"""Type of a job's parameter → how it is said; a flag needs no word."""


def main() -> None:
    """Writes every page."""
    REFERENCE.mkdir(exist_ok=True)
    for name, text in pages().items():
        (REFERENCE / name).write_text(text, encoding="utf-8")
    CHART.write_text(drawn(), encoding="utf-8")


def pages() -> dict[str, str]:
    """File name → its text."""
    return {"cli.md": cli(), "config.md": config(), "python.md": python()}


def cli() -> str:
    """Every command with its options, and the exit codes."""
    parts = [
        f"{NOTE}\n# Commands\n",
        "`maskmill COMMAND` and `python -m jobs.COMMAND` are the same program.\n"
        "`--config` and `--set` take any of the [keys](config.md).\n",
        "| command | |\n|---|---|",
    ]
    found = {name: about for name, (module, about) in COMMANDS.items() if _is_there(module)}
    parts += [f"| [`{name}`](#{name}) | {cell(about)} |" for name, about in found.items()]
    parts += ["\n## Exit codes\n", exit_codes()]
    parts += [_command(name) for name in found]
    return "\n".join(parts)


def exit_codes() -> str:
    """The section of the README, its links seen from docs/reference/."""
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    section = text.partition("\n## Exit codes\n")[2].partition("\n## ")[0].strip()
    return section.replace("](docs/", "](../") + "\n"


def config() -> str:
    """Every key of a job, of training and of one export."""
    return "\n".join(
        [
            f"{NOTE}\n# Keys\n",
            "Every key can stand in a TOML file (`--config job.toml`, sections in brackets) or be "
            "set by\n`--set section.key=value`, which wins. `maskmill config` prints the keys of a "
            "job, `--toml` as a file to\nstart from, `--json-schema` for editors.\n",
            "## A job\n\nOf `maskmill label`, `maskmill preview` and `maskmill.label`.\n",
            *_sections(keys_of(JobConfig)),
            "## Export\n\nOf `maskmill export --set`, without a section; in a job they stand under "
            "`[export]`.\n",
            _table([key for key in keys_of(ExportConfig) if key.name != "formats"]),
            "## Training\n\nOf `maskmill train --dataset`.\n",
            _table(keys_of(SemanticTrainConfig)),
            "## Training of the embedded U-Net\n\nOf `maskmill train --data`.\n",
            _table(keys_of(TrainConfig)),
        ]
    )


def python() -> str:
    """Every public name of the package `maskmill`."""
    parts = [f"{NOTE}\n# Python\n", _prose(maskmill.__doc__ or "")]
    names = {name: getattr(maskmill, name) for name in dir(maskmill) if name != "__version__"}
    for name, item in {**names, "model.Answer": Answer}.items():
        parts.append(f"## maskmill.{name}\n")
        if inspect.isclass(item):
            parts.append(_prose(inspect.getdoc(item) or ""))
            parts += [_member(item.__name__, *member) for member in _members(item)]
        else:
            parts += [_signature(f"maskmill.{name}", item), _prose(inspect.getdoc(item) or "")]
    return "\n".join(parts).rstrip() + "\n"


def cell(text: str) -> str:
    """Text for a cell of a table."""
    return plain(" ".join(text.split())).replace("|", "\\|").replace("<", "&lt;")


def plain(text: str) -> str:
    """Help without the escapes that keep rich from reading [section] as a tag of its own."""
    return text.replace("\\[", "[")


def _is_there(module: str) -> bool:
    return importlib.util.find_spec(module) is not None


def _command(name: str) -> str:
    command = typer.main.get_command(importlib.import_module(COMMANDS[name][0]).app)
    callback = typing.cast(Callable[..., object], command.callback)
    hints = typing.get_type_hints(callback)
    rows = []
    for param in command.params:
        option = param.opts[0].startswith("-")
        names = [*param.opts, *param.secondary_opts] if option else [param.name or ""]
        shown = " ".join(f"`{word}`" for word in names)
        about = cell(getattr(param, "help", None) or "")
        words = getattr(param, "show_default", None)  # where the value says less than words do
        note = words if isinstance(words, str) else _default(param.default)
        note = "required" if param.required else cell(note)
        rows.append(f"| {shown} | {_kind(hints.get(param.name or '', str))} | {note} | {about} |")
    text = plain(inspect.cleandoc(command.help or ""))
    example = (command.epilog or "").partition(": ")[2]
    return "\n".join(
        [
            f"## {name}\n",
            f"{text}\n",
            "| option | type | default | meaning |\n|---|---|---|---|",
            *rows,
            f"\nExample: `{example}`\n" if example else "",
        ]
    )


def _kind(hint: object) -> str:
    inner = [item for item in typing.get_args(hint) if item is not type(None)]
    origin = typing.get_origin(hint)
    if origin is list:
        return f"{_kind(inner[0])}, repeatable"
    if origin is tuple:
        return " ".join(_kind(item) for item in inner)
    if inner:
        return _kind(inner[0])
    return KINDS.get(typing.cast(type, hint), "text")


def _default(value: object) -> str:
    # Numbers and words alone: an unset list, a flag that is off and "" are no news.
    return f"`{value}`" if value not in (None, "", False, [], ()) and value is not True else ""


def _sections(keys: list[Key]) -> Iterator[str]:
    sections: dict[str, list[Key]] = {}
    for key in keys:
        sections.setdefault(key.name.partition(".")[0] if "." in key.name else "", []).append(key)
    for section, own in sorted(sections.items(), key=lambda item: item[0] != ""):
        yield f"### {section}\n" if section else "### Outside of sections\n"
        yield _table(own)


def _table(keys: list[Key]) -> str:
    rows = [
        f"| `{key.name}` | {cell(key.kind)} | {_code(key.default)} | {cell(key.meaning)} |"
        for key in keys
    ]
    return "\n".join(["| key | type | default | meaning |\n|---|---|---|---|", *rows, ""])


def _code(default: str) -> str:
    return default if default in ("required", "unset") else f"`{cell(default)}`"


def _members(item: type) -> Iterator[tuple[str, object]]:
    for name, value in vars(item).items():
        if (not name.startswith("_") or name == "__call__") and inspect.getdoc(value):
            yield name, value


def _member(owner: str, name: str, value: object) -> str:
    doc = _prose(inspect.getdoc(value) or "")
    if inspect.isfunction(value):
        call = owner.lower() if name == "__call__" else f"{owner.lower()}.{name}"
        return f"### {owner}.{name}\n\n{_signature(call, value)}\n{doc}"
    return f"### {owner}.{name}\n\n{doc}"


def _signature(name: str, value: Callable[..., object]) -> str:
    signature = inspect.signature(value)
    own = [item for item in signature.parameters.values() if item.name != "self"]
    shown: list[str] = []
    for item in own:
        if item.kind is item.KEYWORD_ONLY and "*" not in shown:
            shown.append("*")
        star = "**" if item.kind is item.VAR_KEYWORD else ""
        default = "" if item.default is item.empty else f" = {item.default!r}"
        shown.append(f"{star}{item.name}: {item.annotation}{default}")
    returned = f" -> {signature.return_annotation}"
    text = f"{name}({', '.join(shown)}){returned}"
    if len(text) > 90:
        text = f"{name}(\n" + "".join(f"    {item},\n" for item in shown) + f"){returned}"
    return f"```text\n{text}\n```\n"


def _prose(doc: str) -> str:
    """A Google docstring as Markdown: its sections are lists, its indented code stays code."""
    lines, inside = [], False
    for line in inspect.cleandoc(doc).splitlines():
        if re.fullmatch(r"(Args|Returns|Raises|Attributes|Yields):", line):
            lines += [f"**{line[:-1]}**", ""]
            inside = True
        elif inside and (entry := re.fullmatch(r"    (\w+(?:, \w+)*): (.*)", line)):
            lines.append(f"- `{entry[1]}`: {entry[2]}")
        elif inside and line.startswith("    "):
            lines.append(
                f"  {line.strip()}" if lines[-1].startswith(("- ", "  ")) else line.strip()
            )
        else:
            lines.append(line)
            inside = inside and not line.strip()
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    main()
