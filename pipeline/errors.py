"""ExecutionError: apart, so that the jobs know it without loading the engine."""

from __future__ import annotations


class ExecutionError(RuntimeError):
    """The run cannot go on; finished shards are kept. The message is one line."""
