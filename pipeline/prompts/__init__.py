"""Files of prompts, one file a format, and what a job asks of a promptable model.

In: a URI, a job's sections. Out: `PromptTable`, `Request`. Open `request` first, then `table`.
"""

from __future__ import annotations

import importlib

from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join

from .table import PromptRow, PromptTable

FORMATS: dict[str, str] = {
    "csv": "pipeline.prompts.csv_file:read",
    "json": "pipeline.prompts.json_file:read",
    "coco": "pipeline.prompts.coco_file:read",
    "yolo": "pipeline.prompts.yolo_folder:read",
    "dataset": "pipeline.prompts.dataset_folder:read",
}
"""Format → "module:function"."""


def open_prompts(uri: str, storage: Storage, *, kind: str = "auto") -> PromptTable:
    """Reads a file or folder of prompts.

    Args:
        uri: CSV (also .tsv), JSON or JSON lines, COCO JSON, a YOLO folder or its data.yaml, or a
            dataset of ours.
        storage: File access.
        kind: A key of `FORMATS`, or "auto": by the name and the content.

    Raises:
        ValueError: Not a file of prompts; names the file and what is wrong.
        StorageError: It cannot be read.
    """
    uri = absolute_uri(uri)
    kind = _guess(uri, storage) if kind == "auto" else kind
    module, _, name = FORMATS[kind].partition(":")
    try:
        table: PromptTable = getattr(importlib.import_module(module), name)(uri, storage)
    except (TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(
            f"{uri} is no file of prompts: a value is of the wrong kind ({error})"
        ) from error
    if not len(table):
        raise ValueError(f"{uri} holds no prompt")
    return table


def _guess(uri: str, storage: Storage) -> str:
    lower = uri.lower()
    if lower.endswith((".csv", ".tsv")):
        return "csv"
    if lower.endswith((".yaml", ".yml")):
        return "yolo"
    if lower.endswith((".json", ".jsonl", ".ndjson")):
        head = storage.read(uri).lstrip()[:1]
        if head == b"{" and not lower.endswith(("l", ".ndjson")):
            return "coco"
        return "json"
    if storage.is_dir(uri):
        return "dataset" if storage.exists(join(uri, "manifest.json")) else "yolo"
    raise ValueError(
        f"{uri} is no file of prompts that can be told by its name; say which it is with "
        f"--set prompts.format={'|'.join(FORMATS)}"
    )


# Files of prompts: which points and boxes ask for a mask in which picture.
#
# One file a format behind `read(uri, storage) -> PromptTable`, found through a lazy table.

__all__ = ["FORMATS", "PromptRow", "PromptTable", "open_prompts"]
