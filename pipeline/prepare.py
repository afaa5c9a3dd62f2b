"""What a worker gets and how one image is read and decoded on its way to the model."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from schemas.config import JobConfig
from schemas.records import ErrorCode, Failure, ImageRecord, Sample, Task

from .images import decode_image
from .models.info import ModelInfo
from .parts import Row
from .preprocess import decode_through, make_chain
from .prompt_files import PromptTable
from .readers import Reader
from .reuse import EMPTY_INDEX, ReuseIndex, StandingLabels, image_fingerprint
from .splits import split_of
from .storage import Storage


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
    """

    config: JobConfig
    reader: Reader
    info: ModelInfo
    tasks: tuple[Task, ...]
    dataset: str
    run: str
    device: str
    prompts: PromptTable | None = None

    @property
    def wording(self) -> str:
        """Config fingerprint and model name, copies and splits: what rows say beside their images.

        A renamed model or another augmentation changes the rows but not the labels: parts are
        written anew from them.
        """
        return f"{self.run} {self.info.name} {self.config.copies_wording()}".rstrip()


@dataclass(frozen=True, slots=True)
class ShardWork:
    """One call to a worker.

    Attributes:
        shard: Shard id.
        token: Of the shard's listing.
        records: Its images, in order.
        poison: File names that killed workers before; they become failed rows unread.
    """

    shard: str
    token: str
    records: tuple[ImageRecord, ...]
    poison: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Standing:
    """Labels that an earlier part holds: its image row and annotation rows, as they stand there."""

    image: Row
    segments: list[Row]


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
    outcome: Sample | Failure | Standing
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
        self._reader = spec.reader
        self._prompts = spec.prompts
        tiled = spec.config.tiling.size > 0  # tiles are cut from full size
        self._min_side: int | None = None if tiled else spec.info.config.get("min_side")
        config = spec.config
        self._chain = (
            make_chain(config.preprocess, config.images, storage)
            if config.preprocess.steps
            else None
        )

    def prepare(self, record: ImageRecord) -> Prepared:
        """Reads one image and decodes it, unless its labels are already there. Never raises."""
        try:
            data = self._reader.read(record)
        except Exception as error:
            return Prepared(record, Failure(ErrorCode.READ_ERROR, one_line(error)))
        sha256 = hashlib.sha256(data).hexdigest()
        fingerprint = image_fingerprint(sha256, self._run)
        rows = self._standing.get(fingerprint)
        outcome = Standing(*rows) if rows else self._decode(data, record)
        if isinstance(outcome, Sample) and self._prompts is not None:
            outcome = _prompted(outcome, self._prompts)
        original = None
        if self._copied(record, sha256) and not isinstance(outcome, Failure):
            original = self._full_size(data, record, outcome)
        return Prepared(record, outcome, len(data), sha256, fingerprint, original)

    def original(self, record: ImageRecord, sha256: str) -> npt.NDArray[np.uint8]:
        """The picture that copies are made from, read again.

        Raises:
            StorageError: It cannot be read.
            ValueError: It has changed since it was labelled, or cannot be decoded.
        """
        data = self._reader.read(record)
        if hashlib.sha256(data).hexdigest() != sha256:
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
        self, data: bytes, record: ImageRecord, outcome: Sample | Standing | None
    ) -> npt.NDArray[np.uint8] | Failure:
        if (
            isinstance(outcome, Sample)
            and self._chain is None
            and outcome.pixels.shape[:2] == outcome.original_hw
        ):
            return outcome.pixels
        found = decode_image(data, record, self._config.images)
        return found.pixels if isinstance(found, Sample) else found

    def _decode(self, data: bytes, record: ImageRecord) -> Sample | Failure:
        images = self._config.images
        if self._chain is not None:
            return decode_through(self._chain, data, record, images)
        return decode_image(data, record, images, min_side=self._min_side)


def _prompted(sample: Sample, prompts: PromptTable) -> Sample | Failure:
    """The picture with what the file of prompts asks of it."""
    try:
        own = prompts.of(sample.record.file_name, *sample.original_hw)
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
