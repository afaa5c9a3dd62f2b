"""Writes the report of a dataset: index.html and, beside it, what it loads when asked."""

from __future__ import annotations

import json
import logging
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.copy_rows import is_copy
from pipeline.ledger import Ledger, rows_by_image
from pipeline.storage import StorageError, absolute_uri, join
from schemas.config import ImagesConfig
from schemas.records import ImageRecord, Task

from .embed import data_script
from .originals import Read, find_originals, read_or_none
from .page import build_page
from .picture import Picture, render
from .selection import Selection
from .shelf import CHUNK, Shelf
from .tally import ANNOTATION_COLUMNS, IMAGE_COLUMNS, Tally

_IN_FLIGHT = 64

_log = logging.getLogger(__name__)


def write_report(
    ledger: Ledger,
    out: str,
    *,
    task: Task | None = None,
    max_images: int = 2000,
    read: Read | None = None,
    progress: Callable[[int, int], None] | None = None,
    threads: int = 4,
) -> str:
    """Writes a self-contained HTML report.

    Counts and histograms cover every image; at most `max_images` labelled ones, evenly chosen, are
    shown as pictures, plus up to 1,000 that failed. The same dataset gives the same bytes.

    Args:
        ledger: The dataset.
        out: Folder (URI) to write index.html, data/ and full/ into.
        task: Which labels of a dataset of several tasks to show; None = panoptic, else instance.
        max_images: Pictures to show.
        read: How to get an image's bytes from a record that holds its file name and id alone;
            None finds the pictures again through the dataset's own input settings.
        progress: Called with pictures done and pictures in all.
        threads: That read, decode and draw.

    Returns:
        URI of index.html.

    Raises:
        StorageError: The report cannot be written.
        ValueError: A file of the dataset is damaged, or it does not hold the task.
    """
    out = absolute_uri(out)
    whole = ledger.manifest
    ledger = ledger.view(task or _most_telling(whole.tasks))
    tally, selection = _survey(ledger, max_images)
    if read is None:
        records, read = find_originals(ledger, selection.originals)
    else:
        records = {
            name: ImageRecord(file_name=name, uri="", image_id=image_id)
            for name, image_id in selection.chosen.items()
        }
    shelf = Shelf(ledger.storage, out)
    with ThreadPoolExecutor(threads, thread_name_prefix="report") as pool:
        for done, picture in enumerate(_pictures(ledger, selection, records, read, out, pool), 1):
            shelf.add(picture)
            if progress:
                progress(done, len(selection.chosen))
    shelf.finish()
    page = build_page(
        ledger.manifest,
        whole=whole,
        tally=tally,
        selection=selection,
        entries=shelf.entries,
        thumbs=shelf.embedded,
        chunk=CHUNK,
        missing=shelf.missing,
        evaluation=_beside(ledger, out, "evaluation.json"),
        measurements=_beside(ledger, out, "measurements.json"),
    )
    index = join(out, "index.html")
    ours = ledger.storage.exists(index)
    ledger.storage.write(index, page.encode("utf-8", errors="replace"))
    if ours:
        shelf.sweep()
    return index


def _most_telling(tasks: Sequence[Task]) -> Task:
    """What a person wants to see first: panoptic, else instances."""
    return next(task for task in ("panoptic", "instance", "semantic") if task in tasks)


def _survey(ledger: Ledger, max_images: int) -> tuple[Tally, Selection]:
    counts = ledger.manifest.counts
    tally = Tally(ledger.categories)
    selection = Selection(
        labelled=counts["ok"] + counts["empty"],
        max_images=max_images,
        error_counts=ledger.manifest.error_counts,
    )
    for images, segments in zip(
        ledger.images(IMAGE_COLUMNS), ledger.annotations(ANNOTATION_COLUMNS), strict=True
    ):
        tally.add(images, segments)
        selection.add(images)
    return tally, selection


def _pictures(
    ledger: Ledger,
    selection: Selection,
    records: dict[str, ImageRecord],
    read: Read,
    out: str,
    pool: ThreadPoolExecutor,
) -> Iterator[Picture]:
    """Draws the chosen images in input order; a bounded number is under way."""
    wanted = np.fromiter(selection.chosen.values(), np.int64)
    places = {item.id: place for place, item in enumerate(ledger.categories)}
    background = frozenset(item.id for item in ledger.categories if item.is_background)
    config = ImagesConfig.model_validate(ledger.manifest.config.get("images", {}))

    def own(record: ImageRecord) -> bytes:
        return ledger.storage.read(join(ledger.uri, record.file_name))

    def work(row: dict[str, Any], segments: list[dict[str, Any]]) -> Picture:
        record = records.get(row["file_name"])
        if is_copy(row):
            record = ImageRecord(row["file_name"], "", image_id=row["image_id"])
        picture = render(
            row,
            segments,
            places=places,
            background=background,
            record=record,
            data=read_or_none(own if is_copy(row) else read, record),
            config=config,
        )
        full = join(out, "full", str(row["image_id"]))
        if picture.jpeg is not None:
            ledger.storage.write(f"{full}.jpg", picture.jpeg)
        ledger.storage.write(f"{full}.js", data_script(f"full/{row['image_id']}", picture.full))
        return picture

    if not len(wanted):
        return
    pending: deque[Future[Picture]] = deque()
    for images, segments in zip(ledger.images(), ledger.annotations(), strict=True):
        rows = _only(images, wanted).to_pylist()
        by_image = rows_by_image(_only(segments, wanted)) if rows else {}
        for row in rows:
            pending.append(pool.submit(work, row, by_image.get(row["image_id"], [])))
            while len(pending) > _IN_FLIGHT:
                yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _only(table: pa.Table, image_ids: npt.NDArray[np.int64]) -> pa.Table:
    return table.filter(pa.array(np.isin(table["image_id"].to_numpy(), image_ids)))


def _beside(ledger: Ledger, out: str, name: str) -> Any:
    """Figures that another job left beside the report, if any."""
    for folder in dict.fromkeys((out, join(ledger.uri, "report"))):
        uri = join(folder, name)
        try:
            if ledger.storage.exists(uri):
                return json.loads(ledger.storage.read(uri))
        except (StorageError, ValueError) as error:
            _log.warning("%s is not shown: %s", uri, error)
    return None
