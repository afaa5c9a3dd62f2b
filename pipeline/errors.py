"""The engine's exceptions: apart, so that the jobs know them without loading the engine."""

from __future__ import annotations


class ExecutionError(RuntimeError):
    """The run cannot go on; finished shards are kept. The message is one line."""


class ModelLoadError(ValueError):
    """A checkpoint cannot be loaded, here or on any worker. The message is one line."""
