"""Where the labels came from: model, versions, config, and the command that makes them again."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

from schemas.config.job import JobConfig
from schemas.manifest import DatasetManifest

from .escape import isolated, text

_IN_FLAGS = {"input.uri", "model.name", "task"}
_TABLES = {"refine.categories"}
_BARE_KEY = re.compile(r"[A-Za-z0-9_-]+")


def provenance_section(manifest: DatasetManifest) -> str:
    """Tables of model, packages and config; the config as TOML and the command to copy."""
    model = {
        "Name": manifest.model.get("name"),
        "Family": manifest.model.get("family"),
        "Revision": manifest.model.get("revision"),
        "Weights SHA-256": manifest.model.get("weights_sha256"),
        "Licence of the weights": manifest.model.get("licence"),
        "Task": ", ".join(manifest.tasks),
        "Run": manifest.config_fingerprint,
        "Dataset version": manifest.version,
        "Schema version": manifest.schema_version,
    }
    usual = _defaults()
    rows: dict[bool, list[str]] = {True: [], False: []}
    for key, value in flatten(manifest.config):
        chosen = usual.get(key, ...) != value
        rows[chosen].append(
            f'<tr class="{"set" if chosen else "usual"}">'
            f'<th scope="row"><code>{text(key)}</code></th><td>{_shown(value)}</td></tr>'
        )
    own, rest = (
        f'<div class="table-box"><table><tbody>{"".join(rows[chosen])}</tbody></table></div>'
        for chosen in (True, False)
    )
    command = reproduce(manifest)
    toml = to_toml(manifest.config)
    return f"""<section id="provenance" aria-labelledby="provenance-title">
  <div class="section-head"><h2 id="provenance-title">Provenance</h2>
  <p class="muted">what made these labels, and how to make them again</p></div>
  {_copyable("Command", command) if command else ""}
  <div class="columns">
    <div><h3>Model</h3>{_facts(model)}</div>
    <div><h3>Packages</h3>{_facts(manifest.packages)}</div>
    <div class="config"><h3>Config that differs from the defaults</h3>{own}
    <details><summary>and {len(rows[False])} keys as they are by default</summary>{rest}</details>
    </div>
  </div>
  {_copyable("Config as a job file", toml, closed=True) if toml else ""}
</section>"""


def reproduce(manifest: DatasetManifest) -> str:
    """The shell command whose labels are these, "" where the dataset does not say.

    Settings that have their usual value are left out.
    """
    settings = dict(flatten(manifest.config))
    if not settings.get("input.uri") or not settings.get("model.name"):
        return ""
    words = ["python", "-m", "jobs.label", "--input", str(settings["input.uri"])]
    words += ["--output", "OUT", "--model", str(settings["model.name"])]
    words += [word for task in manifest.tasks for word in ("--task", task)]
    usual = _defaults()
    for key, value in settings.items():
        if key not in _IN_FLAGS and key in usual and value is not None and value != usual[key]:
            words += ["--set", f"{key}={value if isinstance(value, str) else _toml_value(value)}"]
    return shlex.join(words)


def flatten(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted keys and their values; a table whose keys are names is one value."""
    for key, value in config.items():
        if isinstance(value, Mapping) and prefix + key not in _TABLES:
            yield from flatten(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value


def to_toml(config: Mapping[str, Any]) -> str:
    """The config as a TOML job file; values that are None are left out, as TOML has none."""
    return "\n".join(_toml_lines(config, ())).strip()


def _toml_lines(table: Mapping[str, Any], path: tuple[str, ...]) -> Iterator[str]:
    """A table's values, then its tables: a line under a header belongs to that header."""
    if path:
        yield from ("", f"[{'.'.join(path)}]")
    for key, value in table.items():
        if value is not None and not isinstance(value, Mapping):
            yield f"{_toml_key(key)} = {_toml_value(value)}"
    for key, value in table.items():
        if isinstance(value, Mapping):
            yield from _toml_lines(value, (*path, _toml_key(key)))


def _toml_key(key: str) -> str:
    return key if _BARE_KEY.fullmatch(key) else _toml_value(key)


def _toml_value(value: Any) -> str:
    if isinstance(value, Mapping):
        pairs = ((key, inner) for key, inner in value.items() if inner is not None)
        return f"{{{', '.join(f'{_toml_key(k)} = {_toml_value(v)}' for k, v in pairs)}}}"
    # JSON's strings, numbers, booleans and lists are TOML's; only DEL must be escaped besides.
    return json.dumps(value, ensure_ascii=False).replace("\x7f", "\\u007f")


def _defaults() -> dict[str, Any]:
    empty = JobConfig.parse({"input": {"uri": "x"}, "output": "x", "model": {"name": "x"}})
    return dict(flatten(empty.published())) | {"input.uri": ..., "model.name": ...}


def _facts(facts: Mapping[str, Any]) -> str:
    rows = "".join(
        f"<div><dt>{isolated(key)}</dt><dd>{isolated(value)}</dd></div>"
        for key, value in facts.items()
        if value not in (None, "")
    )
    return f'<dl class="facts">{rows}</dl>' if rows else '<p class="muted">not recorded</p>'


def _shown(value: Any) -> str:
    if value is None or value in ("", [], {}):
        return '<span class="muted">–</span>'
    if isinstance(value, list):
        return isolated(", ".join(map(str, value)))
    return isolated(value if isinstance(value, str) else json.dumps(value))


def _copyable(title: str, body: str, *, closed: bool = False) -> str:
    button = '<button type="button" class="ghost copy">Copy</button>'
    block = f"<pre tabindex=0><code>{text(body)}</code></pre>"
    if closed:
        head = f'<details class="group-box copyable"><summary>{title}</summary>'
        return f"{head}{block}{button}</details>"
    return f'<div class="copyable"><h3>{title}</h3>{block}{button}</div>'
