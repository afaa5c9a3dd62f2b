"""Checks the exports that lie with a dataset."""

from __future__ import annotations

import contextlib
import io
import logging
from typing import Any

import orjson
from pycocotools import mask as _mask
from pycocotools.coco import COCO

from pipeline.exporters import check_exports
from pipeline.ledger.ledger import Ledger
from pipeline.storage.swap import current_folder
from pipeline.storage.uris import join

from .findings import Findings

# A second opinion on an instances file: what pycocotools makes of it.

coco_mask: Any = _mask


def check_with_pycocotools(data: bytes, findings: Findings) -> None:
    """Indexes the file with `pycocotools.coco.COCO` and measures its masks.

    Args:
        data: The whole file. Its RLE strings are known to be sound: pycocotools trusts them.
        findings: Takes what is wrong.
    """
    coco: Any = COCO()
    coco.dataset = orjson.loads(data)
    with contextlib.redirect_stdout(io.StringIO()):  # it reports on its progress
        coco.createIndex()
    for key, index in (("images", coco.imgs), ("annotations", coco.anns)):
        rows = coco.dataset[key]
        if len(index) != len(rows):
            doubled = len(rows) - len(index)
            findings.add("export-pycocotools", "", [f"{doubled} {key} share an id"])
    for number, annotation in coco.anns.items():
        if annotation["image_id"] not in coco.imgs or annotation["category_id"] not in coco.cats:
            findings.add("export-pycocotools", "annotation", [number])
            continue
        rle = coco.annToRLE(annotation)
        area, box = int(coco_mask.area(rle)), coco_mask.toBbox(rle).tolist()
        if number < 1 or area != annotation["area"] or box != annotation["bbox"]:
            findings.add("export-pycocotools", "annotation", [number])


_PYCOCOTOOLS_BYTES = 64 << 20  # as Python objects some seven times as much
_log = logging.getLogger(__name__)


def check_exports_of(ledger: Ledger, findings: Findings) -> tuple[str, ...]:
    """Compares every export under <dataset>/exports with the ledger, which is known to be sound.

    An instances file up to 64 MB is also read with pycocotools, which holds it whole.

    Returns:
        The formats that were compared.
    """
    checked = check_exports(ledger, lambda rule, text: findings.add(rule, "", [text]))
    if "coco-instances" in checked and not findings.violations():  # pycocotools trusts its input
        uri = join(
            current_folder(ledger.storage, join(ledger.uri, "exports")), "coco", "instances.json"
        )
        if ledger.storage.info(uri).size <= _PYCOCOTOOLS_BYTES:
            check_with_pycocotools(ledger.storage.read(uri), findings)
        else:
            _log.info("%s: too large for pycocotools, compared with the ledger only", uri)
    return checked
