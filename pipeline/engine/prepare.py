"""What a worker gets and how one image is read and decoded on its way to the model."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.images.decode import DECODERS_VERSION, UNREADABLE, decode_image, decoding_path
from pipeline.images.large import open_image, read_contents
from pipeline.images.preprocess import decode_through, make_chain
from pipeline.ledger.locks import read_locks, view_of
from pipeline.ledger.reuse import EMPTY_INDEX, ReuseIndex, StandingLabels, image_fingerprint
from pipeline.models.checkpoints.info import ModelInfo
from pipeline.prompts import PromptTable
from pipeline.readers import Reader
from pipeline.storage.file_bytes import Contents, sha256_of
from pipeline.storage.storage import Storage
from schemas.config.job import JobConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Sample, Task
from schemas.rows import AnnotationRow, ImageRow, LabelledRows

from .splits import split_of

_DECODERS = f"decoders {DECODERS_VERSION}"


@dataclass(frozen=True, slots=True)
class WorkerSpec:
    """Everything a worker needs to know; small and picklable.

    Attributes:
        config: The resolved job, URIs absolute.
        reader: Of the input.
        info: The model.
        tasks: What to ask of it, in the order of `TASKS`.
        dataset: Absolute URI of the output.
        run: Config fingerprint.
        device: "cpu" or "cuda".
        prompts: Points and boxes of each picture, or None.
        locks: Name of the file in `locks/` that counts in this run, "" = none.
        images: That are left to do, a worker's share of them.
    """

    config: JobConfig
    reader: Reader
    info: ModelInfo
    tasks: tuple[Task, ...]
    dataset: str
    run: str
    device: str
    prompts: PromptTable | None = None
    locks: str = ""
    images: int = 0

    def with_execution(self, **settled: object) -> WorkerSpec:
        """The same with other values in the section `execution`."""
        execution = self.config.execution.model_copy(update=settled)
        return replace(self, config=self.config.model_copy(update={"execution": execution}))

    @property
    def wording(self) -> str:
        """Config fingerprint and model name, copies and splits: what rows say beside their images.

        A renamed model, another augmentation changes the rows but not the labels: parts are
        written anew from them. New decoders may read what failed.
        """
        words = f"{self.run} {self.info.name} {self.config.copies_wording()}".rstrip()
        return f"{words} {_DECODERS}"

    @property
    def about(self) -> str:
        """All that rows depend on beside their images: what stands of other words is not kept."""
        return f"{self.wording} {self.locks}"


@dataclass(frozen=True, slots=True)
class ShardWork:
    """One call to a worker.

    Attributes:
        shard: Shard id.
        token: Of the shard's listing.
        records: Its images, in order.
        poison: File names that killed workers before; they become failed rows unread.
        second: A run before looked at it already, and some pictures could not be decoded.
    """

    shard: str
    token: str
    records: tuple[ImageRecord, ...]
    poison: frozenset[str] = frozenset()
    second: bool = False


@dataclass(frozen=True, slots=True)
class ReusedRows:
    """Labels that an earlier part holds: its image row and annotation rows, as they stand there."""

    image: ImageRow
    segments: list[AnnotationRow]


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image on its way to the model.

    Attributes:
        record: Which.
        outcome: Pixels, a failure, or the rows of an earlier part that hold its labels.
        size_bytes: Length of the bytes, None where they were not read.
        sha256: Of the bytes, hex, or "".
        fingerprint: Key of its labels, or "".
        original: HxWx3 uint8 as copies are made from: after EXIF rotation, full size, before
            preprocessing; or why that cannot be. None where no copies are due.
    """

    record: ImageRecord
    outcome: Sample | Failure | ReusedRows
    size_bytes: int | None = None
    sha256: str = ""
    fingerprint: str = ""
    original: npt.NDArray[np.uint8] | Failure | None = None


