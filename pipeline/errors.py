"""The engine's exceptions: apart, so that the jobs know them without loading the engine."""

from __future__ import annotations


class ExecutionError(RuntimeError):
    """The run cannot go on; finished shards are kept. The message is one line."""


class ModelLoadError(ValueError):
    """A checkpoint cannot be loaded, here or on any worker. The message is one line."""


class OverBudgetError(RuntimeError):
    """The run may not publish: too many images failed, or a limit against readers was met.

    The message is one line.

    Attributes:
        first: The first images that failed and why, a line each.
    """

    def __init__(self, message: str, *, first: tuple[str, ...] = ()) -> None:
        super().__init__(message)
        self.first = first
