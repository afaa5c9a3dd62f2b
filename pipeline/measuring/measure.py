"""Measuring a dataset: one row an object, one an image and category, and a summary to plot."""

from __future__ import annotations

import json
import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from pipeline.ledger.ledger import Ledger, open_ledger
from pipeline.ledger.parts import read_part
from pipeline.ledger.processes import map_in_order, processors
from pipeline.ledger.removed import without_removed
from pipeline.ledger.views import PARENT, without_copies
from pipeline.storage.errors import StorageError
from pipeline.storage.storage import Storage
from pipeline.storage.uris import absolute_uri, join
from schemas.config.job import ImagesConfig
from schemas.measurements import IMAGES, OBJECTS
from schemas.records import ImageRecord

from .originals import Originals
from .part import MeasuredPart, MeasureSpec, measure_part
from .spreadsheets import rewrite_table, suffix_of
from .summary import summarise
from .tables import TableWriter
from .units import parse_pixel_size

Work = tuple[str, Mapping[str, ImageRecord], npt.NDArray[np.int64]]
"""A part's name, where its pictures lie, and the images that are not of the version."""


def _measure_one(work: Work, *, spec: MeasureSpec) -> MeasuredPart:
    return measure_part(spec, *work)


SUMMARY = "measurements.json"
"""Beside the report of a dataset, which shows it."""

MAX_DISTANCE = 100

_log = logging.getLogger(__name__)


def measure(
    *,
    dataset: str,
    output: str,
    pixel_size: str = "auto",
    intensity: bool = True,
    neighbour_distance: int = 1,
    workers: int = 1,
    save: bool = True,
    storage: Storage | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> dict[str, Any]:
    """Measures every segment of a dataset but those of augmented copies.

    Writes `output` with the schema `schemas.measurements.OBJECTS` and, beside it, the table of
    images: out.parquet and out.images.parquet, or both as .csv or .xlsx. Their bytes do not depend
    on `workers`.

    Args:
        dataset: A dataset of ours.
        output: URI of the file to write, .parquet, .csv or .xlsx.
        pixel_size: "0.5 um" (nm, um, mm, cm, m, km, in), "auto" = from the pictures' files unless
            it is what screens and printers have, "file" = whatever the files say, "none".
        intensity: Measure the original pictures' values inside each segment. Pictures that are
            gone, changed or unreadable give nulls and a note.
        neighbour_distance: Segments with pixels at most so many rows and columns apart are
            neighbours; 1 = touching, 0 = overlapping.
        workers: Processes; 0 = one a processor. A script that asks for more than one must be
            importable (`if __name__ == "__main__":`), as with `multiprocessing`.
        save: Also write the summary to `<dataset>/report/measurements.json`, for the report.
        storage: File access.
        progress: Called with (parts done, parts) after every part.

    Returns:
        The summary: plain data for JSON with the keys dataset, version, settings, counts, notes
        and categories.

    Raises:
        ValueError: Bad arguments, or a damaged dataset.
        StorageError: A file cannot be read or written.
    """
    choice = parse_pixel_size(pixel_size)
    suffix = suffix_of(output)
    if not 0 <= neighbour_distance <= MAX_DISTANCE:
        raise ValueError(f"the neighbour distance must be in 0…{MAX_DISTANCE} pixels")
    if workers < 0:
        raise ValueError(f"workers must be 0 or more, got {workers}")
    storage = storage or Storage()
    ledger = open_ledger(dataset, storage)
    output = absolute_uri(output)
    storage.check_writable(output.rpartition("/")[0] or "/")
    originals = Originals(ledger) if intensity or choice.read != "none" else None
    spec = MeasureSpec(
        storage=storage,
        dataset=ledger.uri,
        reader=originals and originals.reader,
        tasks=ledger.manifest.tasks,
        background=frozenset(item.id for item in ledger.categories if item.is_background),
        intensity=intensity,
        choice=choice,
        images=ImagesConfig.model_validate(ledger.manifest.config.get("images", {})),
        distance=neighbour_distance,
    )
    with tempfile.TemporaryDirectory(prefix="maskmill-measure-") as folder:
        objects = TableWriter(Path(folder) / "objects.parquet", OBJECTS)
        images = TableWriter(Path(folder) / "images.parquet", IMAGES)
        total = len(ledger.manifest.parts)
        work = _work(ledger, originals)
        measured = map_in_order(
            partial(_measure_one, spec=spec),
            work,
            workers=min(workers or processors(), total),
            name="measuring",
        )
        for done, part in enumerate(measured, 1):
            objects.add(part.objects)
            images.add(part.images)
            if progress:
                progress(done, total)
        objects.close()
        images.close()
        summary = summarise(ledger, spec, objects.path, images.path)
        tables = [rewrite_table(table.path, suffix) for table in (images, objects)]
        for path, uri in zip(tables, (images_uri(output), output), strict=True):
            storage.put_file(path, uri)
    if save:
        _save(ledger, summary)
    return summary


def images_uri(output: str) -> str:
    """Where the table of images lies that belongs to the table of objects at `output`."""
    suffix = suffix_of(output)
    return f"{output.removesuffix(suffix)}.images{suffix}"


def _work(ledger: Ledger, originals: Originals | None) -> Iterator[Work]:
    """Every part's name, with where its pictures lie if they are wanted."""
    for part in ledger.manifest.parts:
        removed = ledger.removed_of(part)
        if originals is None:
            yield part.name, {}, removed
            continue
        columns = ["image_id", "file_name", PARENT]
        table = read_part(ledger.storage, ledger.uri, "images", part.name, columns)
        names = without_copies(without_removed(table, removed))["file_name"].to_pylist()
        yield part.name, originals.find(names), removed


def _save(ledger: Ledger, summary: Mapping[str, Any]) -> None:
    text = json.dumps(summary, indent=1, ensure_ascii=False) + "\n"
    uri = join(ledger.uri, "report", SUMMARY)
    try:
        ledger.storage.write(uri, text.encode())
    except StorageError as error:  # a dataset that may only be read can be measured all the same
        _log.warning("the report will not show the measurements: %s", error)
