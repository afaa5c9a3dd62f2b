"""The HTML report: one page that shows what a dataset holds and where it came from."""

from .write import write_report

__all__ = ["write_report"]