class Preparer:
    """Reads and decodes images; called from many threads, or from Ray tasks on other nodes."""

    def __init__(self, spec: WorkerSpec, index: ReuseIndex = EMPTY_INDEX) -> None:
        self._config = spec.config
        self._run = spec.run
        storage = Storage(spec.config.storage)
        self._standing = StandingLabels(storage, spec.dataset, index)
        self._locks = read_locks(storage, spec.dataset, spec.locks)
        self._spec = spec
        self._background = frozenset(c.id for c in spec.info.categories if c.is_background)
        self._reader = spec.reader
        self._prompts = spec.prompts
        tiled = spec.config.tiling.size > 0  # tiles are cut from full size
        # What tiles alone look at need not be in memory; copies and prompts look at the whole.
        self._by_tiles = tiled and spec.prompts is None and not spec.config.augment.copies
        self._min_side: int | None = None if tiled else spec.info.config.get("min_side")
        config = spec.config
        self._chain = (
            make_chain(config.preprocess, config.images, storage)
            if config.preprocess.steps
            else None
        )

    def prepare(self, record: ImageRecord) -> Prepared:
        """Reads one image and decodes it, unless its labels are already there. Never raises."""
        if record.part and (standing := self._unread(record)) is not None:
            return standing
        try:
            data = read_contents(self._reader, record)
            sha256 = sha256_of(data)
            how = (decoding_path(data), record.plane)
        except Exception as error:
            return Prepared(record, Failure(ErrorCode.READ_ERROR, one_line(error)))
        run = self._run
        if self._prompts is not None:  # the same picture under another name is asked other things
            run = f"{run} {self._prompts.key(record.file_name)}"
        fingerprint = image_fingerprint(sha256, run, *how)
        rows = self._locked(sha256, record) or self._standing.get(fingerprint)
        if rows is None or rows[0]["error_code"] in UNREADABLE:
            # What could not be decoded is kept under the decoders' version: a later one may.
            failed = image_fingerprint(sha256, run, *how, _DECODERS)
            rows = self._standing.get(failed)
            outcome = ReusedRows(*rows) if rows else self._decode(data, record)
            if isinstance(outcome, Failure) and outcome.code in UNREADABLE:
                fingerprint = failed
        else:
            outcome = ReusedRows(*rows)
        if isinstance(outcome, Sample) and self._prompts is not None:
            outcome = _prompted(outcome, self._prompts)
        original = None
        if self._copied(record, sha256) and not isinstance(outcome, Failure):
            original = self._full_size(data, record, outcome)
        return Prepared(record, outcome, len(data), sha256, fingerprint, original)

    def _unread(self, record: ImageRecord) -> Prepared | None:
        """An image that is what it was when its row was written; None where it must be read."""
        rows = self._standing.of_image(record.part, record.image_id)
        if rows is None or rows[0]["file_name"] != record.file_name:
            return None
        image = rows[0]
        sha256 = image["sha256"]
        if sha256 is None:
            return None
        locked = self._locked(sha256, record)
        if locked is None and image["locked"]:
            return None  # a person took the correction back
        if self._copied(record, sha256) and image["error_code"] is None:
            return None  # copies are made of its pixels
        outcome = ReusedRows(*(locked or rows))
        return Prepared(record, outcome, image["size_bytes"], sha256, image["fingerprint"])

    def _locked(self, sha256: str, record: ImageRecord) -> LabelledRows | None:
        """The rows that a person gave a picture of these bytes, if they can still be had."""
        if not len(self._locks):
            return None
        images = self._config.images.model_dump(mode="json")
        lock = self._locks.get(sha256, view_of(images, record.plane))
        if lock is None or self._spec.tasks != (lock.task,):
            return None
        table = self._spec.info.categories
        return lock.rows(record, table, run=self._run, background=self._background)

    def original(self, record: ImageRecord, sha256: str) -> npt.NDArray[np.uint8]:
        """The picture that copies are made from, read again.

        Raises:
            StorageError: It cannot be read.
            ValueError: It has changed since it was labelled, or cannot be decoded.
        """
        data = read_contents(self._reader, record)
        if sha256_of(data) != sha256:
            raise ValueError(f"{record.file_name} has changed while it was labelled")
        pixels = self._full_size(data, record, None)
        if isinstance(pixels, Failure):
            raise ValueError(f"{record.file_name}: {pixels.message}")
        return pixels

    def _copied(self, record: ImageRecord, sha256: str) -> bool:
        """Whether the picture's split gets copies."""
        if not record.copy_ids:
            return False
        split = split_of(self._config.split, record.file_name, sha256) or "train"
        return split in self._config.augment.splits

    def _full_size(
        self, data: Contents, record: ImageRecord, outcome: Sample | ReusedRows | None
    ) -> npt.NDArray[np.uint8] | Failure:
        if (
            isinstance(outcome, Sample)
            and self._chain is None
            and outcome.pixels.shape[:2] == outcome.original_hw
        ):
            return outcome.pixels
        found = decode_image(data, record, self._config.images)
        return found.pixels if isinstance(found, Sample) else found

    def _decode(self, data: Contents, record: ImageRecord) -> Sample | Failure:
        images = self._config.images
        if self._chain is not None:
            return decode_through(self._chain, data, record, images)
        if self._by_tiles:
            return open_image(data, record, images, beyond=self._config.tiling.size)
        return decode_image(data, record, images, min_side=self._min_side)


