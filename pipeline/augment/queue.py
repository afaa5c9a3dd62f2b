"""Copies of a shard's pictures, made in threads while the next pictures are labelled."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from types import TracebackType
from typing import Self

import numpy as np
import numpy.typing as npt

from schemas.config.job import JobConfig
from schemas.records import Failure, ImageRecord
from schemas.rows import AnnotationRow, ImageRow, LabelledRows

from .copies import CopyMaker
from .partners import Parent

Pixels = npt.NDArray[np.uint8]
Load = Callable[[ImageRecord, str], Pixels]

BLOCK = 8
"""Neighbours in the listing that may take from one another, where steps mix pictures."""
HELD_BYTES = 1 << 28
"""Pixels that wait for a block's end; of further ones the file is read again."""
WAITING_BYTES = 1 << 29
"""Pixels that copies are under way of, at most and by one picture more."""


@dataclass(slots=True)
class _Slot:
    """A picture's rows, and those of its copies when they are there."""

    image: ImageRow
    segments: list[AnnotationRow]
    copies: Future[list[LabelledRows]] | None = None
    ready: list[LabelledRows] = field(default_factory=list)


@dataclass(slots=True)
class _Block:
    parents: list[tuple[_Slot, Parent]] = field(default_factory=list)
    held: int = 0


class CopyQueue:
    """Takes a shard's pictures in order and gives the rows of all of them and of their copies.

    Args:
        config: The job.
        load: Reads the original pixels of a record whose bytes have this SHA-256 again.
        maker: Of the copies.
    """

    def __init__(self, config: JobConfig, load: Load, maker: CopyMaker) -> None:
        self._load = load
        self._maker = maker
        threads = max(2, min(8, round(config.execution.cpus_per_worker or 1)))
        self._ahead = 2 * threads
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="copy")
        self._slots: list[_Slot] = []
        self._waiting: list[tuple[int, Future[list[LabelledRows]]]] = []
        self._block = _Block()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def add(
        self,
        record: ImageRecord,
        image: ImageRow,
        segments: list[AnnotationRow],
        original: Pixels | Failure | None = None,
    ) -> None:
        """Takes the next picture of the shard.

        Args:
            record: Which.
            image: Its row.
            segments: Its annotation rows.
            original: Its pixels, or why they cannot be had; None where it gets no copies.

        Raises:
            StorageError: An earlier copy could not be written.
        """
        slot = _Slot(image, segments)
        self._slots.append(slot)
        if image["error_code"]:
            original = None
        if isinstance(original, Failure):
            slot.ready = self._maker.failed(record, image, original)
        elif original is not None and not self._maker.mixes:
            parent = Parent(record, image, segments, lambda: original)
            self._submit(slot, parent, (), original.nbytes)
        elif original is not None:
            self._hold(slot, record, original)
        if len(self._slots) % BLOCK == 0:
            self._close_block()

    def rows(self) -> tuple[list[ImageRow], list[AnnotationRow]]:
        """Image rows and annotation rows: each picture, then its copies.

        Raises:
            StorageError: A copy could not be written.
        """
        self._close_block()
        images: list[ImageRow] = []
        annotations: list[AnnotationRow] = []
        for slot in self._slots:
            copies = slot.copies.result() if slot.copies is not None else slot.ready
            for image, segments in [(slot.image, slot.segments), *copies]:
                images.append(image)
                annotations.extend(segments)
        return images, annotations

    def _hold(self, slot: _Slot, record: ImageRecord, original: Pixels) -> None:
        block = self._block
        load: Callable[[], Pixels] = lambda: original  # noqa: E731
        if block.held + original.nbytes > HELD_BYTES:
            load = partial(self._load, record, slot.image["sha256"] or "")
        else:
            block.held += original.nbytes
        block.parents.append((slot, Parent(record, slot.image, slot.segments, load)))

    def _close_block(self) -> None:
        block, self._block = self._block, _Block()
        parents = [parent for _, parent in block.parents]
        for slot, parent in block.parents:
            # Pictures of another split would leak into this one's copies.
            same = [item for item in parents if item.image["split"] == parent.image["split"]]
            self._submit(slot, parent, same, block.held // len(parents))

    def _submit(self, slot: _Slot, parent: Parent, neighbours: Sequence[Parent], held: int) -> None:
        while self._waiting and (
            len(self._waiting) >= self._ahead
            or sum(size for size, _ in self._waiting) + held > WAITING_BYTES
        ):
            self._waiting.pop(0)[1].result()
        slot.copies = self._pool.submit(self._maker.copies, parent, neighbours)
        self._waiting.append((held, slot.copies))
