"""With tiling.size set, a worker's model sees tiles and its rows are those of whole pictures."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from recording_model import png, shard_work, worker_spec

from pipeline.engine.prepare import Preparer, WorkerSpec
from pipeline.engine.worker import ShardWorker
from pipeline.ledger.parts import read_part
from pipeline.storage.storage import Storage
from schemas.config.model import TilingConfig
from schemas.records import Sample


def tiled(spec: WorkerSpec) -> WorkerSpec:
    config = spec.config.model_copy(update={"tiling": TilingConfig(size=32, overlap=8)})
    return replace(spec, config=config)


def test_tiles_go_to_the_model_and_whole_pictures_into_the_part(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    files = {"large.png": png(1, (50, 70)), "small.png": png(2, (20, 32))}
    spec, log = worker_spec(monkeypatch, tmp_path, files)
    worker = ShardWorker(tiled(spec))
    work = shard_work(list(files))
    receipt = worker.run(work, map(worker.preparer.prepare, work.records))
    worker.close()
    assert log == ["load cpu", ["small.png"], *[["large.png"] * 4] * 3, "close"]
    rows = read_part(Storage(), str(tmp_path), "annotations", receipt.part.name).to_pylist()
    assert [(row["area"], row["bbox_xywh"]) for row in rows] == [
        (50 * 70, [0, 0, 70, 50]),
        (20 * 32, [0, 0, 32, 20]),
    ]


def test_tiles_are_cut_from_full_size(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No JPEG is scaled down in decoding for a model that would be content with less."""
    data = cv2.imencode(".jpg", np.full((400, 400, 3), 90, np.uint8))[1].tobytes()
    spec, _ = worker_spec(monkeypatch, tmp_path, {"a.jpg": data}, min_side=100)
    (record,) = shard_work(["a.jpg"]).records
    for one, side in ((spec, 100), (tiled(spec), 400)):
        outcome = Preparer(one).prepare(record).outcome
        assert isinstance(outcome, Sample)
        assert outcome.pixels.shape == (side, side, 3)
