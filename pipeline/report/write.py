"""Writes the report of a dataset: index.html and, beside it, what it loads when asked."""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt
import pyarrow as pa

from pipeline.ledger.containers import read_containers
from pipeline.ledger.ledger import Ledger
from pipeline.ledger.parts import rows_by_image
from pipeline.ledger.views import is_copy
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.swap import current_folder, rebuilt
from pipeline.storage.uris import absolute_uri, join, local_path
from schemas.config.job import ImagesConfig
from schemas.containers import Container
from schemas.manifest import DatasetManifest
from schemas.names import below
from schemas.records import ImageRecord, Task
from schemas.rows import AnnotationRow, ImageRow

from .escape import data_script, script_json
from .page import build_page
from .pictures import Read, ShownImage, find_originals, read_or_none, render
from .survey import ANNOTATION_COLUMNS, IMAGE_COLUMNS, Selection, Tally

# What a report consists of besides its page: rows, thumbnails in chunks, side files.

CHUNK = 24
"""Thumbnails a side file."""
EMBED_BYTES = 4_000_000
"""Thumbnails inside index.html, so that it is of use without its side files."""
_OURS = re.compile(r"^(full/\d+\.(jpg|js)|data/thumbs-\d{4,}\.js)$")


@dataclass(slots=True)
class Shelf:
    """Collects drawn pictures: rows in memory, thumbnails into the page, then into side files.

    Attributes:
        storage: File access.
        out: Folder of the report.
        entries: The gallery's rows.
        embedded: Leading chunks of thumbnails, script-safe JSON.
        missing: Pictures that were gone.
        files: Names of the side files, relative to `out`.
    """

    storage: Storage
    out: str
    entries: list[list[Any]] = field(default_factory=list)
    embedded: list[str] = field(default_factory=list)
    missing: int = 0
    files: set[str] = field(default_factory=set)
    _chunk: list[dict[str, Any]] = field(default_factory=list)
    _bytes: int = 0
    _chunks: int = 0

    def add(self, picture: ShownImage) -> None:
        """Takes the next picture in input order; its own files are already written."""
        self.entries.append(picture.entry)
        self.files.add(f"full/{picture.entry[0]}.js")
        if picture.jpeg is None:
            self.missing += 1
        else:
            self.files.add(f"full/{picture.entry[0]}.jpg")
        self._chunk.append(picture.thumb)
        if len(self._chunk) == CHUNK:
            self.finish()

    def finish(self) -> None:
        """Puts away the thumbnails that wait, as a chunk."""
        if not self._chunk:
            return
        text = script_json(self._chunk)
        # Only a leading run of chunks is embedded: the page knows them by their number.
        if len(self.embedded) == self._chunks and (
            not self._chunks or self._bytes + len(text) <= EMBED_BYTES
        ):
            self.embedded.append(text)
            self._bytes += len(text)
        else:
            name = f"data/thumbs-{self._chunks:04d}.js"
            data = data_script(f"thumbs/{self._chunks}", self._chunk)
            self.storage.write(join(self.out, name), data)
            self.files.add(name)
        self._chunks += 1
        self._chunk = []

    def sweep(self) -> None:
        """Removes what an earlier report wrote beside its page and this one did not."""
        for folder in ("data", "full"):
            if not self.storage.is_dir(join(self.out, folder)):
                continue
            stale = [
                entry.uri
                for entry in self.storage.list(join(self.out, folder), recursive=False)
                if _OURS.match(name := f"{folder}/{entry.path}") and name not in self.files
            ]
            for uri in stale:
                self.storage.remove(uri)


