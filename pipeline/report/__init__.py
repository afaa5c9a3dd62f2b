"""The HTML report: one page that shows what a dataset holds and where it came from.

In: a ledger. Out: report/ with its pictures. Open `write` first, then `survey` and `page`.
"""

from .write import write_report

__all__ = ["write_report"]
