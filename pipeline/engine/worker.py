"""The work of one shard: read → segment → write. Knows nothing of Ray."""

from __future__ import annotations

import logging
import os
import time
from collections.abc import Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass

import numpy as np

from pipeline.augment.copies import CopyMaker
from pipeline.augment.queue import CopyQueue
from pipeline.errors import ModelLoadError
from pipeline.images.decoded import UndecodableError
from pipeline.ledger.parts import (
    RETRYABLE,
    TooManySegmentsError,
    annotation_rows,
    image_row,
    write_part,
)
from pipeline.ledger.receipts import write_receipt
from pipeline.ledger.reuse import EMPTY_INDEX, ReuseIndex
from pipeline.masks.refine import Refiner, loosest_limits
from pipeline.masks.resample import to_original
from pipeline.models.checkpoints.families import Segmenter, segmenter_class
from pipeline.models.checkpoints.info import ModelInfo, on_this_node
from pipeline.models.checkpoints.processor import GpuMeter
from pipeline.prompts.outcomes import outcome_note, prompt_rows
from pipeline.storage.storage import Storage
from pipeline.storage.uris import local_path
from schemas.config.job import JobConfig
from schemas.manifest import ShardReceipt
from schemas.records import (
    ErrorCode,
    Failure,
    ImageRecord,
    Sample,
    Segmentation,
    Task,
    annotation_id,
)
from schemas.rows import AnnotationRow, ImageRow, LabelledRows, Origin, PromptOutcome

from .devices.compile_choice import CompileChoice, compile_choice, compile_folder
from .devices.watch import DeviceWatch
from .prepare import Prepared, Preparer, ReusedRows, ShardWork, WorkerSpec, one_line
from .splits import split_of
from .summary import PhaseClock

_log = logging.getLogger(__name__)
BATCHES = 4
"""Batches that a window of pictures holds, if all are of one shape."""
WINDOW_BYTES = 1 << 28
"""Pixels of a window, at most and by one picture more."""


@dataclass(frozen=True, slots=True)
class Labelled:
    """What came of one image.

    Attributes:
        item: The image on its way to the model.
        image: Its row.
        segments: Its annotation rows.
        reused: Whether its labels were there already.
    """

    item: Prepared
    image: ImageRow
    segments: list[AnnotationRow]
    reused: bool = False


