"""What a reader finds who knows nothing of us: current parts alone, and a data card."""

from __future__ import annotations

import json
from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor

from pipeline.storage.optional import files_in, read_if_there
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join, leads_elsewhere
from schemas.manifest import DatasetManifest, Part

from .parts import TABLES, archived_uri, part_uri
from .removed import FOLDER as REMOVED
from .removed import removed_path

CARD = "README.md"

_REMOVED = """Some rows are out of date: `removed/` says which. In DuckDB

```sql
SELECT * FROM read_parquet('annotations/*.parquet', filename = true) AS a
ANTI JOIN 'removed/*.parquet' AS r
ON parse_filename(a.filename, true) = r.part AND a.image_id = r.image_id
```

leaves them out, for `images/` likewise.

"""
_TABLE_HEAD = "| id | name | kind | segments |\n|---:|---|---|---:|\n"


def show_current(storage: Storage, dataset: str, manifest: DatasetManifest) -> int:
    """Leaves in images/ and annotations/ the manifest's parts alone, and writes README.md.

    Parts of other versions, and what killed runs left, go to versions/images/ and
    versions/annotations/, where readers of a manifest find them too. Safe to repeat after a kill.

    Args:
        storage: File access.
        dataset: Its URI; the caller is the only one that writes there.
        manifest: The current one.

    Returns:
        Files moved away.

    Raises:
        StorageError: A file cannot be moved.
    """
    bring_back(storage, dataset, manifest.parts)
    _show_removed(storage, dataset, manifest)
    stale = [
        (table, name) for table in TABLES for name in stale_parts(storage, dataset, manifest, table)
    ]
    _move(
        storage,
        [(part_uri(dataset, *item), archived_uri(dataset, *item)) for item in stale],
    )
    uri, text = join(dataset, CARD), card(manifest).encode()
    if read_if_there(storage, uri) != text:
        storage.write(uri, text)
    return len(stale)


def _show_removed(storage: Storage, dataset: str, manifest: DatasetManifest) -> None:
    """Leaves in removed/ the manifest's table alone, if it has one."""
    path = removed_path(manifest)
    there = [f"{REMOVED}/{name}.parquet" for name in _names(storage, dataset, REMOVED)]
    moves = [(join(dataset, one), join(dataset, "versions", one)) for one in there if one != path]
    if path and path not in there:
        moves.append((join(dataset, "versions", path), join(dataset, path)))
    _move(storage, moves)


def stale_parts(storage: Storage, dataset: str, manifest: DatasetManifest, table: str) -> list[str]:
    """Names of parts that lie in images/ or annotations/ and that the manifest does not name."""
    current = {part.name for part in manifest.parts}
    return [name for name in _names(storage, dataset, table) if name not in current]


def bring_back(storage: Storage, dataset: str, parts: Iterable[Part]) -> None:
    """Moves parts that an earlier version used, and the next one will again, out of versions/."""
    wanted = {part.name for part in parts}
    moves = []
    for table in TABLES if wanted else ():
        there = wanted.intersection(_names(storage, dataset, f"versions/{table}"))
        if there:
            there -= set(_names(storage, dataset, table))
        moves += [
            (archived_uri(dataset, table, name), part_uri(dataset, table, name))
            for name in sorted(there)
        ]
    _move(storage, moves)


def _names(storage: Storage, dataset: str, folder: str) -> list[str]:
    """Of the Parquet files in a folder that is no link to another place."""
    if leads_elsewhere(dataset, folder):
        return []
    paths = [entry.path for entry in files_in(storage, join(dataset, folder), recursive=False)]
    return [path.removesuffix(".parquet") for path in paths if path.endswith(".parquet")]


def _move(storage: Storage, pairs: list[tuple[str, str]]) -> None:
    with ThreadPoolExecutor(16) as pool:
        list(pool.map(lambda pair: storage.move(*pair), pairs))


def card(manifest: DatasetManifest) -> str:
    """The text of README.md: a data card whose head tells Hugging Face's `datasets` what to load.

    It names the current parts, so `load_dataset(folder)` gives the annotations (the images where
    none has a segment) and `load_dataset(folder, "images")` the images, never pictures of exports/
    or report/. It holds no clock and no path of the machine.
    """
    model = manifest.model
    counts = manifest.counts
    facts = [
        ("version", manifest.version),
        ("tasks", ", ".join(manifest.tasks)),
        ("model", " ".join(filter(None, (model.get("name"), str(model.get("revision", ""))[:12])))),
        ("licence of the weights", model.get("licence") or "not known"),
        ("images", f"{counts['images']:,}"),
        *((f"… {key}", f"{counts[key]:,}") for key in ("ok", "empty", "failed", "skipped")),
        ("segments", f"{manifest.objects:,}"),
    ]
    lines = [f"| {key} | {markdown_cell(str(value))} |\n" for key, value in facts]
    rows = [
        f"| {item.id} | {markdown_cell(item.name)} | "
        f"{'background' if item.is_background else 'thing' if item.isthing else 'stuff'} | "
        f"{manifest.category_counts.get(str(item.id), 0):,} |\n"
        for item in manifest.category_table()
    ]
    return (
        f"---\n{_head(manifest)}---\n\n# Segmentation labels\n\n"
        "Made by maskmill. `manifest.json` says what the current version consists of; its parts, "
        "and no others, lie in `images/` and `annotations/`, one row an image and one a segment. "
        "Masks are COCO run-length strings in the pixels of the upright picture.\n\n"
        f"{_REMOVED if manifest.removed else ''}"
        "The labels are a model's: look at the report before relying on them. The pictures are not "
        "part of this dataset and keep their own licence.\n\n"
        f"| | |\n|---|---|\n{''.join(lines)}\n## Categories\n\n{_TABLE_HEAD}{''.join(rows)}"
    )


def _head(manifest: DatasetManifest) -> str:
    """The card's YAML; JSON's strings are YAML's too."""
    if not manifest.parts:
        return "task_categories:\n- image-segmentation\n"
    text = "task_categories:\n- image-segmentation\nconfigs:\n"
    # `datasets` fails on a file without rows, as one of empty pictures alone is.
    tables = {
        "annotations": [part.name for part in manifest.parts if part.annotations],
        "images": [part.name for part in manifest.parts],
    }
    default = "annotations" if tables["annotations"] else "images"
    for table, names in tables.items():
        if not names:
            continue
        text += f"- config_name: {table}\n"
        text += "  default: true\n" if table == default else ""
        text += "  data_files:\n  - split: train\n    path:\n"
        text += "".join(f"    - {json.dumps(f'{table}/{name}.parquet')}\n" for name in names)
    return text


def markdown_cell(text: str) -> str:
    """Text inside a Markdown table: one line, no markup."""
    for sign in ("\\", "|", "<", "`", "*", "_", "["):
        text = text.replace(sign, f"\\{sign}")
    return " ".join(text.split())
