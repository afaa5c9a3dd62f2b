"""How many pictures a worker hands to its model at once."""

from __future__ import annotations

from pathlib import Path

import pytest
from recording_model import shard_work, worker_spec

from tests.pipeline.engine.test_worker import FILES, NAMES, label


@pytest.mark.parametrize(("limit", "sizes"), [(1 << 28, [8, 2]), (1, [1] * 10)])
def test_windows_are_a_few_batches_or_as_much_as_memory_allows(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, limit: int, sizes: list[int]
) -> None:
    spec, log = worker_spec(monkeypatch, tmp_path, FILES, batch_size=4)
    monkeypatch.setattr("pipeline.engine.worker.BATCHES", 2)
    monkeypatch.setattr("pipeline.engine.worker.WINDOW_BYTES", limit)
    label(spec, shard_work(NAMES))
    assert [len(window) for window in log[1:-1]] == sizes
    assert [name for window in log[1:-1] for name in window] == NAMES