class ShardWorker:
    """Holds a loaded model and does whole shards.

    Raises:
        ModelLoadError: The model cannot be loaded.
    """

    def __init__(self, spec: WorkerSpec, index: ReuseIndex = EMPTY_INDEX) -> None:
        self.spec = spec
        self.preparer = Preparer(spec, index)
        self._storage = Storage(spec.config.storage)
        self._background = frozenset(c.id for c in spec.info.categories if c.is_background)
        self._origin: Origin = {
            "model": spec.info.name,
            "model_revision": spec.info.revision,
            "run": spec.run,
        }
        config, categories = spec.config, spec.info.categories
        self._refiner = Refiner(config.model, config.refine, categories, spec.tasks)
        self._categories = categories.by_id()
        self._wording = spec.wording
        self._split = config.split if config.split.active else None
        self._window = BATCHES * spec.config.model.batch_size
        self._maker = (
            CopyMaker(config.augment, self._storage, spec.dataset, self._background)
            if config.augment.copies
            else None
        )
        self._device = DeviceWatch()
        self._clock = PhaseClock()
        self._model = load_model(config, spec.info, spec.tasks, spec.device)
        self._undecided = config.model.compile == "auto" and spec.device.startswith("cuda")
        self._told = ""
        self._meter = GpuMeter(spec.device) if spec.device.startswith("cuda") else None

    def run(self, work: ShardWork, prepared: Iterable[Prepared]) -> ShardReceipt:
        """Labels a shard and writes its part and its receipt.

        Args:
            work: The shard.
            prepared: Its images but the poison, in order.

        Raises:
            StorageError: The output cannot be written.
            DeviceLostError: This process cannot compute any more.
        """
        started, retries = time.monotonic(), Storage.retries()
        self._clock = PhaseClock()
        reused = doubtful = 0
        arriving = self._labelled(prepared)
        images: list[ImageRow] = []
        annotations: list[AnnotationRow] = []
        with ExitStack() as stack:
            queue = None
            if self._maker is not None:
                queue = CopyQueue(self.spec.config, self.preparer.original, self._maker)
                stack.enter_context(queue)
            for record in work.records:
                if record.file_name in work.poison:
                    message = "the worker process died on this image each time it was tried"
                    failure = Failure(ErrorCode.CRASHED, message)
                    row = image_row(record, failure=failure)
                    found = Labelled(Prepared(record, failure), row, [])
                else:
                    found = next(arriving)
                code, sha256, split = found.image["error_code"], found.image["sha256"], None
                if self._split is not None and sha256 and not code:
                    split = split_of(self._split, record.file_name, sha256)
                image: ImageRow = {**found.image, "split": split}
                if queue is None:
                    images.append(image)
                    annotations += found.segments
                else:
                    queue.add(record, image, found.segments, found.item.original)
                reused += found.reused
                doubtful += code is not None and _doubtful(record, code)
                del found  # or its pixels live until the next is there
            if queue is not None:
                images, annotations = queue.rows()
        part = write_part(
            self._storage,
            self.spec.dataset,
            shard=work.shard,
            run=self._wording,
            images=images,
            annotations=annotations,
            background=self._background,
            tasks=self.spec.tasks,
        )
        seconds = time.monotonic() - started
        use = self._meter.take() if self._meter is not None else None
        receipt = ShardReceipt(
            shard=work.shard,
            token=work.token,
            run=self.spec.run,
            part=part,
            computed=len(work.records) - reused,
            reused=reused,
            seconds=round(seconds, 3),
            once_more=0 if work.second else doubtful,
            retries=Storage.retries() - retries,
            busy=round(self._clock.seconds.get("model", 0.0), 3),
            waited=round(self._clock.seconds.get("pictures", 0.0), 3),
            gpu=None if use is None else round(use.busy * seconds, 3),
            memory=0.0 if use is None else round(use.memory, 4),
            told=self._told,
        )
        self._told = ""
        write_receipt(self._storage, self.spec.dataset, receipt)
        return receipt

    def probe(self, prepared: Iterable[Prepared]) -> None:
        """Does everything but write: to find the image that kills the process."""
        for _ in self._labelled(prepared):
            pass

    def close(self) -> None:
        """Frees the model."""
        if self._meter is not None:
            self._meter.close()
        self._model.close()

    def _labelled(self, prepared: Iterable[Prepared]) -> Iterator[Labelled]:
        """Every image in order.

        Pictures go to the model in windows of a few batches, so that those of one shape meet in
        it; cut by position, and where large pictures fill the memory.
        """
        window: list[Prepared] = []
        held = 0
        arriving = iter(prepared)
        while True:
            with self._clock.phase("pictures"):
                item = next(arriving, None)
            if item is None:
                break
            window.append(item)
            held += _held(item)
            del item  # or its pixels live until the next is there
            if len(window) == self._window or held >= WINDOW_BYTES:
                yield from self._finish(window)
                window, held = [], 0
        yield from self._finish(window)

    def _finish(self, window: Sequence[Prepared]) -> Iterator[Labelled]:
        samples = [item.outcome for item in window if isinstance(item.outcome, Sample)]
        if self._undecided and samples:
            self._decide(samples)
        results = iter(self._segment(samples))
        for item in window:
            match item.outcome:
                case ReusedRows(image, segments):
                    yield Labelled(item, *self._renamed(item.record, image, segments), True)
                case Failure() as failure:
                    yield Labelled(item, self._failed(item, failure), [])
                case Sample() as sample:
                    yield Labelled(item, *self._rows(item, sample, next(results)))

    def _renamed(
        self, record: ImageRecord, image: ImageRow, segments: list[AnnotationRow]
    ) -> LabelledRows:
        """Standing rows under the image's present name and id, and the model's present name."""
        image_id = record.image_id
        renamed: list[AnnotationRow] = []
        for row in segments:
            number = annotation_id(image_id, row["segment_id"])
            own: AnnotationRow = {**row, "image_id": image_id, "annotation_id": number}
            # What a person said stays a person's.
            renamed.append(own if own.get("locked") else {**own, **self._origin})
        return {**image, "image_id": image_id, "file_name": record.file_name}, renamed

    def _rows(self, item: Prepared, sample: Sample, found: Segmentation) -> LabelledRows:
        if found.failure is not None:
            return self._failed(item, found.failure), []
        if (found.height, found.width) != sample.picture_hw:
            message = (
                f"the model gave masks of {found.height} × {found.width} for a picture of "
                f"{sample.picture_hw[0]} × {sample.picture_hw[1]} pixels"
            )
            return self._failed(item, Failure(ErrorCode.MODEL_ERROR, message)), []
        try:
            segments = annotation_rows(
                item.record.image_id,
                found,
                categories=self._categories,
                origin=self._origin,
                tasks=self.spec.tasks,
            )
        except TooManySegmentsError as error:
            failure = Failure(ErrorCode.TOO_MANY_SEGMENTS, str(error))
            return self._failed(item, failure), []
        except ValueError as error:
            return self._failed(item, Failure(ErrorCode.MODEL_ERROR, one_line(error))), []
        note, asked = sample.note, list[PromptOutcome]()
        if sample.prompts:
            asked = prompt_rows(sample.prompts, found.segments, *sample.picture_hw)
            note = "; ".join(filter(None, (note, outcome_note(asked))))
        image = image_row(
            item.record,
            segments=segments,
            background=self._background,
            original_hw=sample.picture_hw,
            image_format=sample.image_format,
            orientation=sample.orientation,
            note=note,
            size_bytes=item.size_bytes,
            sha256=item.sha256,
            fingerprint=item.fingerprint,
            prompts=asked,
        )
        return image, segments

    @staticmethod
    def _failed(item: Prepared, failure: Failure) -> ImageRow:
        doubtful = failure.temporary or _doubtful(item.record, failure.code)
        keep = failure.code not in RETRYABLE and not doubtful
        hw = item.outcome.picture_hw if isinstance(item.outcome, Sample) else None
        return image_row(
            item.record,
            failure=failure,
            original_hw=hw,
            size_bytes=item.size_bytes,
            sha256=item.sha256,
            fingerprint=item.fingerprint if keep else "",
        )

    def _decide(self, samples: Sequence[Sample]) -> None:
        """Whether the model is compiled (`model.compile = "auto"`), before it labels anything."""
        spec, config = self.spec, self.spec.config
        folder = compile_folder(config.execution.compile_cache, spec.info.weights_sha256)
        choice = CompileChoice(self._storage, compile_choice(spec.dataset, spec.run))
        compiled = choice.settle(
            lambda: self._model.segment(samples),
            pictures=len(samples),
            images=spec.images,
            warm=folder is not None and any(folder.glob("inductor/*")),
        )
        self._undecided, self._told = compiled is None, choice.told
        if compiled:
            self._model.close()
            model = config.model.model_copy(update={"compile": True})
            config = config.model_copy(update={"model": model})
            self._model = load_model(config, spec.info, spec.tasks, spec.device)

    def _segment(self, samples: Sequence[Sample]) -> list[Segmentation]:
        """The model's answer; a batch that fails is tried picture by picture.

        Raises:
            DeviceLostError: This process cannot compute any more.
        """
        if not samples:
            return []
        try:
            with self._clock.phase("model"):
                found = self._model.segment(samples)
            self._device.succeeded()
            if len(found) != len(samples):
                raise ValueError(f"the model answered {len(found)} of {len(samples)} pictures")
            found = [
                to_original(answer, sample.placement) if sample.placement else answer
                for sample, answer in zip(samples, found, strict=True)
            ]
            return [self._refiner.refine(one) for one in found] if self._refiner.active else found
        except Exception as error:
            self._device.failed(error, alone=len(samples) == 1)
            if len(samples) > 1:
                return [one for sample in samples for one in self._segment([sample])]
            _log.debug("%s", samples[0].record.file_name, exc_info=True)
            failure = Failure(ErrorCode.MODEL_ERROR, one_line(error))
            if isinstance(
                error, UndecodableError
            ):  # a tile of a slide, decoded when it is its turn
                failure = Failure(error.code, str(error), temporary=error.temporary)
            return [Segmentation(*samples[0].picture_hw, failure=failure)]


