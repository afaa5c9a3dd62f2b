"""Checks the exports that lie with a dataset."""

from __future__ import annotations

import logging

from pipeline.exporters import check_exports
from pipeline.ledger import Ledger
from pipeline.storage import join

from .findings import Findings
from .pycoco import check_with_pycocotools

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
        uri = join(ledger.uri, "exports", "coco", "instances.json")
        if ledger.storage.info(uri).size <= _PYCOCOTOOLS_BYTES:
            check_with_pycocotools(ledger.storage.read(uri), findings)
        else:
            _log.info("%s: too large for pycocotools, compared with the ledger only", uri)
    return checked