_IN_FLIGHT = 64
_FOLDERS = ("data", "full")

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
    stamp: bytes | None = None,
) -> str:
    """Writes a self-contained HTML report; its folder is replaced as a whole (`storage.swap`).

    Counts and histograms cover every image; at most `max_images` labelled ones, a random sample,
    are shown as pictures, plus up to 1,000 that failed. The same dataset gives the same bytes.

    Args:
        ledger: The dataset.
        out: Folder (URI) to write index.html, data/ and full/ into.
        task: Which labels of a dataset of several tasks to show; None = panoptic, else instance.
        max_images: Pictures to show.
        read: How to get an image's bytes from a record that holds its file name and id alone;
            None finds the pictures again through the dataset's own input settings.
        progress: Called with pictures done and pictures in all.
        threads: That read, decode and draw.
        stamp: Contents of report.json, which says what the report shows.

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
    digest = hashlib.sha256(f"{max_images} {task} {whole.to_json()}".encode()).hexdigest()
    version = f"{whole.version:06d}-{digest[:12]}"
    with rebuilt(ledger.storage, out, version=version, ours=_FOLDERS) as place:
        _fill(
            ledger,
            place.uri,
            whole=whole,
            tally=tally,
            selection=selection,
            records=records,
            read=read,
            progress=progress,
            threads=threads,
        )
        if stamp is not None:
            ledger.storage.write(join(place.uri, "report.json"), stamp)
    if local_path(out) is None:
        _remove_unversioned(ledger.storage, out)
    return join(current_folder(ledger.storage, out), "index.html")


def _remove_unversioned(storage: Storage, out: str) -> None:
    """What an earlier program wrote beside the prefixes, where it would be taken for current."""
    for name in ("index.html", "report.json"):
        storage.remove(join(out, name))
    Shelf(storage, out).sweep()


def _fill(
    ledger: Ledger,
    out: str,
    *,
    whole: DatasetManifest,
    tally: Tally,
    selection: Selection,
    records: dict[str, ImageRecord],
    read: Read,
    progress: Callable[[int, int], None] | None,
    threads: int,
) -> None:
    """Writes page and pictures into a folder that may hold those of an earlier report."""
    shelf, total = Shelf(ledger.storage, out), len(selection.chosen)
    with ThreadPoolExecutor(threads, thread_name_prefix="report") as pool:
        for done, picture in enumerate(_pictures(ledger, selection, records, read, out, pool), 1):
            shelf.add(picture)
            if progress:
                progress(done, total)
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
        containers=_faulty(ledger),
    )
    index = join(out, "index.html")
    ours = ledger.storage.exists(index)
    ledger.storage.write(index, page.encode("utf-8", errors="replace"))
    if ours:
        shelf.sweep()


def _faulty(ledger: Ledger) -> list[Container]:
    """Containers that could not be read whole; none where their table is gone."""
    if not ledger.manifest.faulty_containers:
        return []
    try:
        rows = read_containers(ledger.storage, ledger.uri, ledger.manifest)
    except (StorageError, ValueError) as error:
        _log.warning("the report shows no containers: %s", error)
        return []
    return [one for one in rows if one.status != "ok"]


def _most_telling(tasks: Sequence[Task]) -> Task:
    """What a person wants to see first: panoptic, else instances."""
    return next(task for task in ("panoptic", "instance", "semantic") if task in tasks)


def _survey(ledger: Ledger, max_images: int) -> tuple[Tally, Selection]:
    tally = Tally(ledger.categories)
    selection = Selection(max_images=max_images, error_counts=ledger.manifest.error_counts)
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
) -> Iterator[ShownImage]:
    """Draws the chosen images in input order; a bounded number is under way."""
    wanted = np.fromiter(selection.chosen.values(), np.int64)
    places = {item.id: place for place, item in enumerate(ledger.categories)}
    background = frozenset(item.id for item in ledger.categories if item.is_background)
    config = ImagesConfig.model_validate(ledger.manifest.config.get("images", {}))

    def own(record: ImageRecord) -> bytes:
        return ledger.storage.read(below(ledger.uri, record.file_name))

    def work(row: ImageRow, segments: list[AnnotationRow]) -> ShownImage:
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
            _put(ledger.storage, f"{full}.jpg", picture.jpeg)
        _put(ledger.storage, f"{full}.js", data_script(f"full/{row['image_id']}", picture.full))
        return picture

    if not len(wanted):
        return
    pending: deque[Future[ShownImage]] = deque()
    for images, segments in zip(ledger.images(), ledger.annotations(), strict=True):
        rows = _only(images, wanted).to_pylist()
        by_image = rows_by_image(_only(segments, wanted)) if rows else {}
        for row in rows:
            pending.append(pool.submit(work, row, by_image.get(row["image_id"], [])))
            while len(pending) > _IN_FLIGHT:
                yield pending.popleft().result()
    while pending:
        yield pending.popleft().result()


def _put(storage: Storage, uri: str, data: bytes) -> None:
    """Writes a file, but one that lies there with these bytes: the report before had it too."""
    if local_path(uri) is None or not storage.exists(uri) or storage.read(uri) != data:
        storage.write(uri, data)


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
