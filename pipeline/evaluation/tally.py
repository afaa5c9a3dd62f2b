"""What metrics count over a stretch of images; stretches are counted apart and added up in order.

So figures do not depend on who counted: sums of floating point are always taken over the same
stretches, and these are added in the order of the images, in one process or in many.
"""

from __future__ import annotations

import logging
import math
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from itertools import groupby
from typing import Any

from pipeline.evaluation.metrics.boxes import box_overlay, box_stack
from pipeline.evaluation.metrics.metric import LISTED, Metric
from pipeline.evaluation.metrics.overlay import ComparedImage, overlay
from pipeline.evaluation.metrics.stack import stack
from pipeline.evaluation.metrics.table import VIEW_OF, make_metrics
from pipeline.evaluation.metrics.views import Perspective
from pipeline.evaluation.sources.fields import EXAMPLES
from pipeline.evaluation.sources.source import (
    ImageEntry,
    IouType,
    Segments,
    Source,
    make_segments,
)

from .pairs import Pair, Pairing

_THREADS = 4
_AHEAD = 32
"""Images read before they are wanted."""
_BATCH_IMAGES = 256
_BATCH_BYTES = 1 << 21
"""Of RLE strings; comparing takes some 100 bytes of memory for each."""
_STRETCH = 1024
"""Images of a stretch, at most."""
_FILE_AN_IMAGE = {"labels", "semantic", "coco-panoptic"}

_log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class ImagePair:
    """Both sides of one image.

    Attributes:
        image: Which image.
        group: First folder of its path, "." without one.
        truth: The true segments.
        predicted: The predicted ones; not `answered` where there are none to speak of.
    """

    image: ComparedImage
    group: str
    truth: Segments
    predicted: Segments


class MetricTally:
    """Counts over some images.

    Attributes:
        total: Name of a metric → what it has seen.
        groups: First folder → the same for its images.
        sizes: First folder → images.
        true_segments: That were read.
        predicted_segments: Likewise.
        failed: Names of images without an answer of the model.
        misfits: Names of images whose sides differ in size.
        left_out: Entries that could not be used, of the ground truth and of the predictions.
        examples: What was wrong with the first of them.
    """

    def __init__(self, total: dict[str, Metric]) -> None:
        self.total = total
        self.groups: dict[str, dict[str, Metric]] = {}
        self.sizes: dict[str, int] = {}
        self.true_segments = self.predicted_segments = 0
        self.failed: list[str] = []
        self.misfits: list[str] = []
        self.left_out = [0, 0]
        self.examples: tuple[list[str], list[str]] = ([], [])

    def merge(self, other: MetricTally) -> None:
        """Adds what was counted over the images that follow; `other` is spent."""
        _merge(self.total, other.total)
        for group, metrics in other.groups.items():
            if group in self.groups:
                _merge(self.groups[group], metrics)
            else:
                self.groups[group] = metrics
            self.sizes[group] = self.sizes.get(group, 0) + other.sizes[group]
        self.true_segments += other.true_segments
        self.predicted_segments += other.predicted_segments
        self.failed += other.failed
        self.misfits += other.misfits
        for side in (0, 1):
            self.note_left_out(side, other.left_out[side], other.examples[side])

    def note_left_out(self, side: int, count: int, examples: Sequence[str]) -> None:
        """Counts entries that could not be used; side 0 is the ground truth."""
        self.left_out[side] += count
        self.examples[side].extend(examples)
        del self.examples[side][EXAMPLES:]

    def counts(self, pairing: Pairing, failed_truth: Sequence[ImageEntry]) -> dict[str, Any]:
        """Images and segments that were read, and images that could not be, with names.

        Args:
            pairing: All images.
            failed_truth: Images without a usable ground truth.

        Raises:
            ValueError: Not one prediction had the size of its ground truth.
        """
        missing = [true for true, answer in pairing.pairs if answer is None]
        if len(self.misfits) == len(pairing.pairs) - len(missing):
            raise ValueError(
                "every prediction differs in size from its ground truth, first "
                f"{self.misfits[0]!r}: are they the same pictures?"
            )
        lists = {
            "without_prediction": [_shown_name(item) for item in missing],
            "failed_predictions": self.failed,
            "size_differs": self.misfits,
            "without_ground_truth": [_shown_name(item) for item in pairing.unknown],
            "failed_ground_truth": [_shown_name(item) for item in failed_truth],
        }
        invalid = dict(zip(("invalid_ground_truth", "invalid_predictions"), (0, 1), strict=True))
        reasons = {name: self.examples[side] for name, side in invalid.items()}
        return {
            "images": len(pairing.pairs),
            "true_segments": self.true_segments,
            "predicted_segments": self.predicted_segments,
            **{name: len(items) for name, items in lists.items()},
            **{name: self.left_out[side] for name, side in invalid.items()},
            "names": {
                name: items[:LISTED] for name, items in {**lists, **reasons}.items() if items
            },
        }


