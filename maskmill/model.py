"""Model: one array in, its segments out; no files, no Ray."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.masks import codec
from schemas.categories import Categories
from schemas.config.job import JobConfig
from schemas.records import ImageRecord, Sample, Segment


@dataclass(frozen=True, slots=True)
class Answer:
    """The segments of one picture.

    Attributes:
        segments: In the order of the dataset's rows; each with category_id, score, RLE counts.
        categories: The table that they refer to.
        hw: Height and width of the picture, pixels.
    """

    segments: tuple[Segment, ...]
    categories: Categories
    hw: tuple[int, int]

    def __len__(self) -> int:
        return len(self.segments)

    def __iter__(self) -> Iterator[Segment]:
        return iter(self.segments)

    @property
    def names(self) -> list[str]:
        """Name of each segment's category."""
        by_id = {item.id: item.name for item in self.categories}
        return [by_id[segment.category_id] for segment in self.segments]

    @property
    def scores(self) -> npt.NDArray[np.float64]:
        """n scores in 0…1; NaN where a model gives none."""
        values = [np.nan if item.score is None else item.score for item in self.segments]
        return np.asarray(values, np.float64)

    @property
    def masks(self) -> npt.NDArray[np.bool_]:
        """n×H×W."""
        height, width = self.hw
        out = np.zeros((len(self.segments), height, width), np.bool_)
        for place, segment in zip(out, self.segments, strict=True):
            place[:] = codec.decode(segment.counts, height, width)
        return out


class Model:
    """A loaded model; call it with an array. Use `load` to get one."""

    def __init__(self, config: JobConfig, device: str) -> None:
        from pipeline.engine.resolve import resolve_model
        from pipeline.engine.worker import load_model
        from pipeline.masks.refine import Refiner
        from pipeline.storage.storage import Storage

        info = resolve_model(config, Storage(config.storage)).info
        self.tasks = config.task or info.tasks[:1]
        missing = [task for task in self.tasks if task not in info.tasks]
        if missing:
            raise ValueError(f"task: {info.name} does {', '.join(info.tasks)}, not {missing[0]}")
        self.name, self.licence = info.name, info.licence
        self.categories: Categories = info.categories
        self._refiner = Refiner(config.model, config.refine, info.categories, self.tasks)
        self._built = load_model(config, info, self.tasks, device)

    def __call__(self, pixels: npt.ArrayLike) -> Answer:
        """The segments of one picture.

        Args:
            pixels: H×W×3 uint8 in RGB, or H×W uint8 grey.

        Raises:
            ValueError: Another shape or type.
        """
        return self.many([pixels])[0]

    def many(self, pictures: Sequence[npt.ArrayLike]) -> list[Answer]:
        """The segments of several pictures of any sizes, as one batch.

        Raises:
            ValueError: A bad picture, or one that the model fails on.
        """
        samples = [_sample(np.asarray(each), number) for number, each in enumerate(pictures)]
        found = [self._refiner.refine(item) for item in self._built.segment(samples)]
        for item in found:
            if item.failure is not None:
                raise ValueError(f"{self.name}: {item.failure.message}")
        return [
            Answer(item.segments, self.categories, sample.original_hw)
            for item, sample in zip(found, samples, strict=True)
        ]

    def close(self) -> None:
        """Frees the weights."""
        self._built.close()

    def __enter__(self) -> Model:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


def load(model: str, *, device: str = "auto", task: str | None = None, **settings: Any) -> Model:
    """Loads a model into this process.

    Args:
        model: Short name, hub id, or checkpoint folder.
        device: "auto", "cpu", "cuda", "cuda:N".
        task: semantic, instance or panoptic; None = the model's first.
        settings: Any key of a job, as `**{"model.threshold": 0.4}`.

    Raises:
        ValueError: Unknown model, bad setting.
    """
    from .dataset import parse

    config = parse("-", "-", model=model, task=task, settings=settings)
    if device == "auto":
        from pipeline.models.grids.transfer import best_device

        device = best_device()
    return Model(config, device)


def _sample(pixels: npt.NDArray[Any], number: int) -> Sample:
    if pixels.dtype != np.uint8 or not (
        pixels.ndim == 2 or (pixels.ndim == 3 and pixels.shape[2] == 3)
    ):
        raise ValueError(
            f"a picture must be H×W×3 or H×W uint8 (RGB or grey), got {pixels.shape} {pixels.dtype}"
        )
    if not pixels.size:
        raise ValueError(f"a picture of shape {pixels.shape} has no pixel")
    rgb = np.repeat(pixels[..., None], 3, 2) if pixels.ndim == 2 else pixels
    name = f"array-{number}"
    return Sample(ImageRecord(name, name), np.ascontiguousarray(rgb), (rgb.shape[0], rgb.shape[1]))
