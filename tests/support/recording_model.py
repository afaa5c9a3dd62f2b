"""A model that does what a test says and notes every batch, and a reader of bytes in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from pipeline.engine.prepare import ShardWork, WorkerSpec
from pipeline.masks.codec import encode
from pipeline.models.checkpoints.families import FAMILIES, Family
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.storage.errors import StorageError
from schemas.categories import Categories, Category
from schemas.config.job import JobConfig
from schemas.config.model import ModelConfig
from schemas.records import ImageRecord, Sample, Segment, Segmentation, Task

CATEGORIES = Categories(
    (
        Category(1, "cell", True, "#ff0000"),
        Category(2, "ground", False, "#000000", is_background=True),
    )
)
BROKEN = b"no picture at all"

Answer = Callable[[Sequence[Sample]], Any]


def whole_picture(category: int, hw: tuple[int, int]) -> Segment:
    """One segment that covers everything."""
    height, width = hw
    mask = np.ones(hw, np.uint8)
    return Segment(category, encode(mask), height * width, (0, 0, width, height), 0.5)


def answer_all(batch: Sequence[Sample]) -> list[Segmentation]:
    """A cell that covers the picture, for each."""
    return [Segmentation(*s.original_hw, (whole_picture(1, s.original_hw),)) for s in batch]


class RecordingSegmenter:
    """Answers with the config's `answer`, writes batches of file names to its `log`."""

    def __init__(self, info: ModelInfo, options: ModelConfig, tasks: tuple[Task, ...]) -> None:
        self.log: list[Any] = info.config["log"]
        self.answer: Answer = info.config["answer"]

    def load(self, device: str) -> None:
        self.log.append(f"load {device}")

    def segment(self, batch: Sequence[Sample]) -> Any:
        self.log.append([sample.record.file_name for sample in batch])
        return self.answer(batch)

    def close(self) -> None:
        self.log.append("close")


@dataclass(frozen=True)
class MemoryReader:
    """`pipeline.readers.Reader` over a dict; what is not in it cannot be read."""

    files: Mapping[str, bytes]
    ignored: dict[str, int] = field(default_factory=dict)

    def list(self) -> Iterator[ImageRecord]:
        for name in self.files:
            yield ImageRecord(name, f"memory:{name}")

    def read(self, record: ImageRecord) -> bytes:
        if record.file_name not in self.files:
            raise StorageError(f"permission denied:\n{record.uri}")
        return self.files[record.file_name]

    def open(self, record: ImageRecord) -> bytes:
        return self.read(record)


def png(seed: int, hw: tuple[int, int] = (6, 9)) -> bytes:
    """A small picture that no other seed gives."""
    picture = np.full((*hw, 3), seed % 256, np.uint8)
    picture[0, 0] = (seed // 256, 1, 2)
    return cv2.imencode(".png", picture)[1].tobytes()


def worker_spec(
    monkeypatch: pytest.MonkeyPatch,
    dataset: Path,
    files: Mapping[str, bytes],
    *,
    answer: Answer = answer_all,
    batch_size: int = 4,
    name: str = "recording",
    tasks: tuple[Task, ...] = ("panoptic",),
    **config: Any,
) -> tuple[WorkerSpec, list[Any]]:
    """A spec whose model is a `RecordingSegmenter`, and its log; it gets one batch at a time."""
    monkeypatch.setattr("pipeline.engine.worker.BATCHES", 1)
    monkeypatch.setitem(FAMILIES, "recording", Family("recording_model:RecordingSegmenter"))
    log: list[Any] = []
    model = {"name": name, "batch_size": batch_size}
    job = JobConfig.parse({"input": {"uri": "in"}, "output": str(dataset), "model": model})
    own = {"answer": answer, "log": log, **config}
    info = ModelInfo(name, "recording", "", "r1", "w", "", tasks, CATEGORIES, own)
    spec = WorkerSpec(job, MemoryReader(files), info, tasks, str(dataset), "run", "cpu")
    return spec, log


def shard_work(
    names: Sequence[str], *, first_id: int = 1, poison: Sequence[str] = (), shard: str = "00000001"
) -> ShardWork:
    """These images as one shard, ids counted from `first_id`."""
    records = tuple(
        ImageRecord(name, f"memory:{name}", image_id=first_id + i) for i, name in enumerate(names)
    )
    return ShardWork(shard, "token", records, frozenset(poison))
