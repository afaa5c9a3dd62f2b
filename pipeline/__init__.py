"""Batch segmentation: read → segment → write, one retryable unit a shard.

The public names; what is imported from elsewhere in here may change between versions. Nothing is
loaded before its name is used.
"""

from __future__ import annotations

import importlib
from typing import Any

PUBLIC: dict[str, str] = {
    "label": "pipeline.engine.run:label",
    "export": "pipeline.exporters.exports:export",
    "validate": "pipeline.validation.validate:validate",
    "evaluate": "pipeline.evaluation.evaluate:evaluate",
    "measure": "pipeline.measuring.measure:measure",
    "compare": "pipeline.measuring.compare:compare",
    "write_report": "pipeline.report.write:write_report",
    "preview": "pipeline.images.preview:preview",
    "train_semantic": "pipeline.training.semantic:train_semantic",
    "train_nuclei": "pipeline.training.nuclei.train:train_nuclei",
    "open_dataset": "pipeline.ledger.ledger:open_ledger",
}
"""Name → "module:function"."""


def __getattr__(name: str) -> Any:
    target = PUBLIC.get(name)
    if target is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module, _, attribute = target.partition(":")
    return getattr(importlib.import_module(module), attribute)


def __dir__() -> list[str]:
    return sorted(PUBLIC)
