"""Which image of the predictions is which image of the ground truth."""

from __future__ import annotations

import logging
from collections import Counter, deque
from collections.abc import Callable, Collection, Hashable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from pipeline.evaluation.metrics.metric import LISTED
from pipeline.evaluation.metrics.overlay import ComparedImage
from pipeline.evaluation.sources.source import ImageEntry, Segments, Source, make_segments


@dataclass(frozen=True, slots=True)
class Pairing:
    """Images of both sides brought together.

    Attributes:
        pairs: (true, predicted) images, in the order of the predictions; then the true images
            that have no prediction, with None.
        unknown: Predicted images that the ground truth does not have.
        how: "id", "path", "file name" or "stem".
    """

    pairs: tuple[tuple[ImageEntry, ImageEntry | None], ...]
    unknown: tuple[ImageEntry, ...]
    how: str


def pair_images(truth: Sequence[ImageEntry], predicted: Sequence[ImageEntry]) -> Pairing:
    """Pairs images by id where a side knows ids only; else by the first of these that finds some
    and is unique: path without the extension, whole path, the file's stem.

    A path that keeps the other side's extension below its own, as `a.jpg.png` does of `a.jpg`,
    belongs to that one, not to another `a.jpg.…`: our exports name images that way whose paths
    differ in the extension only.

    Raises:
        ValueError: No image is on both sides, or it cannot be told which is which.
    """
    if not truth or not predicted:
        raise ValueError(f"the {'predictions' if truth else 'ground truth'} hold no image")
    ways = _BY_NAME
    if any(item.name is None for item in (*truth, *predicted)):
        ways = {"id": lambda side, _: [item.key for item in side]}
    doubt = ""
    for how, keys in ways.items():
        true_keys, answer_keys = keys(truth, predicted), keys(predicted, truth)
        common = set(true_keys) & set(answer_keys)
        twice = _twice(common, "ground truth", truth, true_keys)
        twice = twice or _twice(common, "predictions", predicted, answer_keys)
        if twice:
            doubt = f"cannot tell which image is which by {how}: {twice}"
        elif common:
            true = dict(zip(true_keys, truth, strict=True))
            answers = list(zip(answer_keys, predicted, strict=True))
            missing = [
                item for key, item in zip(true_keys, truth, strict=True) if key not in common
            ]
            return Pairing(
                pairs=(
                    *((true[key], item) for key, item in answers if key in common),
                    *((item, None) for item in missing),
                ),
                unknown=tuple(item for key, item in answers if key not in common),
                how=how,
            )
    raise ValueError(
        doubt
        or f"no image is on both sides: the ground truth has {_examples(truth)}; "
        f"the predictions have {_examples(predicted)}"
    )


def _twice(
    common: Collection[Hashable],
    side: str,
    entries: Sequence[ImageEntry],
    keys: Sequence[Hashable],
) -> str:
    numbers = Counter(keys)
    names = [
        item.name
        for key, item in zip(keys, entries, strict=True)
        if numbers[key] > 1 and key in common
    ]
    return f"the {side} have {', '.join(map(repr, names[:3]))}" if names else ""


def _name(entry: ImageEntry) -> str:
    return entry.name or ""


def _paths(side: Sequence[ImageEntry], other: Sequence[ImageEntry]) -> list[Hashable]:
    names, stems = {_name(item) for item in other}, {_stem_path(item) for item in other}
    keys: list[Hashable] = []
    for item in side:
        stem, name = _stem_path(item), _name(item)
        keys.append((stem, True) if stem in names else (name, True) if name in stems else stem)
    return keys


def _stem_path(entry: ImageEntry) -> str:
    path = PurePosixPath(_name(entry))
    return str(path.parent / path.stem)


_BY_NAME: dict[str, Callable[[Sequence[ImageEntry], Sequence[ImageEntry]], Sequence[Hashable]]] = {
    "path": _paths,
    "file name": lambda side, _: [_name(item) for item in side],
    "stem": lambda side, _: [PurePosixPath(_name(item)).stem for item in side],
}
"""How images are told apart → keys of a side, given the other one."""


def _examples(entries: Sequence[ImageEntry]) -> str:
    shown = [repr(item.name) if item.name else f"id {item.key}" for item in entries[:3]]
    return ", ".join(shown) + (f" … ({len(entries)} images)" if len(entries) > 3 else "")


# Reading both sides of images, and what was amiss on the way.

_THREADS = 4
_AHEAD = 32
"""Images read before they are wanted."""
_BATCH_IMAGES = 256
_BATCH_BYTES = 1 << 21
"""Of RLE strings; comparing takes some 100 bytes of memory for each."""

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


