"""Checks augmented copies: their parents, splits, pictures, and what is left of each segment."""

from __future__ import annotations

from functools import cached_property

import numpy as np
import pyarrow as pa

from pipeline.augment.copies import FOLDER
from pipeline.storage.storage import Storage
from pipeline.storage.uris import join
from schemas.records import Status

from .findings import Findings

_SPLITS = ("train", "val", "test")
_LOOKED_AT = (str(Status.OK), str(Status.EMPTY))


class CopyCheck:
    """Holds the copies of a dataset against their parents and their files.

    Args:
        storage: File access.
        dataset: Its URI.
    """

    def __init__(self, storage: Storage, dataset: str) -> None:
        self._storage = storage
        self._dataset = dataset

    def check(self, images: pa.Table, annotations: pa.Table, findings: Findings) -> None:
        """Checks one part."""
        if "split" not in images.column_names:
            return  # schema version 2 or 1
        columns = ("image_id", "file_name", "status", "size_bytes", "split", "parent_image_id")
        rows = images.select(list(columns)).to_pylist()
        by_id = {row["image_id"]: row for row in rows}
        for row in rows:
            split, looked_at = row["split"], row["status"] in _LOOKED_AT
            parent_id = row["parent_image_id"]
            if split not in (None, *_SPLITS) or (split and not looked_at and parent_id is None):
                findings.add("image-split", "image", [row["image_id"]])
            if parent_id is None:
                continue
            parent = by_id.get(parent_id)
            if (
                parent is None
                or parent["parent_image_id"] is not None
                or parent["status"] not in _LOOKED_AT
                or parent["split"] != split
            ):
                findings.add("copy-parent", "image", [row["image_id"]])
            if looked_at and self._sizes.get(row["file_name"]) != row["size_bytes"]:
                findings.add("copy-file", "image", [row["image_id"]])
        copies = [row["image_id"] for row in rows if row["parent_image_id"] is not None]
        of_copy = np.isin(annotations["image_id"].to_numpy(), copies)
        missing = annotations["visible_fraction"].is_null().to_numpy()
        share = annotations["visible_fraction"].fill_null(0).to_numpy()
        wrong = (missing == of_copy) | (share < 0) | (share > 1)
        ids = annotations["annotation_id"].to_numpy()
        findings.add("copy-visible", "annotation", ids[wrong].tolist())

    @cached_property
    def _sizes(self) -> dict[str, int]:
        """Bytes of every copy's file, by file_name; listed when the first copy is met."""
        folder = join(self._dataset, FOLDER)
        if not self._storage.exists(folder):
            return {}
        return {f"{FOLDER}/{entry.path}": entry.size for entry in self._storage.list(folder)}