def _doubtful(record: ImageRecord, code: str | None) -> bool:
    """Whether a failure may be the store's: it may have sent a body cut short or damaged."""
    damaged = code in (ErrorCode.TRUNCATED, ErrorCode.DECODE_ERROR)
    return damaged and local_path(record.uri) is None


def _held(item: Prepared) -> int:
    """Bytes of pixels."""
    arrays = [item.outcome.pixels] if isinstance(item.outcome, Sample) else []
    if isinstance(item.original, np.ndarray) and not any(item.original is one for one in arrays):
        arrays.append(item.original)
    return sum(array.nbytes for array in arrays)


def load_model(
    config: JobConfig, info: ModelInfo, tasks: tuple[Task, ...], device: str
) -> Segmenter:
    """The model of a job, ready to segment; in tiles where the job asks for them.

    Raises:
        ModelLoadError: It cannot be loaded.
    """
    try:
        if folder := compile_folder(config.execution.compile_cache, info.weights_sha256):
            os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
            os.environ["TRITON_CACHE_DIR"] = str(folder / "triton")
        info = on_this_node(info, allow_pickle=config.model.allow_pickle)
        options = loosest_limits(config.model, config.refine)
        if options.compile == "auto":
            options = options.model_copy(update={"compile": False})
        model: Segmenter = segmenter_class(info.family)(info, options, tasks)
        model.load(device)
        if config.tiling.size:
            from pipeline.models.tiling.tiled import Tiled  # torch; the driver imports this file

            model = Tiled(model, info, tasks, options=options, tiling=config.tiling)
    except Exception as error:
        raise ModelLoadError(
            f"model {info.name!r} of {info.folder} cannot be loaded on {device}: {one_line(error)}"
        ) from error
    return model
