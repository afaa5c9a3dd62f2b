"""Reading both sides of an image into the common table, and what was amiss on the way."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from typing import Any

from .categories import CategoryMatch
from .comparison import Comparison, compare
from .pairing import Pairing
from .segments import Segments, make_segments
from .source import ImageEntry, Source

LISTED = 100
"""Names listed in the counts; the numbers beside them cover all."""

_log = logging.getLogger(__name__)


class PairReader:
    """Compares images one by one.

    Args:
        truth: The ground truth.
        predicted: The predictions.
        match: Their common categories.
        rest: Category of the pixels that no true segment covers, None to leave them uncovered.
    """

    def __init__(
        self, truth: Source, predicted: Source, match: CategoryMatch, *, rest: int | None = None
    ) -> None:
        self._truth, self._predicted, self._match, self._rest = truth, predicted, match, rest
        self._true_segments = self._predicted_segments = 0
        self._failed: list[str] = []
        self._misfits: list[str] = []

    def compare(self, true: ImageEntry, answer: ImageEntry | None) -> Comparison:
        """Reads one image; a missing, failed or misfitting prediction is an empty one.

        Raises:
            ValueError: A file contradicts itself.
            StorageError: A file cannot be read.
        """
        name = (answer.name if answer else None) or true.name or str(true.key)
        segments = _translate(self._truth.read(true.key), self._match.truth_ids)
        if self._rest is not None:
            segments = segments.with_rest(self._rest)
        found = make_segments(segments.height, segments.width)
        if answer is not None and answer.failed:
            self._failed.append(name)
        elif answer is not None:
            read = self._predicted.read(answer.key)
            if len(read) and (read.height, read.width) != (segments.height, segments.width):
                _log.warning(
                    "%s: ground truth is %dx%d, prediction %dx%d pixels: counted as missing",
                    *(name, segments.width, segments.height, read.width, read.height),
                )
                self._misfits.append(name)
            elif len(read):
                found = _translate(read, self._match.predicted_ids)
        self._true_segments += len(segments)
        self._predicted_segments += len(found)
        return compare(true.key, name, segments, found)

    def counts(self, pairing: Pairing, failed_truth: list[ImageEntry]) -> dict[str, Any]:
        """Images and segments that were compared, and images that could not be, with names.

        Raises:
            ValueError: Not one prediction had the size of its ground truth.
        """
        missing = [true for true, answer in pairing.pairs if answer is None]
        if len(self._misfits) == len(pairing.pairs) - len(missing):
            raise ValueError(
                "every prediction differs in size from its ground truth, first "
                f"{self._misfits[0]!r}: are they the same pictures?"
            )
        lists = {
            "without_prediction": [_name(item) for item in missing],
            "failed_predictions": self._failed,
            "size_differs": self._misfits,
            "without_ground_truth": [_name(item) for item in pairing.unknown],
            "failed_ground_truth": [_name(item) for item in failed_truth],
        }
        return {
            "images": len(pairing.pairs),
            "true_segments": self._true_segments,
            "predicted_segments": self._predicted_segments,
            **{name: len(items) for name, items in lists.items()},
            "names": {name: items[:LISTED] for name, items in lists.items() if items},
            "unknown_categories": list(self._match.unknown),
        }


def _translate(segments: Segments, ids: Mapping[int, int] | None) -> Segments:
    return segments if ids is None else segments.in_terms_of(ids)


def _name(entry: ImageEntry) -> str:
    return entry.name or str(entry.key)