class PairReader:
    """Reads images batch by batch, ahead of the reader in threads where each is a file of its own.

    Args:
        truth: The ground truth.
        predicted: The predictions.
        pairing: Which image is which.
    """

    def __init__(self, truth: Source, predicted: Source, pairing: Pairing) -> None:
        self._truth, self._predicted, self._pairing = truth, predicted, pairing
        self._true_segments = self._predicted_segments = 0
        self._failed: list[str] = []
        self._misfits: list[str] = []

    def batches(
        self, progress: Callable[[int, int], None] | None = None
    ) -> Iterator[list[ImagePair]]:
        """All images of the pairing, in its order.

        Args:
            progress: Called with (images read, images) after every image.

        Raises:
            ValueError: A file contradicts itself.
            StorageError: A file cannot be read.
        """
        batch: list[ImagePair] = []
        size = 0
        for done, pair in enumerate(self._pairs(), start=1):
            self._true_segments += len(pair.truth)
            self._predicted_segments += len(pair.predicted)
            batch.append(pair)
            size += sum(map(len, pair.truth.counts)) + sum(map(len, pair.predicted.counts))
            if progress:
                progress(done, len(self._pairing.pairs))
            if len(batch) >= _BATCH_IMAGES or size >= _BATCH_BYTES:
                yield batch
                batch, size = [], 0
        if batch:
            yield batch

    def counts(self, failed_truth: Sequence[ImageEntry]) -> dict[str, Any]:
        """Images and segments that were read, and images that could not be, with names.

        Args:
            failed_truth: Images without a usable ground truth.

        Raises:
            ValueError: Not one prediction had the size of its ground truth.
        """
        missing = [true for true, answer in self._pairing.pairs if answer is None]
        if len(self._misfits) == len(self._pairing.pairs) - len(missing):
            raise ValueError(
                "every prediction differs in size from its ground truth, first "
                f"{self._misfits[0]!r}: are they the same pictures?"
            )
        lists = {
            "without_prediction": [_shown_name(item) for item in missing],
            "failed_predictions": self._failed,
            "size_differs": self._misfits,
            "without_ground_truth": [_shown_name(item) for item in self._pairing.unknown],
            "failed_ground_truth": [_shown_name(item) for item in failed_truth],
        }
        return {
            "images": len(self._pairing.pairs),
            "true_segments": self._true_segments,
            "predicted_segments": self._predicted_segments,
            **{name: len(items) for name, items in lists.items()},
            "names": {name: items[:LISTED] for name, items in lists.items() if items},
        }

    def _pairs(self) -> Iterator[ImagePair]:
        pairs = self._pairing.pairs
        if not {self._truth.kind, self._predicted.kind} & _FILE_AN_IMAGE:
            for true, answer in pairs:
                yield self._fit(true, answer, *self._read(true, answer))
            return
        with ThreadPoolExecutor(_THREADS, thread_name_prefix="evaluate") as pool:
            ahead: deque[Future[tuple[Segments, Segments | None]]] = deque()
            coming = iter(pairs)
            for true, answer in pairs:
                for pair in coming:
                    ahead.append(pool.submit(self._read, *pair))
                    if len(ahead) >= _AHEAD:
                        break
                yield self._fit(true, answer, *ahead.popleft().result())

    def _read(
        self, true: ImageEntry, answer: ImageEntry | None
    ) -> tuple[Segments, Segments | None]:
        segments = self._truth.read(true.key)
        if answer is None or answer.failed:
            return segments, None
        return segments, self._predicted.read(answer.key)

    def _fit(
        self,
        true: ImageEntry,
        answer: ImageEntry | None,
        segments: Segments,
        found: Segments | None,
    ) -> ImagePair:
        """A missing, failed or misfitting prediction is an empty one."""
        name = (answer.name if answer else None) or _shown_name(true)
        size = segments.height, segments.width
        if answer is not None and answer.failed:
            self._failed.append(name)
        elif found is not None and not len(found):
            found = make_segments(*size)
        elif found is not None and (found.height, found.width) != size:
            _log.warning(
                "%s: ground truth is %dx%d, prediction %dx%d pixels: counted as missing",
                *(name, segments.width, segments.height, found.width, found.height),
            )
            self._misfits.append(name)
            found = None
        return ImagePair(
            image=ComparedImage(true.key, name, *size),
            group=_folder(answer, true),
            truth=segments,
            predicted=make_segments(*size, answered=False) if found is None else found,
        )


_FILE_AN_IMAGE = {"labels", "semantic", "coco-panoptic"}


def _folder(*entries: ImageEntry | None) -> str:
    """The first folder of the first path that has one, else "."."""
    for entry in entries:
        folder, slash, _ = (entry.name if entry and entry.name else "").partition("/")
        if slash:
            return folder
    return "."


def _shown_name(entry: ImageEntry) -> str:
    return entry.name or str(entry.key)
