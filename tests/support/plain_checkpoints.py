"""Checkpoint folders written without torch, and a cache as the hub's own library lays it out."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.numpy import save_file

HEADS = {
    "segformer": "SegformerForSemanticSegmentation",
    "oneformer": "OneFormerForUniversalSegmentation",
    "mask2former": "Mask2FormerForUniversalSegmentation",
    "maskformer": "MaskFormerForInstanceSegmentation",
    "eomt": "EomtForUniversalSegmentation",
}
COMMIT = "0123456789abcdef0123456789abcdef01234567"


def plain_checkpoint(
    folder: Path,
    names: list[str],
    *,
    kind: str = "segformer",
    weights: str = "model.safetensors",
    settings: dict[str, Any] | None = None,
    **config: Any,
) -> Path:
    """A folder in transformers' format; what it holds describes, but is no network's.

    Args:
        folder: Made where it is missing.
        names: Of the outputs.
        kind: `model_type`.
        weights: Name of the file of weights, "" for none.
        settings: Further ones of the image processor.
        config: Further keys of config.json.
    """
    folder.mkdir(parents=True, exist_ok=True)
    whole = {
        "model_type": kind,
        "architectures": [HEADS.get(kind, kind)],
        "id2label": {str(index): name for index, name in enumerate(names)},
        **config,
    }
    (folder / "config.json").write_text(json.dumps(whole))
    processor = {"image_processor_type": "SegformerImageProcessor", **(settings or {})}
    (folder / "preprocessor_config.json").write_text(json.dumps(processor))
    if kind == "oneformer":
        (folder / "vocab.json").write_text("{}")
        (folder / "merges.txt").write_text("")
    if weights:
        save_file({"w": np.arange(6, dtype=np.float32).reshape(2, 3)}, folder / weights)
    return folder


def hub_cache(
    cache: Path, repo: str, checkpoint: Path, *, commit: str = COMMIT, branch: str = "main"
) -> Path:
    """Puts a checkpoint into a cache: blobs, a snapshot of links to them, and the branch's commit.

    Returns:
        The snapshot's folder.
    """
    root = cache / f"models--{repo.replace('/', '--')}"
    snapshot = root / "snapshots" / commit
    for made in (root / "blobs", snapshot, (root / "refs" / branch).parent):
        made.mkdir(parents=True, exist_ok=True)
    (root / "refs" / branch).write_text(commit)
    for path in checkpoint.iterdir():
        blob = root / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        blob.write_bytes(path.read_bytes())
        (snapshot / path.name).symlink_to(Path("../../blobs") / blob.name)
    return snapshot
