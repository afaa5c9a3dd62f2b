"""Formats that a dataset is exported to: one file each behind `Exporter`, one line in the table.

In: a ledger. Out: files of the format under exports/. Open `table` first, then `exports`.
"""

from .exports import check_exports, export, export_all, exports_current
from .table import EXPORTERS, Artifact, Exporter, formats_of, open_exporter

__all__ = [
    "EXPORTERS",
    "Artifact",
    "Exporter",
    "check_exports",
    "export",
    "export_all",
    "exports_current",
    "formats_of",
    "open_exporter",
]