def _prompted(sample: Sample, prompts: PromptTable) -> Sample | Failure:
    """The picture with what the file of prompts asks of it."""
    try:
        own = prompts.of(
            sample.record.file_name, *sample.original_hw, orientation=sample.orientation
        )
    except ValueError as error:
        return Failure(ErrorCode.BAD_PROMPT, str(error))
    note = sample.note
    if not prompts.knows(sample.record.file_name):
        note = "; ".join(filter(None, (note, "not in the file of prompts")))
    return replace(sample, prompts=own, note=note)


def one_line(error: BaseException) -> str:
    """An exception as one line without this process's memory addresses."""
    text = " ".join(str(error).split()) or "no message"
    return _ADDRESS.sub("0x…", f"{type(error).__name__}: {text}")[:500]


_ADDRESS = re.compile(r"0x[0-9a-fA-F]{6,}")

# Feed: read-ahead of one shard's images, and of the next one's, in threads.

LARGE_FILE = 1 << 24
"""Bytes. Such a picture may decode to gigabytes."""


class Feed:
    """Prepares images in threads, a bounded number ahead, and gives them out in order.

    A large file waits until nothing else is held, and nothing is read ahead beside it.

    Attributes:
        work: The shard.
        follower: Of the next shard, begun with the room that this one no longer needs.
    """

    def __init__(
        self,
        pool: ThreadPoolExecutor,
        prepare: Callable[[ImageRecord], Prepared],
        work: ShardWork,
        *,
        ahead: int,
    ) -> None:
        self.work = work
        self._pool = pool
        self._prepare = prepare
        self._ahead = ahead
        self._left = deque(r for r in work.records if r.file_name not in work.poison)
        self._futures: deque[tuple[ImageRecord, Future[Prepared]]] = deque()
        self.follower: Feed | None = None

    def fill(self, room: int | None = None) -> None:
        """Submits images until `room` (default: the whole bound) are under way."""
        room = self._ahead if room is None else room
        while self._left and len(self._futures) < room:
            held = self._futures[-1][0] if self._futures else None
            if held is not None and max(held.size, self._left[0].size) >= LARGE_FILE:
                return
            record = self._left.popleft()
            self._futures.append((record, self._pool.submit(self._prepare, record)))
        alone = bool(self._futures) and self._futures[-1][0].size >= LARGE_FILE
        if not self._left and self.follower is not None and not alone:
            self.follower.fill(room - len(self._futures))

    def __iter__(self) -> Iterator[Prepared]:
        self.fill()
        while self._futures:
            record, future = self._futures.popleft()
            item = future.result()
            del future
            if record.size < LARGE_FILE:
                self.fill()
            yield item
            del item  # a large picture is gone before the next is decoded
            self.fill()

    def cancel(self) -> None:
        """Forgets what is not yet read."""
        self._left.clear()
        for _, future in self._futures:
            future.cancel()
        self._futures.clear()
