"""Examples: pictures with their maps of category indices, read one at a time and kept."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import numpy as np
import numpy.typing as npt

from pipeline.evaluation.sources.source import Segments
from pipeline.images.decode import decode_image
from pipeline.masks import codec
from pipeline.storage.storage import Storage
from schemas.categories import Categories
from schemas.records import Failure

from .data import LabelLocation, LabelSource, Pair

# Segments → a map of category indices, as a network learns it.

IGNORE = -1
"""Index of a pixel that teaches nothing."""

IndexMap = npt.NDArray[np.int16]


def paint_label_map(
    segments: Segments,
    index_of: Mapping[int, int],
    *,
    rest: int = IGNORE,
    crowds: bool = True,
    min_score: float = 0.0,
) -> IndexMap:
    """Draws all segments of an image, the smaller over the larger.

    Args:
        segments: Of one image.
        index_of: Category id → index.
        rest: Index of pixels without a segment.
        crowds: Whether a crowd is its category; else its pixels are ignored where no object is.
        min_score: Pixels of a segment with a lower score are ignored; without a score it is sure.

    Returns:
        HxW int16, `IGNORE` where nothing is to be learned.

    Raises:
        ValueError: A category that has no index, or a malformed mask.
    """
    height, width = segments.height, segments.width
    label_map = np.full((height, width), rest, np.int16)
    areas = np.array([codec.area(counts, height, width) for counts in segments.counts], np.int64)
    for number in np.lexsort((-areas, ~segments.iscrowd)).tolist():
        id_ = int(segments.category_ids[number])
        if id_ not in index_of:
            raise ValueError(f"category {id_} is not in the table of categories")
        index = index_of[id_]
        if segments.iscrowd[number] and not crowds:
            index = IGNORE
        if segments.scores[number] < min_score:  # never true of NaN
            index = IGNORE
        mask = codec.decode(segments.counts[number], height, width)
        label_map[mask.view(np.bool_)] = index
    return label_map


Pixels = npt.NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class ExamplesPlan:
    """What to read, as the driver found it; any process opens the same examples from it.

    Attributes:
        places: Where labels and pictures are.
        numbers: (place, position in its pairs) of each example.
        names: File name of each picture: a folder that changed meanwhile is noticed.
        rests: Of each place: what pixels without a segment are.
        categories: Indices 0, 1, … in their order.
        min_score: Segments below it are ignored.
        cache_bytes: Of decoded pictures that are kept.
        storage: File access.
    """

    places: tuple[LabelLocation, ...]
    numbers: tuple[tuple[int, int], ...]
    names: tuple[str, ...]
    rests: tuple[Literal["ignore", "background"], ...]
    categories: Categories
    min_score: float = 0.0
    cache_bytes: int = 1 << 30
    storage: Storage = field(default_factory=Storage)

    def open(self) -> Examples:
        """The examples, in a process that reads them."""
        return Examples(self, [LabelSource(place, self.storage) for place in self.places])


class Examples:
    """Reads examples by number.

    Args:
        plan: Which.
        labelled: Its places, open.

    Raises:
        ValueError: The folders do not hold what the plan names any more.
    """

    def __init__(self, plan: ExamplesPlan, labelled: Sequence[LabelSource]) -> None:
        self._plan, self._labelled = plan, labelled
        for (place, at), name in zip(plan.numbers, plan.names, strict=True):
            pairs = labelled[place].pairs
            if at >= len(pairs) or pairs[at].record.file_name != name:
                raise ValueError(f"{plan.places[place].labels}: {name} has gone or moved")
        self._index_of: Mapping[int, int] = {
            item.id: index for index, item in enumerate(plan.categories)
        }
        self._background = next(
            (index for index, item in enumerate(plan.categories) if item.is_background), IGNORE
        )
        self._kept: dict[int, tuple[Pixels, IndexMap]] = {}
        self._room = plan.cache_bytes

    def __len__(self) -> int:
        return len(self._plan.numbers)

    def __getitem__(self, number: int) -> tuple[Pixels, IndexMap]:
        """A picture and its map.

        Returns:
            HxWx3 uint8 RGB, upright; HxW int16 indices, `IGNORE` where nothing is to be learned.

        Raises:
            ValueError: A picture that cannot be decoded, labels of another size, or of a category
                that is not in the table.
            StorageError: A file cannot be read.
        """
        if number in self._kept:
            return self._kept[number]
        pair = self._read(number)
        size = pair[0].nbytes + pair[1].nbytes
        if size <= self._room:
            # Kept for good: every picture is wanted equally often, so forgetting gains nothing.
            self._kept[number] = pair
            self._room -= size
        return pair

    @property
    def categories(self) -> Categories:
        """Indices 0, 1, … in their order."""
        return self._plan.categories

    def some_maps(self, most: int) -> Iterator[IndexMap]:
        """The maps alone, without their pictures; of more than `most`, so many spread evenly."""
        count = len(self)
        for nth in range(min(most, count)):
            place, at = self._plan.numbers[nth * count // min(most, count)]
            pair = self._labelled[place].pairs[at]
            yield self._painted(place, self._labelled[place].source.read(pair.key), pair)

    def _read(self, number: int) -> tuple[Pixels, IndexMap]:
        place, at = self._plan.numbers[number]
        labelled = self._labelled[place]
        pair = labelled.pairs[at]
        name = pair.record.file_name
        sample = decode_image(labelled.read(pair), pair.record, labelled.images_of(pair))
        if isinstance(sample, Failure):
            raise ValueError(f"{name} cannot be decoded: {sample.message}")
        segments = labelled.source.read(pair.key)
        size = (segments.height, segments.width)
        if size != sample.original_hw:
            raise ValueError(
                f"{name} has {sample.original_hw[1]}x{sample.original_hw[0]} pixels, its labels "
                f"{size[1]}x{size[0]}"
            )
        return sample.pixels, self._painted(place, segments, pair)

    def _painted(self, place: int, segments: Segments, pair: Pair) -> IndexMap:
        rest = self._background if self._plan.rests[place] == "background" else IGNORE
        try:
            return paint_label_map(
                segments,
                self._index_of,
                rest=rest,
                crowds=self._labelled[place].source.task != "instance",
                min_score=self._plan.min_score,
            )
        except ValueError as error:
            raise ValueError(f"labels of {pair.record.file_name}: {error}") from error
