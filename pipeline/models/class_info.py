"""OneFormer's table of categories, in the form that its processor reads. No torch here."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from .info import ModelInfo
from .transformers_format import output_names


def class_info(info: ModelInfo) -> dict[str, dict[str, Any]]:
    """Number of an output, as text → its name and whether it is a thing (1 or 0).

    The processor of transformers asks the hub for this file, which is in a data set there; what
    `describe` found in the checkpoint's folder or in our own tables says the same.

    Args:
        info: Of a checkpoint in transformers' format.

    Raises:
        ValueError: The config has no usable `id2label`.
    """
    names = output_names(Path(info.folder) / "config.json", info.config)
    things = {item.id for item in info.categories if item.isthing}
    return {
        str(index): {"name": name, "isthing": int(id_ in things)}
        for index, (name, id_) in enumerate(zip(names, info.category_ids, strict=True))
    }