@dataclass(frozen=True, slots=True, eq=False)
class Comparer:
    """Counts over stretches of images; picklable, so that processes may share the work.

    Attributes:
        truth: The ground truth.
        predicted: The predictions.
        metrics: Some of `table.METRICS`.
        views: Name → view, of those that the metrics look at.
        ap_backend: One of `coco_ap.AP_BACKENDS`.
        iou_type: What is compared.
        by_folder: Count each first folder of the images' paths apart, too.
    """

    truth: Source
    predicted: Source
    metrics: tuple[str, ...]
    views: Mapping[str, Perspective]
    ap_backend: str
    iou_type: IouType
    by_folder: bool

    def fresh(self) -> MetricTally:
        """Nothing counted yet.

        Raises:
            ValueError: The AP backend is unknown or not installed.
        """
        return MetricTally(self._fresh())

    def stretches(self, pairing: Pairing) -> Iterator[tuple[Pair, ...]]:
        """All images in their order, cut so that a part of a dataset is read once.

        Args:
            pairing: Which image is which.
        """
        side = 1 if self.predicted.kind == "dataset" else 0
        source = (self.truth, self.predicted)[side]
        pairs = [(self._block(source, pair[side]), pair) for pair in pairing.pairs]
        pairs.sort(key=lambda item: item[0])
        for _, group in groupby(pairs, key=lambda item: item[0]):
            own = tuple(pair for _, pair in group)
            for begin in range(0, len(own), _STRETCH):
                yield own[begin : begin + _STRETCH]

    def __call__(self, pairs: Sequence[Pair]) -> MetricTally:
        """Counts over one stretch.

        Raises:
            ValueError: A file contradicts itself.
            StorageError: A file cannot be read.
        """
        tally = self.fresh()
        for batch in self._batches(pairs, tally):
            groups: dict[str, list[ImagePair]] = {}
            for pair in batch:
                groups.setdefault(pair.group if self.by_folder else "", []).append(pair)
            for group, members in groups.items():
                tallies = [tally.total]
                if self.by_folder:
                    tally.sizes[group] = tally.sizes.get(group, 0) + len(members)
                    if group not in tally.groups:
                        tally.groups[group] = self._fresh()
                    tallies.append(tally.groups[group])
                self._measure(members, tallies)
        return tally

    @staticmethod
    def _block(source: Source, entry: ImageEntry | None) -> float:
        return math.inf if entry is None else source.block(entry.key)

    def _fresh(self) -> dict[str, Metric]:
        return make_metrics(
            self.metrics, self.views, ap_backend=self.ap_backend, iou_type=self.iou_type
        )

    def _measure(self, pairs: Sequence[ImagePair], tallies: Sequence[Mapping[str, Metric]]) -> None:
        """Shows images to metrics, each in the view that it wants."""
        images = [pair.image for pair in pairs]
        truth = [pair.truth for pair in pairs]
        answers = [pair.predicted for pair in pairs]
        lay, laid = (box_stack, box_overlay) if self.iou_type == "bbox" else (stack, overlay)
        true = lay(truth, [f"ground truth of {image.name}" for image in images])
        found = lay(answers, [f"predictions of {image.name}" for image in images])
        for name, view in self.views.items():
            compared = laid(images, view.truth(true), view.predicted(found))
            for metrics in tallies:
                for metric in (one for key, one in metrics.items() if VIEW_OF[key] == name):
                    metric.add(compared)

    def _batches(self, pairs: Sequence[Pair], tally: MetricTally) -> Iterator[list[ImagePair]]:
        """Images a few at a time, ahead of the reader in threads where each is a file."""
        batch: list[ImagePair] = []
        size = 0
        for pair in self._read_all(pairs, tally):
            tally.true_segments += len(pair.truth)
            tally.predicted_segments += len(pair.predicted)
            for side, segments in enumerate((pair.truth, pair.predicted)):
                tally.note_left_out(side, segments.left_out_count, segments.left_out)
            batch.append(pair)
            size += sum(map(len, pair.truth.counts)) + sum(map(len, pair.predicted.counts))
            if len(batch) >= _BATCH_IMAGES or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def _read_all(self, pairs: Sequence[Pair], tally: MetricTally) -> Iterator[ImagePair]:
        if not {self.truth.kind, self.predicted.kind} & _FILE_AN_IMAGE:
            for true, answer in pairs:
                yield _fit(true, answer, *self._read(true, answer), tally)
            return
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="evaluate") as pool:
            ahead: deque[Future[tuple[Segments, Segments | None]]] = deque()
            coming = iter(pairs)
            for true, answer in pairs:
                for pair in coming:
                    ahead.append(pool.submit(self._read, *pair))
                    if len(ahead) >= _AHEAD:
                        break
                yield _fit(true, answer, *ahead.popleft().result(), tally)

    def _read(
        self, true: ImageEntry, answer: ImageEntry | None
    ) -> tuple[Segments, Segments | None]:
        segments = self.truth.read(true.key)
        if answer is None or answer.failed:
            return segments, None
        return segments, self.predicted.read(answer.key)


