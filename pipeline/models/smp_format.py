"""Reads a folder that segmentation-models-pytorch's `save_pretrained` wrote. No torch here."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from .category_map import map_chosen, map_outputs
from .described import Described
from .smp_config import read_smp

KEY = "_model_class"
"""What its config.json has and no other's."""


def read_smp_folder(folder: Path, config: Mapping[str, Any], *, categories: str = "") -> Described:
    """What the folder's files say, weights apart.

    The library keeps no names: without a table the categories are "category 1", "category 2", …

    Args:
        folder: The checkpoint.
        config: Its config.json.
        categories: A table that the user chose, "" = that of `maskmill.json`, if there.

    Raises:
        ValueError: A file or the table is bad.
    """
    own = read_smp(folder, config)
    names = [f"category {index + 1}" for index in range(own.classes)]
    if own.adds_background:
        names.append("background")
    chosen = categories or own.settings.get("categories")
    outputs = (
        map_chosen(names, chosen) if chosen else map_outputs(names, isthing=[False] * len(names))
    )
    return Described("smp", ("semantic",), outputs, str(own.settings.get("licence", "")))
