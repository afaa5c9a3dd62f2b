"""What a night leaves as it stands: parts with a few removed rows, and the images that are due.

Parts are immutable. Where a job allows it (`history.max_removed`), an image that changed or went is
removed from its part by a row of a small table, and what is new goes into a part of its own. A part
that has lost too many rows is dissolved: its images are written anew with those of the night.
"""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

from pipeline.ledger.ledger import Ledger, part_sizes
from pipeline.ledger.part_counts import part_counts
from pipeline.ledger.parts import TABLES
from pipeline.ledger.removed import without_removed
from pipeline.ledger.row_index import PartRows, RowIndex, RowState
from pipeline.ledger.views import parents_of
from schemas.manifest import Part

MARK = "n"
"""Begins the names of parts that a night adds."""
_IMAGE_COLUMNS = ("image_id", "status", "error_code", "note", "prompts", "parent_image_id")
_ANNOTATION_COLUMNS = ("image_id", "category_id", "task")

Ids = npt.NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Night:
    """What stays of the standing version, and what is due.

    Attributes:
        kept: Its parts that stay, counted without their removed rows.
        places: Of each of them, the listing's row of its first image.
        removed: Part → ids of the images that the next version does not have in it.
        known: Part → what is known of the images that stay in it.
        due: Rows of the listing that are written anew, ascending.
        doubtful: Which of them are looked at once more: a store may have sent damaged bytes.
    """

    kept: tuple[Part, ...]
    places: tuple[int, ...]
    removed: Mapping[str, Ids]
    known: Mapping[str, PartRows]
    due: Ids
    doubtful: npt.NDArray[np.bool_]


def plan_night(
    standing: Ledger,
    index: RowIndex,
    image_ids: Ids,
    keys: npt.NDArray[np.uint64],
    *,
    max_removed: float,
    mean_size: int,
    retry_failed: bool,
) -> Night | None:
    """Decides for each image of the listing whether its row stays where it is.

    It follows from the standing version, the index and the listing alone: whoever is killed and
    begins again plans the same.

    Args:
        standing: The current version, labelled by the same config.
        index: Of that config.
        image_ids: Of the listing.
        keys: Its `listing_keys`.
        max_removed: Share of a part's rows that may be removed.
        mean_size: Images a part, about.
        retry_failed: Images are due of which another try may come out otherwise.

    Returns:
        None where so much is due that all parts are better cut anew.

    Raises:
        StorageError: A part of the standing version cannot be read.
        ValueError: It is damaged.
    """
    parts = _whole_parts(standing, index)
    number = {part.name: at for at, part in enumerate(parts)}
    owner, states = index.find(image_ids, keys)
    here = np.array([number.get(name, -1) for name in index.names] + [-1])
    own = here[owner]
    doubtful = (owner >= 0) & (states == RowState.DOUBTFUL)
    own[doubtful] = -1
    if retry_failed:
        own[states == RowState.FAILED_FOR_NOW] = -1
    live = np.bincount(own[own >= 0], minlength=len(parts))
    stays = _stays(parts, live, max_removed)
    if (own < 0).any():  # something is written: short parts of earlier nights go along
        stays &= [
            not part.name.startswith(MARK) or count >= mean_size // 2
            for part, count in zip(parts, live.tolist(), strict=True)
        ]
    own[~np.append(stays, False)[own]] = -1
    due = np.flatnonzero(own < 0)
    if 2 * len(due) > len(image_ids):
        return None
    return _with_counts(standing, index, parts, stays, own, image_ids, due, doubtful[due])


def _whole_parts(standing: Ledger, index: RowIndex) -> list[Part]:
    """The parts whose files are there and of whose images all is known."""
    sizes = part_sizes(standing.storage, standing.uri)
    found: list[Part] = []
    for part in standing.manifest.parts:
        rows = index.parts.get(part.name)
        files = [sizes[table].get(part.name, -1) for table in TABLES]
        if rows is None or sum(files) != part.size or min(files) < 0:
            continue
        known = np.isin(rows.image_ids, standing.removed_of(part), invert=True)
        if int(known.sum()) == part.images - part.copies:
            found.append(part)
    return found


def _stays(parts: list[Part], live: npt.NDArray[np.int64], most: float) -> npt.NDArray[np.bool_]:
    """Which parts have lost few enough of the rows that were written into them."""
    stays = np.zeros(len(parts), np.bool_)
    for at, part in enumerate(parts):
        inputs = part.images - part.copies
        rows = live[at] * part.images / max(inputs, 1)  # an image's copies go with it
        stays[at] = live[at] > 0 and part.images + part.removed - rows <= most * (
            part.images + part.removed
        )
    return stays


def _with_counts(
    standing: Ledger,
    index: RowIndex,
    parts: list[Part],
    stays: npt.NDArray[np.bool_],
    own: Ids,
    image_ids: Ids,
    due: Ids,
    doubtful: npt.NDArray[np.bool_],
) -> Night:
    order = np.argsort(own, kind="stable")
    borders = np.searchsorted(own[order], np.arange(len(parts) + 1))
    kept = [
        (parts[at], order[borders[at] : borders[at + 1]]) for at in np.flatnonzero(stays).tolist()
    ]

    def settle(item: tuple[Part, Ids]) -> tuple[Part, Ids, PartRows]:
        part, rows = item
        known = index.parts[part.name]
        there = np.isin(known.image_ids, image_ids[rows])
        before = standing.removed_of(part)
        gone = np.setdiff1d(known.image_ids[~there], before)
        if not len(gone):
            return part, before, known.only(there)
        return *_recounted(standing, part, gone), known.only(there)

    with ThreadPoolExecutor(16) as pool:
        settled = list(pool.map(settle, kept))
    return Night(
        kept=tuple(part for part, _, _ in settled),
        places=tuple(int(rows[0]) for _, rows in kept),
        removed={part.name: gone for part, gone, _ in settled if len(gone)},
        known={part.name: rows for part, _, rows in settled},
        due=due,
        doubtful=doubtful,
    )


def _recounted(standing: Ledger, part: Part, gone: Ids) -> tuple[Part, Ids]:
    """A part without some more of its images and their copies; and all ids it is without now."""
    images = standing.images_of(part, _IMAGE_COLUMNS)
    parents = parents_of(images).to_numpy(zero_copy_only=False)
    ids = images["image_id"].to_numpy()
    gone = ids[np.isin(ids, gone) | np.isin(parents, gone)]
    images = without_removed(images, gone)
    annotations = without_removed(standing.annotations_of(part, _ANNOTATION_COLUMNS), gone)
    removed = np.union1d(standing.removed_of(part), gone)
    counts = part_counts(
        images.to_pylist(),
        annotations.to_pylist(),
        background=frozenset(item.id for item in standing.categories if item.is_background),
        tasks=standing.manifest.tasks,
    )
    return replace(part, removed=len(removed), **counts), removed