def _fit(
    true: ImageEntry,
    answer: ImageEntry | None,
    segments: Segments,
    found: Segments | None,
    tally: MetricTally,
) -> ImagePair:
    """A missing, failed or misfitting prediction is an empty one."""
    name = (answer.name if answer else None) or _shown_name(true)
    size = segments.height, segments.width
    if answer is not None and answer.failed:
        tally.failed.append(name)
    elif found is not None and not len(found):
        found = make_segments(*size, left_out=found.left_out, left_out_count=found.left_out_count)
    elif (
        found is not None
        and (found.boxes is None or found.height)  # a list of boxes knows no sizes
        and (found.height, found.width) != size
    ):
        _log.warning(
            "%s: ground truth is %dx%d, prediction %dx%d pixels: counted as missing",
            *(name, segments.width, segments.height, found.width, found.height),
        )
        tally.misfits.append(name)
        found = None
    return ImagePair(
        image=ComparedImage(true.key, name, *size),
        group=_folder(answer, true),
        truth=segments,
        predicted=make_segments(*size, answered=False) if found is None else found,
    )


def _merge(into: Mapping[str, Metric], other: Mapping[str, Metric]) -> None:
    for name, metric in into.items():
        metric.merge(other[name])


def _folder(*entries: ImageEntry | None) -> str:
    """The first folder of the first path that has one, else "."."""
    for entry in entries:
        folder, slash, _ = (entry.name if entry and entry.name else "").partition("/")
        if slash:
            return folder
    return "."


def _shown_name(entry: ImageEntry) -> str:
    return entry.name or str(entry.key)
