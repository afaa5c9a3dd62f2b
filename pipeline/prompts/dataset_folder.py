"""The boxes of a dataset of ours as prompts; categories and annotation ids are kept."""

from __future__ import annotations

from pipeline.ledger.ledger import open_ledger
from pipeline.ledger.views import is_copy
from pipeline.storage.storage import Storage

from .size import Size, file_size
from .table import PromptRow, PromptTable, digest_of


def read(uri: str, storage: Storage) -> PromptTable:
    """Reads the current version.

    Raises:
        ValueError: No dataset of ours.
        StorageError: It cannot be read.
    """
    ledger = open_ledger(uri, storage)
    names: dict[str, int | None] = {}
    sizes: dict[str, Size] = {}
    rows: list[PromptRow] = []
    background = {item.id for item in ledger.categories if item.is_background}
    for image, segments in ledger.rows():
        if is_copy(image):
            continue  # no picture of the input
        names[image["file_name"]] = image["image_id"]
        if size := file_size(image["height"], image["width"]):
            sizes[image["file_name"]] = size
        for row in segments:
            if row["category_id"] in background:
                continue
            x, y, w, h = row["bbox_xywh"]
            crowd = bool(row["iscrowd"])
            rows.append(
                PromptRow(
                    image["file_name"],
                    row["category_id"],
                    bbox_xyxy=None if crowd else (x, y, x + w, y + h),
                    source_id=row["annotation_id"],
                    segmentation=row["rle"] if crowd else None,
                )
            )
    manifest = ledger.manifest
    said = [part.annotations_sha256 for part in manifest.parts]
    said += [str(manifest.removed["table"])] if manifest.removed else []
    digest = digest_of(*(text.encode() for text in said))
    return PromptTable(
        rows,
        categories=ledger.categories,
        uri=uri,
        digest=digest,
        names=names,
        sizes=sizes,
        upright=True,
    )
